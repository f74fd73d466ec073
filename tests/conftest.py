"""What the test files share: a quiet TensorFlow, the command line, and trained runs."""

import contextlib
import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import filelock
import pytest

from mnist_vg import GradientLogger, datasets
from mnist_vg.cli import cli
from mnist_vg.diagnosis.symptoms import RISING_LOSS

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
    assert all(line.startswith(("Starting ", "Compiling ")) for line in done.stdout.splitlines())
    [line] = done.stderr.splitlines()
    assert line.startswith("mnist-vg: ")
    for word in words:
        assert word in line


def of_scenarios(symptom):
    """Whether a network that our trainer trains can have a symptom.

    It has a test split, no validation data, schedule or recurrent layer, and each layer has a
    gradient.
    """
    others = {"state", "validation", "rate", "through_time", "same_answer"}
    return not set(symptom.needs) <= others and symptom.name != RISING_LOSS


SLOWEST = (
    "test_smoke.py",
    "test_board.py",  # With `logdir`, that others need not wait for it later.
    "test_gradient_flow.py",
    "test_gradient_flow_compare.py",
    "test_gradient_flow_live.py",
    "test_service.py",
    "test_service_attacks.py",
    "test_service_tab.py",
    "test_callback.py",
    "test_training.py",
    "test_resume.py",
    "test_suites.py",
    "test_distributed.py",
    "test_replicas.py",
    "test_service_cluster.py",
    "test_cluster.py",
    "test_house.py",
    "test_examples.py",
    "test_sweeps.py",
    "test_readme.py",
    "test_cli.py",
    "test_recorder.py",
    "test_datasets.py",
    "test_cure.py",
)


def pytest_collection_modifyitems(items):
    """Run the slowest files first, so that the test workers end at about the same time.

    xdist keeps this order with `--no-loadscope-reorder` alone.
    """
    place = {name: number for number, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(scope="session", autouse=True)
def _processes_share_programs(tmp_path_factory):
    """What one process has compiled is not compiled again by the next."""
    folder = tmp_path_factory.mktemp("xla")
    PROCESS["env"]["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={folder}"


@pytest.fixture(scope="session", autouse=True)
def _fits_are_not_checked():
    """Checks before the first step have tests of their own, which ask for `check=True`."""
    with pytest.MonkeyPatch.context() as patch:
        defaults = GradientLogger.__init__.__kwdefaults__
        patch.setitem(defaults, "check", False)
        yield


@pytest.fixture(scope="session")
def mnist():
    """MNIST, decoded."""
    return datasets.load()


def made_once(tmp_path_factory, name, make):
    """A log folder that is made once for all test workers; what `make` returns lies beside it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    printed = folder / "printed.txt"
    with filelock.FileLock(folder / "lock"):
        if not printed.exists():
            printed.write_text(make(folder / "logdir") or "")
    return folder / "logdir"


@pytest.fixture(scope="session")
def logdir(tmp_path_factory):
    """The tutorial's three runs, trained by `mnist-vg train`."""

    def make(folder):
        done = run_command("train", "--logdir", folder)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    return made_once(tmp_path_factory, "logs", make)


@pytest.fixture(scope="module")
def shared_programs():
    """For a file whose tests do not ask how programs are made: it compiles each of them once."""
    from mnist_vg.training import programs

    compiled = {}
    make_anew = programs._make

    def make_once(scenarios, data_dir, strategy=None):
        structures = dict.fromkeys(scenario.structure() for scenario in scenarios)
        kind = tuple(structures), data_dir, strategy
        if kind not in compiled:
            compiled[kind] = make_anew(scenarios, data_dir, strategy)
        dataset, trainer = compiled[kind]
        programs.restart(scenarios[0], dataset, trainer)
        return dataset, trainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "_make", make_once)
        yield


@pytest.fixture(scope="session")
def flows(tmp_path_factory):
    """A log folder for the tab "Gradient flow"."""
    from flows import write_flows

    return made_once(tmp_path_factory, "flows", write_flows)


@pytest.fixture(scope="session")
def flows_board(flows):
    """The address of a TensorBoard that has read it."""
    from flows import DAMAGED, SOUND
    from servers import serving, wait_for_runs

    with serving(flows) as (address, _):
        wait_for_runs(address, len(SOUND) + len(DAMAGED))
        yield address


@pytest.fixture(scope="session", params=["chromium", "firefox"])
def browser(request, tmp_path_factory):
    """A real browser; tests that ask for it run in each."""
    from browsers import BROWSERS

    with BROWSERS[request.param](tmp_path_factory.mktemp(request.param)) as browser:
        yield browser


@pytest.fixture
def window(browser):
    """A new window of the browser."""
    with browser.window() as window:
        yield window
