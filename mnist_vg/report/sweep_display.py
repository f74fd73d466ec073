"""`SweepDisplay`: the progress of a sweep."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

if TYPE_CHECKING:
    from mnist_vg.sweeps.plan import Plan


class SweepDisplay:
    """A progress bar on a terminal, and one line per group elsewhere.

    Use it as a context manager, and pass `watch` and `advanced` to `Sweeper.run`.

    Args:
        console: the console to print to.
        plan: the sweep's plan.
    """

    def __init__(self, console: Console, plan: "Plan"):
        self._console = console
        whole = Column(no_wrap=True)  # Only the bar becomes shorter.
        self._done, self._networks = 0, sum(len(plan.groups[n]) for n in plan.left)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%"),
            TimeElapsedColumn(table_column=whole),
            TextColumn("left:"),
            TimeRemainingColumn(table_column=whole),
            console=console,
            disable=not console.is_terminal,
        )
        self._plan = plan
        self._shares: dict[int, float] = {}
        # Progress is measured in work, because groups differ much in size.
        self._task = self._bar.add_task(
            f"0 of {self._networks:,} networks", total=sum(plan.work[n] for n in plan.left)
        )

    def __enter__(self) -> "SweepDisplay":
        self._bar.start()
        return self

    def __exit__(self, *exception) -> None:
        self._bar.stop()

    def advanced(self, number: int, share: float) -> None:
        """Show that this share of a group's steps is done."""
        more = share - self._shares.get(number, 0.0)
        if more:
            self._shares[number] = share
            self._bar.advance(self._task, more * self._plan.work[number])

    def watch(self, number: int, outcome) -> None:
        """Show that the group with this number is done."""
        self._done += len(self._plan.groups[number])
        words = f"{self._done:,} of {self._networks:,} networks"
        self._bar.update(self._task, description=words)
        self.advanced(number, 1.0)
        if not self._console.is_terminal:
            self._console.print(f"{words} (last group: {outcome.seconds:.1f} s)")
