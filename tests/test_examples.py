"""The example scripts, with small settings."""

import runpy
import sys
from pathlib import Path

import pytest

from mnist_vg import Run

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_an_example_trains_and_leaves_runs(tmp_path, script, monkeypatch, capsys):
    logdir = tmp_path / "logdir"
    monkeypatch.setattr(sys, "argv", [str(script), "--quick", "--logdir", str(logdir)])
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.splitlines()[-1] == f"mnist-vg board --logdir {logdir}"
    runs = [Run.load(folder) for folder in logdir.iterdir()]
    assert runs
    for run in runs:
        assert run.status == "finished"
        assert (run.history["gradient_mean_abs"] > 0).all()
