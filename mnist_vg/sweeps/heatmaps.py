"""Figures of a sweep: what its networks learned, over the varied fields.

A figure shows each network's first or last record: medians over the seeds, and over the varied
fields that are not an axis of the figure. Matplotlib is imported on first use, as in `figures`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mnist_vg.diagnosis.diagnosis import HEALTHY, NOT_LEARNED, STILL_IMPROVING, first_cause
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
from mnist_vg.sweeps.axes import RATIO_LIMIT, Axis, cells, choose, medians, on_grid
from mnist_vg.sweeps.table import (
    GRADIENT_RATIO,
    TEST_ACCURACY,
    first_records,
    last_records,
)

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

MAX_PANELS = 12
"""Most panels in a figure."""

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
    STILL_IMPROVING: "#F7F056",
    NOT_LEARNED: "#9E9E9E",
    HEALTHY: "#DCEAF2",
}
"""A verdict's first symptom, and its colour; colour-blind readers can tell them apart."""

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
    """Draw a sweep's table over two varied fields, with a panel for each value of a third.

    A cell shows the median of its networks, without NaN. It is grey ("not finite") if more than
    half of the numbers are NaN. log10 gradient ratios are clipped to ±`RATIO_LIMIT`. In the
    verdict figure, a cell shows the most frequent first cause, and of equally frequent ones the
    one that comes first in `VERDICTS`. If there is no field for the rows, the figures are
    lines with the networks' range, and bars with the share of each verdict.

    Args:
        sweep_table: one row per network and record; those of `read_sweep` are enough.
        axes: the varied fields and their values, as in `sweep.json`.
        x: the field of the columns; None takes the next unused field.
        y: the field of the rows; None takes the next unused field.
        by: the field of the panels; None takes the next unused field that has at most
            `MAX_PANELS` values.

    Returns:
        The figures `test_accuracy`, `first_gradient_ratio`, `last_gradient_ratio` and `verdict`.

    Raises:
        UsageError: nothing was varied, or a given field was not varied or has too many values.
    """
    shown, unused = choose(axes, MAX_PANELS, x, y, by)
    first, last = first_records(sweep_table), last_records(sweep_table)
    seeds = last["seed"].nunique()
    over = [f"{seeds} seeds"] * (seeds > 1) + unused
    over = f"over {' and '.join(over)}" if over else ""
    largest = np.nanmax(np.abs([first[GRADIENT_RATIO], last[GRADIENT_RATIO]]), initial=1)
    limit = math.ceil(min(largest, RATIO_LIMIT))  # The same colour scale in both figures.
    numbers, verdicts = (_heatmap, _verdict_map) if "y" in shown else (_lines, _verdict_bars)
    return {
        "test_accuracy": numbers(last, shown, over, _accuracy(last)),
        "first_gradient_ratio": numbers(first, shown, over, _ratio(first, "first", limit)),
        "last_gradient_ratio": numbers(last, shown, over, _ratio(last, "last", limit)),
        "verdict": verdicts(last, shown, over),
    }


class Measure(NamedTuple):
    """A column of numbers, and how it is drawn.

    Attributes:
        column: the column of the sweep's table.
        label: the label of the colour bar or of the vertical axis.
        cmap: Matplotlib's name of the colour map.
        low: the number at the lower end of the colour map.
        high: the number at the upper end of the colour map.
        extend: which ends of the colour bar are pointed, as in Matplotlib: "neither", "min",
            "max" or "both".
    """

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
    trained = on_grid(cells(records, axes, measure.column).size(), axes) > 0
    style = {"cmap": measure.cmap, "vmin": measure.low, "vmax": measure.high}
    figure, panels = _panels(shown, over and f"median {over}")
    values = medians(records, axes, measure.column)
    image = _draw_images(figure, panels, values, trained, [], style)
    options = {"ax": list(panels), "aspect": 30, "extend": measure.extend}
    colour_bar(figure, image, measure.label, **options)
    return figure


def _lines(records, shown, over, measure):
    by_cell = cells(records, list(shown.values()), measure.column)
    figure, panels = _panels(shown, over and f"median {over}")
    low, median, high, networks = (
        on_grid(values, list(shown.values())).reshape(len(panels), -1)
        for values in (by_cell.min(), by_cell.median(), by_cell.max(), by_cell.size())
    )
    x = np.arange(median.shape[1])
    for number, axis in enumerate(panels):
        style = {"color": PALETTE[0], "label": "lowest to highest"}
        if shown["x"].numeric:
            axis.fill_between(x, low[number], high[number], alpha=0.2, linewidth=0, **style)
            line(axis, x, median[number], color=PALETTE[0], label="median")
        else:
            axis.vlines(x, low[number], high[number], **style)
            axis.plot(x, median[number], "o", color=PALETTE[0], label="median")
        lost = x[(networks[number] > 0) & np.isnan(median[number])]
        if len(lost):
            on_edge = {"transform": axis.get_xaxis_transform(), "clip_on": False}
            axis.plot(lost, np.zeros(len(lost)), "x", color="black", label="not finite", **on_edge)
    panels[0].set_ylabel(measure.label)
    if measure.column == TEST_ACCURACY:
        panels[0].set_ylim(0, 1.02)
    named = {
        handle.get_label(): handle for axis in panels for handle in (*axis.lines, *axis.collections)
    }
    legend(figure, named.values(), "upper center", ncols=3)
    return figure


def verdict_counts(records: "pandas.DataFrame", axes: Sequence[Axis]) -> np.ndarray:
    """For each cell, how many networks have each of `VERDICTS` as first cause.

    Returns:
        An array of `[*shape(axes), len(VERDICTS)]`.
    """
    axes = [*axes, Axis.of("verdict", list(VERDICTS))]
    causes = records.assign(verdict=records["verdict"].map(first_cause))
    return np.nan_to_num(on_grid(cells(causes, axes, "verdict").size(), axes))


def _verdict_map(records, shown, over):
    from matplotlib.colors import ListedColormap

    counts = verdict_counts(records, list(shown.values()))
    trained = counts.any(axis=-1)
    codes = np.where(trained, counts.argmax(axis=-1), np.nan)
    figure, panels = _panels(shown, over and f"most frequent {over}")
    colours = ListedColormap(list(VERDICTS.values()))
    style = {"cmap": colours, "vmin": -0.5, "vmax": len(VERDICTS) - 0.5}
    present = [verdict for code, verdict in enumerate(VERDICTS) if (codes == code).any()]
    _draw_images(figure, panels, codes, trained, present, style)
    return figure


def _verdict_bars(records, shown, over):
    counts = verdict_counts(records, list(shown.values()))
    figure, panels = _panels(shown, over and f"shares {over}")
    with np.errstate(invalid="ignore"):  # A cell without networks is 0 / 0.
        shares = counts / counts.sum(axis=-1, keepdims=True)
    shares = np.nan_to_num(shares).reshape(len(panels), -1, len(VERDICTS))
    present = [code for code in range(len(VERDICTS)) if counts[..., code].any()]
    verdicts = list(VERDICTS)
    for axis, heights in zip(panels, shares, strict=True):
        tops = heights.cumsum(axis=1)
        for code in present:
            bottom, colour = tops[:, code] - heights[:, code], VERDICTS[verdicts[code]]
            axis.bar(range(len(heights)), heights[:, code], 0.9, bottom, color=colour)
    panels[0].set_ylim(0, 1)
    panels[0].set_ylabel("share of networks, by first cause")
    _legend(figure, [verdicts[code] for code in present])
    return figure


def _draw_images(figure, panels, values, trained, verdicts, style):
    """Draw values `[*panels, rows, columns]`, and return one of the images for the colour bar."""
    from matplotlib.colors import ListedColormap

    lost = trained & np.isnan(values)
    options = {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    grey = {"cmap": ListedColormap([NOT_FINITE["facecolor"]])}
    size = (len(panels), *values.shape[-2:])
    for axis, panel, missing in zip(panels, values.reshape(size), lost.reshape(size), strict=True):
        # Cells that are not trained are transparent, and show the hatched background.
        axis.patch.set(**NOT_TRAINED)
        if missing.any():
            axis.imshow(np.where(missing, 1, np.nan), **options, **grey)
        image = axis.imshow(panel, **options, **style)
    others = [NOT_FINITE] * bool(lost.any()) + [NOT_TRAINED] * (not trained.all())
    _legend(figure, verdicts, others)
    return image


def _legend(figure, verdicts, others=()):
    from matplotlib.patches import Patch

    patches = [Patch(color=VERDICTS[verdict], label=verdict) for verdict in verdicts]
    patches += [Patch(**other) for other in others]
    if patches:
        legend(figure, patches, "upper center", ncols=min(len(patches), 4))


def _panels(shown, note):
    """A figure with a panel for each value of `by`, or a single one, with a tick at each cell."""
    x, y, by = (shown.get(role) for role in ("x", "y", "by"))
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
