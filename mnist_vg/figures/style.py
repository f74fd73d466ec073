"""What the figures share: colours, panels, axes and legends."""

import functools
import io
import math
import re
import textwrap
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_vg.runs.run import Run
from mnist_vg.scenarios.scenario import QUICK_END
from mnist_vg.scenarios.suites import SUITES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, made for colour-blind readers; without yellow, too pale on white."""

LINE_STYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)))

SMALL = 8
"""Font size of the smallest text, in points."""

LINE_HEIGHT = 1.3 * SMALL / 72
"""Height of a line of the smallest text, in inches."""


def looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour and line style of each scenario in a figure, as Matplotlib's options of a line.

    They depend only on the name, and so are the same in every figure. Only if two scenarios of a
    figure would look the same, one of them gets the next look that is free.
    """
    names, count = list(names), len(PALETTE) * len(LINE_STYLES)
    positions: dict[str, int] = {}
    # Those of suites are distinct already, and keep what they have.
    for name in sorted(names, key=lambda name: (not suite_of(_scenario_of(name)), name)):
        own = _position(_scenario_of(name))
        free = set(range(count)).difference(positions.values())
        looked_at = ((own + n) % count for n in range(count))
        positions[name] = next((n for n in looked_at if n in free), own % count)
    return {
        name: {
            "color": PALETTE[positions[name] % len(PALETTE)],
            "linestyle": LINE_STYLES[positions[name] // len(PALETTE)],
        }
        for name in names
    }


def _scenario_of(name):
    return re.sub(rf"({QUICK_END})?(-seed\d+)?$", "", name)


def _position(name):
    names = suite_of(name)
    return names.index(name) if names else zlib.crc32(name.encode())


def suite_of(name: str) -> list[str]:
    """The names of all scenarios in a scenario's suite; empty if it is in no suite."""
    suites = ([scenario.name for scenario in suite] for suite in SUITES.values())
    return next((names for names in suites if name in names), [])


def png(figure: "Figure") -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def grid(count, **options):
    """A figure with `count` panels that share their axes, at most four per row."""
    rows = math.ceil(count / 4)
    columns = math.ceil(count / rows)
    figure, axes = panels(rows, columns, sharex=True, sharey=True, **options)
    for axis in axes.flat[count:]:
        axis.remove()
    for axis in axes.flat[count - columns : count]:
        axis.tick_params(labelbottom=True)
    return figure, axes.flat[:count]


def panels(rows, columns, height=None, square=False, layout="constrained", **share):
    """A figure and its panels `[rows, columns]`, sized for a printed page."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    width = {1: 4, 2: 3.6, 3: 2.7}.get(columns, 2.1)
    height = height or (width + 0.3 if square else 0.75 * width)
    figure = Figure(figsize=(width * columns + 1, height * rows + 0.8), layout=layout)
    style = {"font.size": SMALL, "axes.labelsize": SMALL}
    with rc_context(style | {"axes.spines.top": False, "axes.spines.right": False}):
        axes = figure.subplots(rows, columns, squeeze=False, **share)
    for axis in axes.flat:
        axis.tick_params(labelsize=SMALL)
    # Without pyplot, a notebook shows a figure only if it has this method.
    figure._repr_png_ = functools.partial(png, figure)
    return figure, axes


def column_ticks(figure, axes, labels, numeric):
    """Label columns 0, 1, …: rotate words that would overlap, and leave out some of the numbers."""
    # One inch is left for the colour bar and other labels.
    room = (figure.get_figwidth() - 1) / axes[0].get_gridspec().ncols
    rotate = not numeric and _length(labels) * len(labels) > room
    if rotate:
        figure.set_figheight(figure.get_figheight() + _length(labels))
    every = math.ceil(len(labels) * (LINE_HEIGHT if rotate else _length(labels)) / room)
    for axis in axes:
        positions = range(0, len(labels), every)
        axis.set_xticks(positions, labels[::every], rotation=90 if rotate else 0)


def row_ticks(figure, axes, labels, numeric):
    """Label rows 0, 1, …: enlarge the figure for words, and leave out some of the numbers."""
    rows = axes[0].get_gridspec().nrows
    every = 1
    if numeric:
        every = math.ceil(len(labels) * LINE_HEIGHT * rows / (figure.get_figheight() - 0.8))
    else:
        height, width = figure.get_figheight(), figure.get_figwidth() + _length(labels)
        figure.set_size_inches(width, max(height, len(labels) * LINE_HEIGHT * rows + 0.8))
    for axis in axes:
        axis.set_yticks(range(0, len(labels), every), labels[::every])


def _length(labels):
    """Length of the longest label with the space beside it, in inches."""
    return (0.6 * max(map(len, labels)) + 1) * SMALL / 72


def set_title(axis, name, second_line=""):
    """Set a panel's title: a name, wrapped if it is long, and a second line."""
    axis.set_title(f"{textwrap.fill(name, 24)}\n{second_line}".strip(), fontsize=SMALL + 1, pad=7)


def line(axis, x, y, **style):
    """Draw a line; if only one value is finite, draw a dot, because its line has no length."""
    axis.plot(x, y, marker="o" if np.isfinite(y).sum() == 1 else None, markersize=3, **style)


def legend(figure, handles, place, ncols=1):
    """Draw a legend outside the panels, such as at "upper center"."""
    options = {"fontsize": SMALL, "frameon": False, "handlelength": 3, "markerscale": 1.5}
    figure.legend(handles=handles, loc=f"outside {place}", ncols=ncols, **options)


def colour_bar(figure, colours, label, **options):
    """Draw a colour bar for an image or a colour map; options are those of `Figure.colorbar`."""
    bar = figure.colorbar(colours, **options)
    bar.set_label(label, fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)


def evenly_spread(count, most):
    """At most `most` of the indices 0 … `count` - 1, evenly spread, with the first and the last."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


def finite(values):
    """The values, with NaN for those that are not finite: NaN leaves a gap in a line."""
    return np.where(np.isfinite(values), values, np.nan)


def positive(values):
    """The values, with NaN for those that a log axis cannot show."""
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def log_scale(axis, arrays):
    """Make the vertical axis logarithmic, with limits at powers of ten that hold all values.

    Minor ticks and mathematical text are left out, because they are slow to draw.
    """
    values = np.concatenate([positive(array).ravel() for array in arrays])
    exponents = np.log10(values[~np.isnan(values)])
    low, high = (-1, 0) if not len(exponents) else (exponents.min(), exponents.max())
    low = math.floor(low)
    axis.set_yscale("log")
    axis.set_ylim(10.0**low, 10.0 ** max(math.ceil(high), low + 1))
    axis.minorticks_off()
    axis.yaxis.set_major_formatter(
        lambda value, _: "10" + f"{math.log10(value):.0f}".translate(_SUPERSCRIPTS)
    )


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def grouped(runs: Sequence[Run]) -> dict[tuple[Path, str], list[Run]]:
    """Runs by folder and scenario, in the order of the runs, and the lowest seed first."""
    scenarios: dict[tuple[Path, str], list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.settings.get("seed") or 0):
        scenarios.setdefault((run.folder.parent, run.recipe), []).append(run)
    return scenarios


def by_scenario(runs: Sequence[Run]) -> dict[tuple[Path, str], list[Run]]:
    """Runs by folder and scenario, in the order of the suite, and the lowest seed first."""

    def position(item):
        _, name = item[0]
        suite = suite_of(name)
        return suite, suite.index(name) if suite else name

    return dict(sorted(grouped(runs).items(), key=position))
