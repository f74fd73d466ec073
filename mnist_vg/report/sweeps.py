"""What a sweep prints: its plan, and its results."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Column

from mnist_vg.diagnosis.diagnosis import Health
from mnist_vg.report.table import Table
from mnist_vg.runs.results import counted, how_many, learned, spread_of
from mnist_vg.sweeps.axes import Axis, cells, shape
from mnist_vg.sweeps.table import GRADIENT_RATIO, TEST_ACCURACY, last_records

if TYPE_CHECKING:
    import pandas

    from mnist_vg.sweeps.plan import Plan
    from mnist_vg.sweeps.ranking import Ranking

ENDS = 10
"""Of more than twice as many combinations of settings, so many of the best and worst are shown."""


def plan_lines(plan: "Plan", axes: Mapping[str, Sequence]) -> list[str]:
    """The plan of a sweep that varies these fields in words, line by line."""
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
    if not axes:
        lines.append(
            "Nothing is varied but the seed: give --vary FIELD=VALUES, such as "
            "--vary num_layers=2:50:4."
        )
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


def sweep_json(records: "pandas.DataFrame", axes: Mapping[str, Sequence]) -> str:
    """A sweep's networks as JSON: a list with one object per network."""
    networks = last_records(records).to_dict("records")
    return json.dumps(
        [
            {"run": network["name"], **Health.of(network["verdict"])._asdict()}
            | {"verdict": network["verdict"], "test_accuracy": network[TEST_ACCURACY]}
            | {"settings": {field: _plain(network[field]) for field in (*axes, "seed")}}
            for network in sorted(networks, key=lambda network: network["name"])
        ],
        indent=2,
        allow_nan=False,
    )


def _plain(value):
    """The value with None for NaN, which pandas has in place of it."""
    return None if value != value else value


def settings_table(records: "pandas.DataFrame", axes: Mapping[str, Sequence]) -> Table:
    """What became of each combination of the varied settings; medians and ranges over its seeds.

    Of many combinations, those with the best and with the worst median accuracy.

    Args:
        records: the first and the last record of each network, as `read_sweep` returns them.
        axes: the varied fields and their values; one at least.
    """
    varied = [Axis.of(field, values) for field, values in axes.items()]
    last = last_records(records)
    columns = (TEST_ACCURACY, GRADIENT_RATIO, "chance", "verdict")
    found = {column: cells(last, varied, column).agg(list) for column in columns}
    places, title = list(found["verdict"].index), "Which settings could learn?"
    if len(places) > 2 * ENDS:
        title += f" The {ENDS} best and the {ENDS} worst of {len(places):,}"
        ranked = sorted(places, key=found[TEST_ACCURACY].map(np.median).__getitem__, reverse=True)
        places = ranked[:ENDS] + ranked[-ENDS:]
    ratio = "Gradient ratio"
    table = Table(
        *(Column(axis.title, justify="right" if axis.numeric else "left") for axis in varied),
        *(Column(text, justify="right") for text in ("Could learn", "Test accuracy", ratio)),
        Column("Diagnosis", max_width=40),
        title=title,
        caption=f"{ratio}: layer 1's mean absolute gradient over the last layer's, at the last "
        "record.",
        spare=(ratio, "Could learn"),
    )
    for place in places:
        on_axes = zip(varied, np.unravel_index(place, shape(varied)), strict=True)
        settings = [axis.labels[n] for axis, n in on_axes]
        _add_settings(table, settings, *(found[column][place] for column in columns))
    return table


def _add_settings(table, settings, accuracies, ratios, chances, verdicts):
    """Add the row of one combination of settings; the others are lists over its seeds."""
    could = list(map(learned, accuracies, chances))
    table.add_row(
        *settings,
        how_many(could),
        spread_of(accuracies, ".2%"),
        spread_of([None if np.isnan(ratio) else 10.0**ratio for ratio in ratios], ".2g"),
        counted(verdicts),
        style=None if any(could) else "red",
    )


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
