"""What a person reads while runs train and when they have ended."""

import math
import shlex
import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mnist_vg.diagnosis import learned
from mnist_vg.runs import Run
from mnist_vg.scenarios import Scenario

PLAIN_WIDTH = 160
"""Columns of a table off a terminal, where there is no width to ask for."""


def make_console() -> Console:
    """The console of standard output, wide enough for the table in a file or a pipe."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=PLAIN_WIDTH, highlight=False)


class Display:
    """A live bar a scenario on a terminal; elsewhere one plain line a record.

    Use it as a context manager, and pass `watch` to `driver.train`.
    """

    def __init__(self, console: Console):
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TextColumn("accuracy {task.fields[accuracy]:6.2%}"),
            TextColumn("{task.fields[speed]:,.0f} steps/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks = {}
        self.watched: set[str] = set()
        """Names of the scenarios that were trained, rather than found finished."""

    def __enter__(self) -> "Display":
        self._bars.start()
        return self

    def __exit__(self, *exception) -> None:
        self._bars.stop()

    def watch(self, scenario: Scenario, block) -> None:
        """Show one block of steps."""
        if scenario.name not in self.watched:
            self.watched.add(scenario.name)
            self._start(scenario, block.step)
        if self._console.is_terminal:
            self._advance(scenario, block)
        elif block.tables is not None:
            self._console.print(
                f"Iteration {block.step} of {scenario.iterations}, loss: {block.loss:.3f}, "
                f"train accuracy: {block.accuracy:.2%}",
                soft_wrap=True,
            )

    def _start(self, scenario, step):
        if not self._console.is_terminal:
            self._console.print(f"\nTraining {scenario.name}", soft_wrap=True)
        task = self._bars.add_task(
            scenario.name, total=scenario.iterations, loss=math.nan, accuracy=math.nan, speed=0
        )
        self._tasks[scenario.name] = (task, step, time.monotonic())

    def _advance(self, scenario, block):
        task, first_step, start = self._tasks[scenario.name]
        speed = (block.step - first_step) / max(time.monotonic() - start, 1e-9)
        self._bars.update(
            task, completed=block.step + 1, loss=block.loss, accuracy=block.accuracy, speed=speed
        )


def result_row(results: dict[str, float | None]) -> dict[str, str]:
    """A finished run's results in words, heading to text.

    Losses and accuracies are those of the final weights on the whole splits; the
    gradient's is layer 1's mean absolute value over the last layer's, at the first
    record and at the last.
    """
    could = learned(results["test_accuracy"], results["chance"])
    first, last = results["first_gradient_ratio"], results["last_gradient_ratio"]
    return {
        "Could learn": "yes" if could else "no",
        "Loss": _number(results["train_loss"], ".3f"),
        "Train accuracy": _number(results["train_accuracy"], ".2%"),
        "Test accuracy": _number(results["test_accuracy"], ".2%"),
        "Gradient ratio": f"{_number(first, '.2g')} -> {_number(last, '.2g')}",
    }


def comparison_table(runs: Iterable[Run]) -> Table:
    """Finished runs, one or more, side by side: which could learn, what reached layer 1."""
    table = Table(
        title="Which network could learn?",
        title_justify="left",
        caption="Gradient ratio: layer 1's mean absolute gradient over the last layer's, at the "
        "first record -> at the last. Loss and accuracy: of the final weights, on all examples. "
        "Seconds: training and logging, without start-up and compilation.",
        caption_justify="left",
    )
    rows = [(run, result_row(run.results)) for run in runs]
    table.add_column("Scenario", overflow="fold")
    for heading in rows[0][1]:
        table.add_column(heading, justify="right")
    table.add_column("Seconds", justify="right")
    table.add_column("Folder", overflow="fold")
    for run, row in rows:
        style = None if row["Could learn"] == "yes" else "red"
        table.add_row(
            run.name, *row.values(), f"{run.seconds:.1f}", Text(str(run.folder)), style=style
        )
    return table


def scenario_table(suites: dict[str, tuple[Scenario, ...]]) -> Table:
    """Every named scenario with what it is known for."""
    table = Table()
    table.add_column("Suite")
    table.add_column("Scenario")
    table.add_column("About", max_width=90)
    for suite, scenarios in suites.items():
        for scenario in scenarios:
            table.add_row(suite, scenario.name, scenario.about)
    return table


def tensorboard_line(logdir: str | Path) -> str:
    """The line to type to see the runs."""
    return f"tensorboard --logdir {shlex.quote(str(logdir))}"


def _number(value, spec):
    return "not finite" if value is None else format(value, spec)
