"""What a sweep prints: its plan, and its results."""

from collections import Counter
from typing import TYPE_CHECKING

from rich.table import Column

from mnist_vg.report.table import Table
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


def verdict_table(records: "pandas.DataFrame") -> Table:
    """The number of networks with each diagnosis, and their median test accuracy."""
    numbers = (Column(heading, justify="right") for heading in ("Networks", "Median test accuracy"))
    table = Table("Diagnosis", *numbers, title="How did the networks end?")
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
    numbers = (Column(text, justify="right") for text in ("Share alone", "With interactions"))
    table = Table(
        "Field",
        *numbers,
        "Best value",
        Column("Its median", justify="right"),
        title=f"Which field matters most for the final {measure}?",
        caption=f"Shares of the variance over {ranking.networks:,} networks: of the field alone "
        "(first-order Sobol index), and of the field with its interactions (total-effect index)."
        + (
            f" Left out, because networks are missing or not finite: {left_out}."
            if left_out
            else ""
        ),
    )
    for share in ranking.shares:
        known = share.median is not None
        best = [str(share.best), f"{share.median:.3g}"] if known else ["", ""]
        table.add_row(share.field, f"{share.alone:.1%}", f"{share.together:.1%}", *best)
    return table
