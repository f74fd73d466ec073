"""The example scripts, with small settings."""

import subprocess
import sys
from pathlib import Path

import pytest

from mnist_vg import Run

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_an_example_trains_and_leaves_runs(tmp_path, script):
    logdir = tmp_path / "logdir"
    done = subprocess.run(
        [sys.executable, script, "--quick", "--logdir", logdir],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == f"tensorboard --logdir {logdir}"
    runs = [Run.load(folder) for folder in logdir.iterdir()]
    assert runs
    for run in runs:
        assert run.status == "finished"
        assert (run.history["gradient_mean_abs"] > 0).all()
