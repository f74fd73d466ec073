"""What a person sees on a terminal: tables and progress that fit, and commands to type next."""

import fcntl
import io
import os
import pty
import random
import re
import struct
import subprocess
import termios
import types

import pytest
from conftest import COMMAND, PROCESS
from rich.console import Console
from rich.table import Column

from mnist_vg import SUITES, Run, Scenario
from mnist_vg.cure import Cure, Trial
from mnist_vg.diagnosis.diagnosis import diagnose_runs
from mnist_vg.report import Display, comparison_table, cure_table, diagnosis_table, scenario_table
from mnist_vg.report.table import Table

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
    if left_out == headings[:1]:  # Blocks: the first cell stands above the others.
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
        assert "second" not in words(shown(table, width))
    assert words(shown(table, 25))[:2] == ["name", "a" * 10]
    assert words(shown(Table("name", "first"), 5)) == []


def test_a_block_has_a_line_for_each_cell_and_none_for_an_empty_one():
    table = Table("Run", "Diagnosis", "Try")
    table.add_row("a", "d" * 20, "")
    table.add_row("", "e" * 20, "t" * 20)
    expected = [
        "a",
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
    told = words(shown(cure_table(Cure(before, [after])), width))
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
