"""Runs to Matplotlib figures, from what their event files hold."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mnist_vg.runs import Run
from mnist_vg.tags import GRADIENT_MEAN_ABS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 3
"""Panels side by side."""


def gradient_profile(runs: Sequence[Run]) -> "Figure":
    """Mean absolute gradient by layer on a log axis, a line a recorded step, a panel a run."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(runs))
    rows = -(-len(runs) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows + 0.5))
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axis, run in zip(axes, runs, strict=False):
        steps = run.history["step"]
        for step, profile in zip(steps, run.history[GRADIENT_MEAN_ABS], strict=True):
            colour = colormaps["viridis"](step / max(steps[-1], 1))
            axis.semilogy(range(1, len(profile) + 1), profile, color=colour)
        axis.set_title(run.name)
        axis.set_xlabel("layer")
    axes[0].set_ylabel("mean |gradient|")
    return figure


def png(figure: "Figure") -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()
