"""What several test files share: quiet TensorFlow, the trained logdir, the command line."""

import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

from mnist_vg import datasets

COMMAND = [sys.executable, "-m", "mnist_vg"]


def run_command(*arguments, **options):
    """`mnist-vg` in a process of its own; what it printed and its exit code."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


def assert_refused(done, *words, code=2):
    """One clear line on standard error, no traceback, this exit code."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("mnist-vg: ")
    for word in words:
        assert word in line


SLOWEST = (
    "test_suites.py",
    "test_smoke.py",
    "test_callback.py",
    "test_resume.py",
    "test_training.py",
    "test_cure.py",
    "test_distributed.py",
    "test_replicas.py",
    "test_sweeps.py",
    "test_cluster.py",
)


def pytest_collection_modifyitems(items):
    """The slowest files first, so that workers which take a file each end together."""
    items.sort(key=lambda item: item.path.name not in SLOWEST)


@pytest.fixture(scope="session")
def mnist():
    """MNIST, decoded."""
    return datasets.load()


@pytest.fixture(scope="session")
def logdir(tmp_path_factory):
    """The three runs of the tutorial, trained by the command that a user types."""
    folder = tmp_path_factory.mktemp("logs") / "logdir"
    done = run_command("train", "--logdir", folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (folder.parent / "printed.txt").write_text(done.stdout)
    return folder
