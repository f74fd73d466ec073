"""What a sweep has found so far, over two of its settings, for the tab."""

from pathlib import Path
from typing import Any

import numpy as np

from mnist_vg.runs.run import SWEEP_FILE
from mnist_vg.sweeps.axes import Axis, choose, medians
from mnist_vg.sweeps.heatmaps import VERDICTS, verdict_counts
from mnist_vg.sweeps.table import (
    GRADIENT_RATIO,
    TEST_ACCURACY,
    first_records,
    last_records,
    parts_of,
    read_sweep,
)


def sweep_map(folder: Path) -> dict[str, Any]:
    """A table of cells: rows are the values of the second varied setting, columns of the first.

    A cell has the medians of its networks, which differ in their seeds and in any further varied
    settings, or their most frequent verdict; None where none is trained yet, or most are not
    finite. See `heatmaps.draw`, which draws the same.

    Args:
        folder: of the sweep.

    Returns:
        `x` and `y`, each with `field`, `title`, `values` and `labels`, `y` None where one setting
        was varied; rows of `accuracy`, of the test split, from 0 to 1; of `first_ratio` and
        `last_ratio`, log10 of layer 1's mean absolute gradient over the last layer's in the first
        and the last record; of `verdict`; and `colours`, of the verdicts. Empty as long as there is
        no table.

    Raises:
        UsageError: nothing was varied, or the sweep's files are damaged.
    """
    if not (folder / SWEEP_FILE).exists() or not parts_of(folder):
        return {}
    records, fields = read_sweep(folder)
    shown, _ = choose(fields, 0, None, None, None)
    axes = list(shown.values())
    first, last = first_records(records), last_records(records)
    return {
        "x": _axis(shown["x"]),
        "y": _axis(shown["y"]) if "y" in shown else None,
        "accuracy": _rows(medians(last, axes, TEST_ACCURACY)),
        "first_ratio": _rows(medians(first, axes, GRADIENT_RATIO)),
        "last_ratio": _rows(medians(last, axes, GRADIENT_RATIO)),
        "verdict": _verdicts(last, axes),
        "colours": VERDICTS,
    }


def _axis(axis: Axis):
    labels = list(axis.labels)
    return {"field": axis.field, "title": axis.title, "values": axis.values, "labels": labels}


def _rows(values):
    return [[None if np.isnan(v) else float(v) for v in row] for row in np.atleast_2d(values)]


def _verdicts(records, axes):
    counts = verdict_counts(records, axes)
    names = np.array([*VERDICTS, None], object)
    codes = np.where(counts.any(axis=-1), counts.argmax(axis=-1), -1)
    return np.atleast_2d(names[codes]).tolist()
