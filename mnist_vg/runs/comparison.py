"""A run beside a good one: from which step on which layers differ."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mnist_vg.runs.tags import (
    GRADIENT_MEAN_ABS,
    LOSS_TRAIN,
    NONFINITE,
    UNITS_DEAD,
    UNITS_SATURATED,
    UPDATE_RATIO,
)

FACTOR = 10
"""A layer differs if a measure is at least this many times as large or as small.

Set on the seeds of healthy scenarios: docs/diagnosis.md has the figures.
"""
SHARE = 0.5
"""A layer differs if the shares of its dead or saturated units are this far apart; set likewise."""
LOW_LOSS = 0.1
"""From this share of its first loss on, a run is not compared by factors.

Near an optimum, gradients are small and differ by decades from seed to seed.
"""

RATIOS = {
    GRADIENT_MEAN_ABS: "mean absolute gradient",
    UPDATE_RATIO: "update relative to the weights",
    "weight_norm": "norm of the weights",
    "activation_std": "spread of the activations",
}
SHARES = {UNITS_DEAD: "share of dead units", UNITS_SATURATED: "share of saturated units"}
COUNTS = {
    tag: f"NaN and Inf in the {tag.removesuffix('_nonfinite')}s" for tag in NONFINITE
}  # One is enough, in one record.
MEASURES = RATIOS | SHARES | COUNTS
"""What is compared of each layer, in words."""


@dataclass(frozen=True)
class Difference:
    """A measure of a layer that is not what it is in the good run.

    Attributes:
        step: of the first record that differs.
        layer: the layer's name.
        measure: its tag, one of `MEASURES`.
        value: what the run recorded at this step.
        good: what the good run recorded.
    """

    step: int
    layer: str
    measure: str
    value: float
    good: float

    @property
    def words(self) -> str:
        """The measure and both values in words."""
        value, good = (
            f"{number:.0%}" if self.measure in SHARES else f"{number:.2g}"
            for number in (self.value, self.good)
        )
        return f"{MEASURES[self.measure]}{self._times()}: {value}, and {good} in the good run"

    def _times(self):
        if self.measure not in RATIOS or 0 in (self.value, self.good):
            return ""
        ratio = self.value / self.good
        return f" {ratio:,.0f} times as large" if ratio > 1 else f" 1/{1 / ratio:,.0f} as large"


@dataclass(frozen=True)
class Comparison:
    """A run beside a good one.

    Attributes:
        records: how many records of the two have a step in common; no others are compared.
        differences: by step; at the same step, in the order of `MEASURES` and of the layers.
        only_here: layers that the good run does not have.
        only_good: layers that only the good run has.
    """

    records: int
    differences: list[Difference]
    only_here: list[str]
    only_good: list[str]


def compare(history: Mapping, good: Mapping) -> Comparison:
    """Find the first records and the layers in which a run differs from a good one.

    Records are matched by step, and layers by name. Two records in a row have to differ,
    except for NaN and Inf.

    Args:
        history: what the run has recorded, see `runs.History`.
        good: what the good run has recorded.
    """
    steps, rows, good_rows = np.intersect1d(history["step"], good["step"], return_indices=True)
    found = []
    for measure in MEASURES:
        if measure not in history or measure not in good:
            continue
        axis = "activation_layers" if measure.startswith(("units", "activation")) else "layers"
        layers, columns, good_columns = np.intersect1d(
            history[axis], good[axis], return_indices=True
        )
        order = np.argsort(columns)
        values = history[measure][np.ix_(rows, columns[order])]
        others = good[measure][np.ix_(good_rows, good_columns[order])]
        first = _first_differing(measure, values, others, _is_low(history, rows))
        found += [
            Difference(
                int(steps[at]), str(layer), measure, *map(float, (values[at, n], others[at, n]))
            )
            for n, (layer, at) in enumerate(zip(layers[order], first, strict=True))
            if at is not None
        ]
    here, there = (list(map(str, of.get("layers", ()))) for of in (history, good))
    return Comparison(
        len(steps),
        sorted(found, key=lambda difference: difference.step),
        [layer for layer in here if layer not in there],
        [layer for layer in there if layer not in here],
    )


def _is_low(history, rows):
    """Whether the loss is low, `[records]`; False where it is not recorded."""
    if LOSS_TRAIN not in history:
        return np.zeros(len(rows), bool)
    losses = history[LOSS_TRAIN]
    known = losses[np.isfinite(losses)]
    return (losses[rows] >= 0) & (losses[rows] <= LOW_LOSS * known[:1].sum())


def _first_differing(measure, values, good, low):
    """For each layer the first row that differs; None where no row does."""
    known = np.flatnonzero((np.isfinite(values) & np.isfinite(good)).any(axis=1))
    values, good = values[known], good[known]
    if measure in COUNTS:
        lasting = (values > 0) & (good == 0)
    else:
        ways = [_lies_below(measure, *pair) for pair in ((values, good), (good, values))]
        ways = [way & ~low[known, np.newaxis] if measure in RATIOS else way for way in ways]
        lasting = np.logical_or(*(way[:-1] & way[1:] for way in ways))
    return [known[np.argmax(column)] if column.any() else None for column in lasting.T]


def _lies_below(measure, values, good):
    if measure in SHARES:
        return good - values >= SHARE
    return np.isfinite(good) & (good > 0) & (good >= FACTOR * values)
