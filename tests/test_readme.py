"""The README's code and commands, as they stand there."""

import contextlib
import io
import itertools
import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import run_command

from mnist_vg import Run, Scenario
from mnist_vg.sweeps.sweep import Sweep, parse_axes

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [content for found, content in fenced if found == language]


@pytest.fixture
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(code):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    return printed.getvalue()


def test_the_library_in_five_lines(in_tmp_path):
    [code] = [block for block in blocks("python") if "import Model" in block]
    assert "(4, 12)" in run(code)
    assert (in_tmp_path / "logdir" / "tanh" / "run.json").exists()


def test_the_logger_in_a_plain_fit(in_tmp_path):
    [code] = [block for block in blocks("python") if "GradientLogger" in block]
    run(code)
    history = Run.load(in_tmp_path / "logdir" / "my_run").history
    assert history["step"].tolist() == list(range(0, 1875, 200))
    assert history["gradient_mean_abs"].shape == (10, 6)


COMMANDS = [
    shlex.split(line)[1:]
    for block in blocks("sh")
    for line in block.splitlines()
    if line.startswith(".venv/bin/mnist-vg")
]


@pytest.fixture(scope="module")
def one_folder(logdir, tmp_path_factory):
    """Where `make train` has been."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(logdir, folder / "logdir")
    return folder


LEFT_OUT = ("fashion_mnist", "cure", "mirrored", "depth_and_scale", "logdir/depth_and_scale")


def test_the_sweep_is_of_as_many_networks_as_it_says():
    [command] = [arguments for arguments in COMMANDS if arguments[0] == "sweep"]
    given = dict(itertools.pairwise(command))
    vary = [value for flag, value in itertools.pairwise(command) if flag == "--vary"]
    sweep = Sweep(command[1], Scenario(), parse_axes(vary), int(given["--seeds"]))
    assert f"These are {len(sweep.scenarios)} networks." in README


@pytest.mark.parametrize(
    "arguments", [c for c in COMMANDS if not set(LEFT_OUT) & set(c)], ids=" ".join
)
def test_the_commands_run_one_after_another(one_folder, arguments):
    """With fewer iterations.

    The data set that wants a network is left out, and so is `cure`: it takes half a minute,
    and test_cure.py does it on digits. test_distributed.py has the strategies. `diagnose`
    tells of the sick one by its exit code.
    """
    few = ["--iterations", "20"] if arguments[0] == "train" and "--help" not in arguments else []
    done = run_command(*arguments, *few, cwd=one_folder)
    assert done.returncode == (1 if arguments[0] == "diagnose" else 0), done.stderr
    assert done.stderr == ""


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"`make ([\w-]+)`", README)) | set(
        re.findall(r"^make ([\w-]+)$", README, re.MULTILINE)
    )
    assert named >= {"train", "board", "test", "lint", "bench", "experiments"}
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_table_is_one_that_make_train_prints(logdir):
    """Its scenarios, headings and verdicts; seconds and last digits differ by machine."""
    printed = (logdir.parent / "printed.txt").read_text()
    [table] = [block for block in blocks("") if "Which network could learn?" in block]
    for name, could, verdict in [
        ("sigmoid", "no", "vanishing gradients"),
        ("relu", "yes", "healthy"),
        ("leaky_relu", "yes", "healthy"),
    ]:
        for text in (table, printed):
            assert re.search(rf"│ {name} +│ +{could} │.*│ {verdict} +│$", text, re.MULTILINE)

    def headings(text):
        [line] = [line for line in text.splitlines() if line.startswith("┃ Scenario")]
        return re.split(r"\s*┃\s*", line)

    assert headings(table) == headings(printed)
