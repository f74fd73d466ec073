"""`Display`: the progress of runs."""

import math
import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from mnist_vg.diagnosis.symptom import Evidence
from mnist_vg.scenarios.scenario import Scenario


class Display:
    """Shows progress: a bar for each scenario on a terminal, and a line for each record elsewhere.

    Use it as a context manager, and pass `watch` to `driver.train`.

    Args:
        console: the console to print to.
        brief: for many scenarios: show only the newest bar, and print no lines for records and
            symptoms.

    Attributes:
        watched: the names of the scenarios that were trained. A finished run is not trained.
    """

    def __init__(self, console: Console, brief: bool = False):
        self._console = console
        self._brief = brief
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

    def __enter__(self) -> "Display":
        self._bars.start()
        return self

    def __exit__(self, *exception) -> None:
        self._bars.stop()

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
        if not self._console.is_terminal:
            before = "" if self._brief else "\n"
            self._console.print(f"{before}Training {scenario.name}", soft_wrap=True)
        elif self._brief:
            for task, *_ in self._tasks.values():
                self._bars.remove_task(task)
            self._tasks.clear()
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
