"""`Display`: the progress of runs."""

import math
import time
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from mnist_vg.diagnosis.symptom import Evidence
from mnist_vg.scenarios.scenario import Scenario

MIDDLE, WIDE = 80, 100
"""Widths of a terminal from which on a line of progress has a bar, and from which on the speed."""


class Display:
    """Shows progress: a bar for each scenario on a terminal, and a line for each record elsewhere.

    Use it as a context manager, and pass `watch` to `driver.train`.

    Args:
        console: the console to print to.
        brief: for many scenarios: show only the newest bar, with the number of its scenario, and
            print no lines for records and symptoms.

    Attributes:
        watched: the names of the scenarios that were trained. A finished run is not trained.
    """

    def __init__(self, console: Console, brief: bool = False):
        self._console = console
        self._brief = brief
        columns, self._room = _columns(console.width)
        self._bars = Progress(*columns, console=console, disable=not console.is_terminal)
        self._tasks = {}
        self._expected: list[str] = []
        self.watched: set[str] = set()

    def __enter__(self) -> "Display":
        self._bars.start()
        return self

    def __exit__(self, *exception) -> None:
        self._bars.stop()

    def expect(self, scenarios: Iterable[Scenario]) -> None:
        """Number these scenarios, after those that were expected before."""
        self._expected += [scenario.name for scenario in scenarios]

    def watch(self, scenario: Scenario, block, symptoms: Sequence[Evidence]) -> None:
        """Show one block of steps, and the symptoms that have become certain with it."""
        if scenario.name not in self.watched:
            self.watched.add(scenario.name)
            self._start(scenario, block.step)
        if self._console.is_terminal:
            self._advance(scenario, block)
        elif block.tables is not None and not self._brief:
            self._console.print(
                f"Iteration {block.step} of {scenario.iterations}, loss: {block.loss:.3f}, "
                f"train accuracy: {block.accuracy:.2%}",
                soft_wrap=True,
            )
        if not self._brief:
            self._announce(scenario, symptoms)

    def _announce(self, scenario, symptoms):
        for evidence in symptoms:
            line = f"{scenario.name} at step {evidence.known}: {evidence.line}"
            self._console.print(Text(line, style="red"), soft_wrap=True)

    def _start(self, scenario, step):
        name = scenario.name
        numbered = self._brief and name in self._expected
        number = f"{self._expected.index(name) + 1} of {len(self._expected)}" if numbered else ""
        if not self._console.is_terminal:
            before, after = ("", f" ({number})" if number else "") if self._brief else ("\n", "")
            self._console.print(f"{before}Training {name}{after}", soft_wrap=True)
        elif self._brief:
            for task, *_ in self._tasks.values():
                self._bars.remove_task(task)
            self._tasks.clear()
        title = f"{number} {_end_of(name, self._room - len(number))}".strip()
        task = self._bars.add_task(
            title, total=scenario.iterations, loss=math.nan, accuracy=math.nan, speed=0
        )
        self._tasks[name] = (task, step, time.monotonic())

    def _advance(self, scenario, block):
        task, first_step, start = self._tasks[scenario.name]
        speed = (block.step - first_step) / max(time.monotonic() - start, 1e-9)
        self._bars.update(
            task, completed=block.step + 1, loss=block.loss, accuracy=block.accuracy, speed=speed
        )


def _columns(width):
    """The columns of a line of progress, and the room that they leave for a name.

    rich cuts what does not fit, and numbers, too. Only the bar can become shorter.
    """
    name, whole = TextColumn("{task.description}"), Column(no_wrap=True)
    numbers = [
        MofNCompleteColumn(table_column=whole),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TextColumn("accuracy {task.fields[accuracy]:6.2%}"),
    ]
    speed = TextColumn("{task.fields[speed]:,.0f} steps/s")
    left = TimeRemainingColumn(table_column=whole)
    if width < MIDDLE:
        return [name, *numbers], width - 45
    if width < WIDE:
        return [name, BarColumn(), *numbers, left], width - 58
    return [name, BarColumn(), *numbers, speed, left], width - 74


def _end_of(name, room):
    """The name if there is room, else its end, which has what was changed and the seed."""
    return name if len(name) <= room else f"…{name[1 - room :]}"
