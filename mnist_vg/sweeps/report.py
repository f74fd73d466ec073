"""What a sweep prints: its plan, its progress, and its results."""

from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from mnist_vg.sweeps.table import TEST_ACCURACY, last_records

if TYPE_CHECKING:
    import pandas

    from mnist_vg.sweeps.plan import Plan
    from mnist_vg.sweeps.ranking import Ranking


def plan_lines(plan: "Plan") -> list[str]:
    """The plan in words, line by line."""
    sizes = Counter(map(len, plan.groups))
    groups = ", ".join(
        f"{count:,} {'groups' if count > 1 else 'group'} of {size}"
        for size, count in sorted(sizes.items(), reverse=True)
    )
    networks = sum(map(len, plan.groups))
    noun = "networks" if networks > 1 else "network"
    lines = [f"{networks:,} {noun} in {groups}; the networks of a group train together."]
    if plan.done:
        done = sum(len(plan.groups[number]) for number in plan.done)
        lines.append(f"{done:,} networks have been trained already.")
    return lines


class SweepDisplay:
    """A progress bar on a terminal, and one line per group elsewhere.

    Use it as a context manager, and pass `watch` to `Sweeper.run`.

    Args:
        console: the console to print to.
        plan: the sweep's plan.
    """

    def __init__(self, console: Console, plan: "Plan"):
        self._console = console
        self._done, self._networks = 0, sum(len(plan.groups[n]) for n in plan.left)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._plan = plan
        # Progress is measured in work, because groups differ much in size.
        self._task = self._bar.add_task("networks", total=sum(plan.work[n] for n in plan.left))

    def __enter__(self) -> "SweepDisplay":
        self._bar.start()
        return self

    def __exit__(self, *exception) -> None:
        self._bar.stop()

    def watch(self, number: int, outcome) -> None:
        """Show that the group with this number is done."""
        self._done += len(self._plan.groups[number])
        words = f"{self._done:,} of {self._networks:,} networks"
        self._bar.update(self._task, advance=self._plan.work[number], description=words)
        if not self._console.is_terminal:
            self._console.print(f"{words} (last group: {outcome.seconds:.1f} s)")


def verdict_table(records: "pandas.DataFrame") -> Table:
    """The number of networks with each diagnosis, and their median test accuracy."""
    table = Table(title="How did the networks end?", title_justify="left")
    for heading in ("Diagnosis", "Networks", "Median test accuracy"):
        table.add_column(heading, justify="left" if heading == "Diagnosis" else "right")
    accuracies = last_records(records).groupby("verdict", observed=True)[TEST_ACCURACY]
    counts = accuracies.agg(["size", "median"]).sort_values("size", ascending=False)
    for verdict, row in counts.iterrows():
        table.add_row(verdict, f"{row['size']:,.0f}", f"{row['median']:.1%}")
    return table


def ranking_table(ranking: "Ranking") -> Table:
    """How much each varied field, and the seed, matters."""
    measure = ranking.column.replace("_", " ")
    left_out = "; ".join(
        f"{field} {', '.join(map(str, values))}" for field, values in ranking.left_out.items()
    )
    table = Table(
        title=f"Which field matters most for the final {measure}?",
        title_justify="left",
        caption=f"Shares of the variance over {ranking.networks:,} networks: of the field alone "
        "(first-order Sobol index), and of the field with its interactions (total-effect index)."
        + (
            f" Left out, because networks are missing or not finite: {left_out}."
            if left_out
            else ""
        ),
        caption_justify="left",
    )
    table.add_column("Field", no_wrap=True)
    for heading in ("Share alone", "With interactions"):
        table.add_column(heading, justify="right")
    table.add_column("Best value")
    table.add_column("Its median", justify="right")
    for share in ranking.shares:
        known = share.median is not None
        best = [str(share.best), f"{share.median:.3g}"] if known else ["", ""]
        table.add_row(share.field, f"{share.alone:.1%}", f"{share.together:.1%}", *best)
    return table
