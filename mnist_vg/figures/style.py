"""What the figures have in common: colours, panels, axes, files."""

import functools
import io
import math
import re
import textwrap
import zlib
from typing import TYPE_CHECKING

import numpy as np

from mnist_vg.scenarios.suites import SUITES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, which the colour-blind tell apart; their yellow fades on white."""

LINE_STYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)))

SMALL = 8
"""Size of the smallest text, in points."""

LINE = 1.3 * SMALL / 72
"""Height of a line of such text, in inches."""


def colour(name: str) -> str:
    """The colour of a scenario, by its name alone: the same in every figure."""
    return PALETTE[_position(name) % len(PALETTE)]


def line_style(name: str) -> str | tuple:
    """The line style of a scenario, which tells it from the others of its colour."""
    return LINE_STYLES[_position(name) // len(PALETTE) % len(LINE_STYLES)]


def _position(name):
    name = re.sub(r"(-quick)?(-seed\d+)?$", "", name)
    names = suite_of(name)
    return names.index(name) if names else zlib.crc32(name.encode())


def suite_of(name: str) -> list[str]:
    """The names in the suite of a scenario, none where it is in no suite."""
    suites = ([scenario.name for scenario in suite] for suite in SUITES.values())
    return next((names for names in suites if name in names), [])


def png(figure: "Figure") -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def grid(count, **options):
    """A figure, and `count` panels in it that share axes, at most four side by side."""
    rows = math.ceil(count / 4)
    columns = math.ceil(count / rows)
    figure, axes = panels(rows, columns, sharex=True, sharey=True, **options)
    for axis in axes.flat[count:]:
        axis.remove()
    for axis in axes.flat[count - columns : count]:
        axis.tick_params(labelbottom=True)
    return figure, axes.flat[:count]


def panels(rows, columns, height=None, square=False, layout="constrained", **share):
    """A figure and its panels, small enough for a page of print."""
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
    # A notebook shows a figure of its own accord only where pyplot was imported.
    figure._repr_png_ = functools.partial(png, figure)
    return figure, axes


def column_ticks(figure, axes, labels, numeric):
    """Label columns at 0, 1, …; turn words, and thin out numbers, that would overlap."""
    # An inch is for the colour bar and other labels.
    room = (figure.get_figwidth() - 1) / axes[0].get_gridspec().ncols
    turned = not numeric and _length(labels) * len(labels) > room
    if turned:
        figure.set_figheight(figure.get_figheight() + _length(labels))
    every = math.ceil(len(labels) * (LINE if turned else _length(labels)) / room)
    for axis in axes:
        places = range(0, len(labels), every)
        axis.set_xticks(places, labels[::every], rotation=90 if turned else 0)


def row_ticks(figure, axes, labels, numeric):
    """Label rows at 0, 1, …; make place for words, and thin out numbers that would overlap."""
    rows = axes[0].get_gridspec().nrows
    every = 1
    if numeric:
        every = math.ceil(len(labels) * LINE * rows / (figure.get_figheight() - 0.8))
    else:
        height, width = figure.get_figheight(), figure.get_figwidth() + _length(labels)
        figure.set_size_inches(width, max(height, len(labels) * LINE * rows + 0.8))
    for axis in axes:
        axis.set_yticks(range(0, len(labels), every), labels[::every])


def _length(labels):
    """Inches that the longest label takes, with the space beside it."""
    return (0.6 * max(map(len, labels)) + 1) * SMALL / 72


def set_title(axis, name, more=""):
    """Name a panel, with a second line of more."""
    axis.set_title(f"{textwrap.fill(name, 24)}\n{more}".strip(), fontsize=SMALL + 1, pad=7)


def line(axis, x, y, **style):
    """A line, or a dot where there is but one point."""
    axis.plot(x, y, marker="o" if np.isfinite(y).sum() == 1 else None, markersize=3, **style)


def legend(figure, handles, place, ncols=1):
    """A legend outside of the panels, where it covers nothing."""
    options = {"fontsize": SMALL, "frameon": False, "handlelength": 3, "markerscale": 1.5}
    figure.legend(handles=handles, loc=f"outside {place}", ncols=ncols, **options)


def colour_bar(figure, colours, label, **place):
    """A bar that tells what colours stand for."""
    bar = figure.colorbar(colours, **place)
    bar.set_label(label, fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)


def spread(count, most):
    """At most so many of `count` positions, evenly spread, the first and the last among them."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


def finite(values):
    """Values with NaN for what is not finite, which leaves a gap."""
    return np.where(np.isfinite(values), values, np.nan)


def positive(values):
    """What a log axis can show."""
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def log_scale(axis, tables):
    """A log axis of whole decades, without minor ticks and formulas, which are slow to draw."""
    values = np.concatenate([positive(table).ravel() for table in tables])
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
