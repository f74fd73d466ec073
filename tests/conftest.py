"""What the test files share: a quiet TensorFlow, the command line, and trained runs."""

import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

from mnist_vg import datasets

COMMAND = [sys.executable, "-m", "mnist_vg"]


def run_command(*arguments, **options):
    """Run `mnist-vg` in a new process; return what it printed and its exit code."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


def assert_refused(done, *words, code=2):
    """Check for a single line on standard error, with these words, and for the exit code."""
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
    """Run the slowest files first, so that the test workers end at about the same time."""
    items.sort(key=lambda item: item.path.name not in SLOWEST)


@pytest.fixture(scope="session")
def mnist():
    """MNIST, decoded."""
    return datasets.load()


@pytest.fixture(scope="session")
def logdir(tmp_path_factory):
    """The tutorial's three runs, trained by `mnist-vg train`."""
    folder = tmp_path_factory.mktemp("logs") / "logdir"
    done = run_command("train", "--logdir", folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (folder.parent / "printed.txt").write_text(done.stdout)
    return folder
