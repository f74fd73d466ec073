"""What a sweep's networks have learned, over the fields that were varied.

A figure shows medians over the seeds, and over varied fields that it has no place for, each
network's first or last record. As in `figures`, Matplotlib is imported when something is drawn.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mnist_vg.diagnosis.diagnosis import HEALTHY, NOT_LEARNED, first_cause
from mnist_vg.diagnosis.symptoms import (
    DEAD_UNITS,
    EXPLODING_GRADIENTS,
    FROZEN_LAYERS,
    NONFINITE_VALUES,
    OSCILLATING_LOSS,
    SATURATED_UNITS,
    STUCK_AT_CHANCE,
    UPDATES_TOO_LARGE,
    UPDATES_TOO_SMALL,
    VANISHING_GRADIENTS,
)
from mnist_vg.figures.style import (
    PALETTE,
    SMALL,
    colour_bar,
    column_ticks,
    grid,
    legend,
    line,
    row_ticks,
    set_title,
)
from mnist_vg.sweeps.axes import RATIO_LIMIT, Axis, cells, choose, on_grid
from mnist_vg.sweeps.table import (
    GRADIENT_RATIO,
    TEST_ACCURACY,
    first_records,
    last_records,
)

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

PANELS = 12
"""Panels that a figure has room for."""

VERDICTS = {
    UPDATES_TOO_LARGE: "#E69F00",
    UPDATES_TOO_SMALL: "#56B4E9",
    SATURATED_UNITS: "#AA4499",
    DEAD_UNITS: "#72190E",
    EXPLODING_GRADIENTS: "#CC3311",
    VANISHING_GRADIENTS: "#332288",
    NONFINITE_VALUES: "#000000",
    FROZEN_LAYERS: "#222255",
    OSCILLATING_LOSS: "#4EB265",
    STUCK_AT_CHANCE: "#994455",
    NOT_LEARNED: "#9E9E9E",
    HEALTHY: "#DCEAF2",
}
"""What a network may suffer from first, and its colour, which the colour-blind tell apart."""

NOT_FINITE = {"facecolor": "#9E9E9E", "label": "not finite"}
NOT_TRAINED = {
    "facecolor": "white",
    "edgecolor": "0.7",
    "hatch": "////",
    "label": "not trained yet",
}


def draw(
    sweep_table: "pandas.DataFrame",
    axes: Mapping[str, Sequence],
    x: str | None = None,
    y: str | None = None,
    by: str | None = None,
) -> dict[str, "Figure"]:
    """Figures of a sweep's table over two varied fields, a panel for each value of a third.

    A cell is the median of its networks' numbers that are not NaN, and not finite where most
    are. Gradient ratios are clipped at `RATIO_LIMIT`. Of verdicts a cell has the most frequent
    first cause; of two as frequent ones that which `VERDICTS` has first. Over one field
    alone a line is drawn, with the range of its networks, and the shares of verdicts.

    Args:
        sweep_table: a row a network and record; those of `read_sweep` are enough.
        axes: the varied fields and their values, as in `sweep.json`.
        x: the field along the columns; None is the next that is not chosen.
        y: the same along the rows.
        by: the same for panels, and then only of at most `PANELS` values.

    Returns:
        `test_accuracy`, `first_gradient_ratio`, `last_gradient_ratio` and `verdict`.

    Raises:
        UsageError: nothing was varied, or not such a field, or it has too many values.
    """
    shown, left = choose(axes, PANELS, x, y, by)
    first, last = first_records(sweep_table), last_records(sweep_table)
    seeds = last["seed"].nunique()
    over = [f"{seeds} seeds"] * (seeds > 1) + left
    over = f"over {' and '.join(over)}" if over else ""
    largest = np.nanmax(np.abs([first[GRADIENT_RATIO], last[GRADIENT_RATIO]]), initial=1)
    limit = math.ceil(min(largest, RATIO_LIMIT))  # The same in both figures.
    numbers, verdicts = (_heatmap, _verdict_map) if "y" in shown else (_lines, _verdict_bars)
    return {
        "test_accuracy": numbers(last, shown, over, _accuracy(last)),
        "first_gradient_ratio": numbers(first, shown, over, _ratio(first, "first", limit)),
        "last_gradient_ratio": numbers(last, shown, over, _ratio(last, "last", limit)),
        "verdict": verdicts(last, shown, over),
    }


class Measure(NamedTuple):
    """A column of numbers, which record it is of, and how numbers become colours."""

    column: str
    label: str
    cmap: str
    low: float
    high: float
    extend: str = "neither"


def _accuracy(records):
    chance = records["chance"].unique()
    known = f"\nchance: {chance[0]:.2g}" if len(chance) == 1 else ""
    return Measure(TEST_ACCURACY, f"test accuracy, last record{known}", "viridis", 0, 1)


def _ratio(records, which, limit):
    values = records[GRADIENT_RATIO]
    ends = [(values < -RATIO_LIMIT).any(), (values > RATIO_LIMIT).any()]
    extend = "both" if all(ends) else "min" if ends[0] else "max" if ends[1] else "neither"
    clipped = f", clipped at ±{RATIO_LIMIT}" if any(ends) else ""
    label = f"log10 of gradient ratio,\nlayer 1 / last layer,\n{which} record{clipped}"
    return Measure(GRADIENT_RATIO, label, "PuOr", -limit, limit, extend)


def _heatmap(records, shown, over, measure):
    axes = list(shown.values())
    groups = cells(records, axes, measure.column)
    networks, known = groups.size(), groups.count()
    table = on_grid(groups.median().where(2 * known >= networks), axes)
    style = {"cmap": measure.cmap, "vmin": measure.low, "vmax": measure.high}
    figure, panels = _panels(shown, over and f"median {over}")
    picture = _pictures(figure, panels, table, on_grid(networks, axes) > 0, [], style)
    place = {"ax": list(panels), "aspect": 30, "extend": measure.extend}
    colour_bar(figure, picture, measure.label, **place)
    return figure


def _lines(records, shown, over, measure):
    groups = cells(records, list(shown.values()), measure.column)
    figure, panels = _panels(shown, over and f"median {over}")
    low, median, high, networks = (
        on_grid(values, list(shown.values())).reshape(len(panels), -1)
        for values in (groups.min(), groups.median(), groups.max(), groups.size())
    )
    at = np.arange(median.shape[1])
    for number, axis in enumerate(panels):
        style = {"color": PALETTE[0], "label": "least to largest"}
        if shown["x"].numeric:
            axis.fill_between(at, low[number], high[number], alpha=0.2, linewidth=0, **style)
            line(axis, at, median[number], color=PALETTE[0], label="median")
        else:
            axis.vlines(at, low[number], high[number], **style)
            axis.plot(at, median[number], "o", color=PALETTE[0], label="median")
        lost = at[(networks[number] > 0) & np.isnan(median[number])]
        if len(lost):
            end = {"transform": axis.get_xaxis_transform(), "clip_on": False}
            axis.plot(lost, np.zeros(len(lost)), "x", color="black", label="not finite", **end)
    panels[0].set_ylabel(measure.label)
    if measure.column == TEST_ACCURACY:
        panels[0].set_ylim(0, 1.02)
    named = {
        handle.get_label(): handle for axis in panels for handle in (*axis.lines, *axis.collections)
    }
    legend(figure, named.values(), "upper center", ncols=3)
    return figure


def _verdict_counts(records, shown):
    """How many networks of a cell have each of `VERDICTS` first: `[*grid, verdicts]`."""
    axes = [*shown.values(), Axis.of("verdict", list(VERDICTS))]
    causes = records.assign(verdict=records["verdict"].map(first_cause))
    return np.nan_to_num(on_grid(cells(causes, axes, "verdict").size(), axes))


def _verdict_map(records, shown, over):
    from matplotlib.colors import ListedColormap

    counts = _verdict_counts(records, shown)
    trained = counts.any(axis=-1)
    codes = np.where(trained, counts.argmax(axis=-1), np.nan)
    figure, panels = _panels(shown, over and f"most frequent {over}")
    colours = ListedColormap(list(VERDICTS.values()))
    style = {"cmap": colours, "vmin": -0.5, "vmax": len(VERDICTS) - 0.5}
    there = [word for code, word in enumerate(VERDICTS) if (codes == code).any()]
    _pictures(figure, panels, codes, trained, there, style)
    return figure


def _verdict_bars(records, shown, over):
    counts = _verdict_counts(records, shown)
    figure, panels = _panels(shown, over and f"shares {over}")
    with np.errstate(invalid="ignore"):  # Of no networks.
        shares = counts / counts.sum(axis=-1, keepdims=True)
    shares = np.nan_to_num(shares).reshape(len(panels), -1, len(VERDICTS))
    there = [code for code in range(len(VERDICTS)) if counts[..., code].any()]
    words = list(VERDICTS)
    for axis, table in zip(panels, shares, strict=True):
        ends = table.cumsum(axis=1)
        for code in there:
            start, colour = ends[:, code] - table[:, code], VERDICTS[words[code]]
            axis.bar(range(len(table)), table[:, code], 0.9, start, color=colour)
    panels[0].set_ylim(0, 1)
    panels[0].set_ylabel("share of networks, by first cause")
    _legend(figure, [words[code] for code in there])
    return figure


def _pictures(figure, panels, table, trained, words, style):
    """Draw a table `[*panels, rows, columns]`, a picture a panel; one of the pictures."""
    from matplotlib.colors import ListedColormap

    lost = trained & np.isnan(table)
    look = {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    grey = {"cmap": ListedColormap([NOT_FINITE["facecolor"]])}
    size = (len(panels), *table.shape[-2:])
    for axis, values, gone in zip(panels, table.reshape(size), lost.reshape(size), strict=True):
        # What is not trained is a hole, through which the hatched background shows.
        axis.patch.set(**NOT_TRAINED)
        if gone.any():
            axis.imshow(np.where(gone, 1, np.nan), **look, **grey)
        picture = axis.imshow(values, **look, **style)
    missing = [NOT_FINITE] * bool(lost.any()) + [NOT_TRAINED] * (not trained.all())
    _legend(figure, words, missing)
    return picture


def _legend(figure, words, missing=()):
    from matplotlib.patches import Patch

    patches = [Patch(color=VERDICTS[word], label=word) for word in words]
    patches += [Patch(**look) for look in missing]
    if patches:
        legend(figure, patches, "upper center", ncols=min(len(patches), 4))


def _panels(shown, note):
    """A figure, and a panel for each value of `by`, or one, with ticks at the cells."""
    x, y, by = (shown.get(place) for place in ("x", "y", "by"))
    figure, panels = grid(len(by.labels) if by else 1)
    if by:
        for axis, label in zip(panels, by.labels, strict=True):
            set_title(axis, f"{by.title} {label}")
    if y:
        row_ticks(figure, panels, y.labels, y.numeric)
        figure.supylabel(y.title, fontsize=SMALL)
    column_ticks(figure, panels, x.labels, x.numeric)
    figure.supxlabel(f"{x.title}\n{note}".strip(), fontsize=SMALL)
    return figure, panels
