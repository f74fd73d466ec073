"""What the test files share: a quiet TensorFlow, the command line, and trained runs."""

import contextlib
import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

from mnist_vg import datasets
from mnist_vg.cli import cli

COMMAND = [sys.executable, "-m", "mnist_vg"]
PROCESS = {"text": True, "env": dict(os.environ)}
"""Options of processes that run the command."""


def run_command(*arguments, **options):
    """Run `mnist-vg` in a new process; return what it printed and its exit code."""
    options = {**PROCESS, "capture_output": True, "check": False, **options}
    return subprocess.run([*COMMAND, *map(str, arguments)], **options)


def call_command(*arguments):
    """The same in this process, which has TensorFlow already; its exit code."""
    return cli.main([*map(str, arguments)], prog_name="mnist-vg", standalone_mode=False) or 0


@contextlib.contextmanager
def without_xla():
    """Train without XLA, which takes seconds to compile even what then trains for a few steps."""
    from mnist_vg.training.trainer import Trainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "jit_compile", False)
        yield


def assert_refused(done, *words, code=2):
    """Check for a single line on standard error, with these words, and for the exit code."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("mnist-vg: ")
    for word in words:
        assert word in line


SLOWEST = (
    "test_callback",
    "logdir",
    "test_smoke",
    "test_training",
    "test_resume",
    "test_suites",
    "test_replicas",
    "test_distributed",
    "test_examples",
    "test_sweeps",
    "test_cluster",
    "test_datasets",
    "test_recorder",
    "test_cure",
)
"""Groups of tests, the slowest first."""


@pytest.hookimpl(tryfirst=True)  # Before xdist asks for the groups.
def pytest_collection_modifyitems(items):
    """Group tests for `--dist loadgroup`, the slowest first, so that workers end together.

    A group runs in one worker. Each file is a group, but those that read `logdir` are one
    together, so that it is trained once.
    """
    readers = {item.path for item in items if "logdir" in item.fixturenames}
    place = {name: number for number, name in enumerate(SLOWEST)}
    group = {i: "logdir" if i.path in readers else i.path.stem for i in items}
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group[item]))
    items.sort(key=lambda item: place.get(group[item], len(place)))


@pytest.fixture(scope="session", autouse=True)
def _processes_share_programs(tmp_path_factory):
    """What one process has compiled is not compiled again by the next."""
    folder = tmp_path_factory.mktemp("xla")
    PROCESS["env"]["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={folder}"


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


@pytest.fixture(scope="module")
def shared_programs():
    """For a file whose tests do not ask how programs are made: it compiles each of them once."""
    from mnist_vg.training import programs

    compiled = {}
    compile_anew = programs._compile

    def compile_once(scenario, data_dir, strategy=None):
        kind = scenario.structure(), data_dir, strategy
        if kind not in compiled:
            compiled[kind] = compile_anew(scenario, data_dir, strategy)
        dataset, trainer = compiled[kind]
        programs.restart(trainer, scenario, dataset)
        return dataset, trainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "_compile", compile_once)
        yield
