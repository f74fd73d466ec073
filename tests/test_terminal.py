"""What a person sees on a terminal: tables and progress that fit, and commands to type next."""

import fcntl
import io
import json
import os
import pty
import random
import re
import shlex
import struct
import subprocess
import sys
import termios
import types

import pytest
from conftest import COMMAND, PROCESS, call_command
from rich.console import Console
from rich.table import Column

from mnist_vg import SUITES, Run, Scenario, UsageError
from mnist_vg.cure import Cure, Trial
from mnist_vg.diagnosis.diagnosis import diagnose_runs
from mnist_vg.report import Display, comparison_table, cure_table, diagnosis_table, scenario_table
from mnist_vg.report.table import Table
from mnist_vg.runs.finding import find_named

WIDTHS = (60, 80, 160)


def on_a_terminal(columns, *arguments, cwd):
    """Run `mnist-vg` on a terminal of this width; its exit code, and what is on the screen."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {**PROCESS["env"], "TERM": "xterm-256color"}
    environment.pop("COLUMNS", None)
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), its)
    command = [*COMMAND, *map(str, arguments)]
    process = subprocess.Popen(command, env=environment, cwd=cwd, **streams)
    os.close(its)
    printed = b""
    with open(ours, "rb", buffering=0) as screen:
        try:
            while part := screen.read(2**16):
                printed += part
        except OSError:  # Linux ends a terminal so.
            pass
    return process.wait(), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", printed.decode())


def shown(renderable, width):
    """What a terminal of this width shows, line by line."""
    screen = io.StringIO()
    Console(file=screen, width=width, highlight=False, markup=False).print(renderable)
    lines = [line.rstrip() for line in screen.getvalue().splitlines()]
    assert max(map(len, lines), default=0) <= width
    return lines


def words(lines):
    """The words of a table or of blocks, without the frame."""
    return re.sub(r"[─-╿]", " ", "\n".join(lines)).split()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("width", WIDTHS)
def test_no_word_of_any_table_is_cut(width, seed):
    chance = random.Random(seed)

    def word():
        return "".join(chance.choices("0123456789.%", k=chance.randint(1, 12)))

    columns = chance.randint(2, 10)
    headings = [f"heading{n}" for n in range(columns)]
    spare = headings[1 : chance.randint(1, columns)]
    rows = [
        [" ".join(word() for _ in range(chance.randint(1, 9))) for _ in headings] for _ in "123"
    ]
    needs = [Column(heading, min_width=chance.choice([0, 16])) for heading in headings]
    table = Table(*needs, spare=spare, title="a title", caption="a caption")
    for row in rows:
        table.add_row(*row)
    lines = shown(table, width)
    told = words(lines)
    left_out = [heading for heading in headings if heading not in told]
    if f"{headings[0]}:" in told:  # Blocks: the first cell stands above the others.
        left_out = []
    assert left_out == spare[: len(left_out)]
    assert bool(left_out) == ("Left out" in "\n".join(lines))
    for row in rows:
        for heading, cell in zip(headings, row, strict=True):
            assert heading in left_out or set(cell.split()) <= set(told)


def test_a_table_loses_no_column_before_it_must():
    table = Table("name", "first", "second", spare=("second", "first"))
    table.add_row("a" * 10, "b" * 10, "c" * 10)
    for width, headings in ((40, ["name", "first", "second"]), (39, ["name", "first"])):
        assert [word for word in words(shown(table, width)) if word in headings] == headings
    for width in (26, 14):
        told = words(shown(table, width))
        assert "a" * 10 in told
        assert "b" * 10 not in told
    assert words(shown(table, 13))[:1] == ["name:"]
    assert words(shown(Table("name", "first"), 5)) == []


def test_a_block_has_a_line_for_each_cell_and_none_for_an_empty_one():
    table = Table("Run", "Diagnosis", "Try")
    table.add_row("a", "d" * 20, "")
    table.add_row("", "e" * 20, "t" * 20)
    expected = [
        "Run: a",
        f"  Diagnosis  {'d' * 20}",
        f"  Diagnosis  {'e' * 20}",
        f"  Try        {'t' * 20}",
    ]
    assert shown(table, 40) == expected


@pytest.mark.parametrize("width", WIDTHS)
def test_the_tables_of_train_diagnose_cure_and_list_have_whole_numbers(logdir, width):
    runs = [Run.load(logdir / name) for name in ("sigmoid", "relu", "leaky_relu")]
    told = words(shown(comparison_table(runs), width))
    for run in runs:
        assert f"{run.results['test_accuracy']:.2%}" in told
    first = f"{runs[0].results['first_gradient_ratio']:.2g}"
    assert told.count(first) == 1
    diagnoses = diagnose_runs(logdir)
    [evidence] = diagnoses["sigmoid"].evidence
    told = words(shown(diagnosis_table(diagnoses), width))
    assert not set(evidence.words.split()) - set(told)
    before, after = (
        Trial(Scenario(), {"kernel_initializer": "he_normal", "activation": "relu"}, [run] * 3)
        for run in runs[:2]
    )
    told = words(shown(cure_table(Cure(before, [after], logdir)), width))
    for run in runs[:2]:
        accuracy = f"{run.results['test_accuracy']:.2%}"
        assert {accuracy, f"({accuracy}–{accuracy})"} <= set(told)
    told = words(shown(scenario_table(SUITES), width))
    assert {scenario.name for suite in SUITES.values() for scenario in suite} <= set(told)


@pytest.mark.parametrize("width", [60, 79, 80, 99, 100, 160])
@pytest.mark.parametrize("name", ["relu", "sigmoid-relu-he_normal-batch-rate0.0001-seed2"])
@pytest.mark.parametrize("brief", [False, True])
def test_the_numbers_of_a_running_network_are_whole(width, name, brief):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width)
    scenario = Scenario(name=name, iterations=100_000)
    block = types.SimpleNamespace(step=99_999, loss=12.3456, accuracy=1.0, tables=None)
    with Display(console, brief=brief) as display:
        display.expect(Scenario(name=f"before{n}") for n in range(99))
        display.expect([scenario])
        display.watch(scenario, block, [])
    line = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).splitlines()[-1].strip("\r ")
    assert len(line) <= width
    for part in ("100000/100000", "loss 12.346", "accuracy 100.00%"):
        assert part in line
    assert ("100 of 100 " in line) == brief
    assert (name if len(name) < 10 else "eed2 ") in line
    assert ("0:00:00" in line) == (width >= 80)
    assert ("0 steps/s" in line) == (width >= 100)


@pytest.mark.parametrize("width", WIDTHS)
def test_finished_runs_on_a_terminal(logdir, width):
    code, screen = on_a_terminal(width, "train", "--logdir", logdir, cwd=logdir)
    assert code == 0
    lines = screen.splitlines()
    assert max(map(len, lines[:-1])) <= width
    assert "…" not in screen
    for name in ("sigmoid", "relu", "leaky_relu"):
        assert f"{Run.load(logdir / name).results['test_accuracy']:.2%}" in words(lines)
    assert ("Seconds" in words(lines)) == (width == 160)


def test_a_log_folder_is_an_option_or_the_first_word(logdir, tmp_path, monkeypatch, capsys):
    (tmp_path / "logdir").symlink_to(logdir)
    (tmp_path / "relu").mkdir()  # Not the run, as nothing is recorded in it.
    monkeypatch.chdir(tmp_path)
    told = []
    for words in (
        ["relu", "sigmoid"],
        ["logdir", "relu", "sigmoid"],
        ["--logdir", "logdir", "relu", "sigmoid"],
    ):
        assert call_command("diagnose", *words, "--json") == 1
        told.append(json.loads(capsys.readouterr().out))
    assert [run["run"] for run in told[0]] == ["sigmoid", "relu"]
    assert told[0] == told[1] == told[2]
    for words in (["relu"], ["logdir/relu"], ["--logdir", "logdir", "relu"]):
        assert call_command("plot", *words, "--out", "drawn") == 0
        assert "drawn/gradient_profile.png" in capsys.readouterr().out
    for command in ("diagnose", "plot", "board"):
        with pytest.raises(UsageError, match="'sigmod' is not in logdir; did you mean sigmoid"):
            call_command(command, "sigmod")
    assert not call_command("plot", "logdir", "--out", "drawn")


def test_runs_below_a_named_folder_are_found(logdir, tmp_path):
    (tmp_path / "suite").symlink_to(logdir)
    names = ["suite/leaky_relu", "suite/relu", "suite/sigmoid"]
    assert sorted(find_named(tmp_path, ["suite"])) == names
    assert list(find_named(tmp_path, ["suite/relu"])) == ["suite/relu"]
    assert list(find_named(logdir / "relu")) == ["relu"]


def test_what_is_printed_to_type_next_works_as_typed(logdir, tmp_path):
    """However the present command was typed."""
    script = tmp_path / "bin" / "mnist-vg"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nfrom mnist_vg.__main__ import main\nmain()\n")
    script.chmod(0o755)
    environment = PROCESS["env"] | {"PYTHONPATH": os.pathsep.join(sys.path)}
    on_path = environment | {"PATH": f"{script.parent}:{environment['PATH']}"}
    python = shlex.quote(sys.executable)
    for typed, its in (
        ("bin/mnist-vg", environment | {"PATH": "/usr/bin:/bin"}),
        ("mnist-vg", on_path),
        (f"{python} -m mnist_vg", environment | {"PATH": "/usr/bin:/bin"}),
    ):

        def in_a_shell(line, its=its):
            options = {"env": its, "cwd": tmp_path, "capture_output": True, "text": True}
            return subprocess.run(line, shell=True, check=True, **options).stdout

        last = in_a_shell(f"{typed} train --logdir {shlex.quote(str(logdir))}").splitlines()[-1]
        assert last == f"{typed} board --logdir {shlex.quote(str(logdir))}"
        assert "Open TensorBoard" in in_a_shell(f"{last} --help")
