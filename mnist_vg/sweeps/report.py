"""What a person reads while a sweep trains and when it has ended."""

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
    """What a sweep is about to do, in words."""
    sizes = Counter(map(len, plan.groups))
    of = ", ".join(f"{count} of {size}" for size, count in sorted(sizes.items(), reverse=True))
    networks, groups = sum(map(len, plan.groups)), len(plan.groups)
    lines = [f"{networks:,} networks, which train together in {groups:,} groups: {of}."]
    if plan.done:
        found = sum(len(plan.groups[number]) for number in plan.done)
        lines.append(f"{found:,} of them are done already.")
    return lines


class SweepDisplay:
    """A live bar on a terminal, elsewhere a line a group; pass `watch` to `Sweeper.run`."""

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
        # A group counts for its work: they are of very different sizes.
        self._task = self._bar.add_task("networks", total=sum(plan.work[n] for n in plan.left))

    def __enter__(self) -> "SweepDisplay":
        self._bar.start()
        return self

    def __exit__(self, *exception) -> None:
        self._bar.stop()

    def watch(self, number: int, outcome) -> None:
        """Show that one more group is done."""
        self._done += len(self._plan.groups[number])
        words = f"{self._done:,} of {self._networks:,} networks"
        self._bar.update(self._task, advance=self._plan.work[number], description=words)
        if not self._console.is_terminal:
            self._console.print(f"{words}, the last group in {outcome.seconds:.1f} s")


def verdict_table(records: "pandas.DataFrame") -> Table:
    """How many networks of a sweep got which diagnosis, and what they score."""
    table = Table(title="What became of the networks?", title_justify="left")
    for heading in ("Diagnosis", "Networks", "Median test accuracy"):
        table.add_column(heading, justify="left" if heading == "Diagnosis" else "right")
    groups = last_records(records).groupby("verdict", observed=True)[TEST_ACCURACY]
    for verdict, row in (
        groups.agg(["size", "median"]).sort_values("size", ascending=False).iterrows()
    ):
        table.add_row(verdict, f"{row['size']:,.0f}", f"{row['median']:.1%}")
    return table


def ranking_table(ranking: "Ranking") -> Table:
    """How much each varied field of a sweep matters, the seed among them."""
    measure = ranking.column.replace("_", " ")
    left_out = "; ".join(
        f"{field} {', '.join(map(str, values))}" for field, values in ranking.left_out.items()
    )
    table = Table(
        title=f"What matters for the {measure} in the end?",
        title_justify="left",
        caption=f"Shares of its variance over {ranking.networks:,} networks: what the mean given "
        "one field explains, and what is left with all the others given (first-order and "
        "total-effect Sobol indices)."
        + (f" Left out, as networks are missing or not finite: {left_out}." if left_out else ""),
        caption_justify="left",
    )
    table.add_column("Field", no_wrap=True)
    for heading in ("Share alone", "With interactions"):
        table.add_column(heading, justify="right")
    table.add_column("Best value")
    table.add_column("Median there", justify="right")
    for share in ranking.shares:
        known = share.median is not None
        best = [str(share.best), f"{share.median:.3g}"] if known else ["", ""]
        table.add_row(share.field, f"{share.alone:.1%}", f"{share.together:.1%}", *best)
    return table
