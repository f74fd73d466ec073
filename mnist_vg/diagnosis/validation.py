"""The measures of symptoms that validation shows: `[validations, 1]` each.

They compare losses without penalties, as shares of what knowing nothing costs. NaN stands where
that is not known, as with weighted examples: Keras weights those of the training alone.
"""

from typing import NamedTuple

import numpy as np

from mnist_vg.diagnosis.learning import penalties
from mnist_vg.diagnosis.measurements import Measurements
from mnist_vg.diagnosis.rules import cost_of_knowing_nothing

LOST = 0.5
"""Share of what validation had gained that has to be lost again before it is overfitting."""

BEHIND = 0.1
"""Share of the cost of knowing nothing that validation has to cost more than training."""

LEARNED = 0.3
"""Share of the cost of knowing nothing that training has to save before validation is compared."""


class _Losses(NamedTuple):
    validation: np.ndarray
    training: np.ndarray
    nothing: np.ndarray


def _losses(measurements: Measurements) -> _Losses:
    """Losses without penalties, `[validations]`, and the cost of knowing nothing, `[1]`."""
    _, validation, training, _ = measurements.validation.T
    known = len(measurements.step) and not np.isfinite(measurements.example_weight).any()
    if not known:
        unknown = np.full(len(validation), np.nan)
        return _Losses(unknown, unknown, np.array([np.nan]))
    penalty = penalties(measurements)
    penalty = penalty[np.isfinite(penalty)].mean() if np.isfinite(penalty).any() else 0.0
    return _Losses(validation - penalty, training - penalty, cost_of_knowing_nothing(measurements))


def lost_again(measurements):
    """Share of what was gained on the validation data that is lost again, while training gains.

    0 if a callback has ended the training: early stopping does so for that reason.
    """
    losses = _losses(measurements)
    best = np.minimum.accumulate(np.where(np.isnan(losses.validation), np.inf, losses.validation))
    row_of_best = np.where(losses.validation == best, np.arange(len(best)), 0)
    at_best = losses.training[np.maximum.accumulate(row_of_best)]
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = (losses.validation - best) / (losses.nothing - best)
    gaining = (best < losses.nothing) & (losses.training < at_best)
    counts = gaining & ~measurements.stopped.any()
    return np.where(np.isnan(losses.nothing), np.nan, np.where(counts, lost, 0.0))[:, np.newaxis]


def gap(measurements):
    """How much more validation costs than training.

    0 where training has not learned, and where validation was better before.
    """
    losses = _losses(measurements)
    with np.errstate(divide="ignore", invalid="ignore"):
        learned = (losses.nothing > 0) & (losses.training <= (1 - LEARNED) * losses.nothing)
        share = (losses.validation - losses.training) / losses.nothing
    share = np.where(learned, share, 0.0)[:, np.newaxis]
    return np.where(lost_again(measurements) >= LOST, 0.0, share)


def behind(measurements):
    """How much of their first values the moving averages hold, where validation is behind."""
    losses, left = _losses(measurements), measurements.validation[:, 3]
    with np.errstate(invalid="ignore"):
        is_behind = losses.validation - losses.training >= BEHIND * losses.nothing
    return np.where(np.isnan(left), np.nan, is_behind * np.nan_to_num(left))[:, np.newaxis]
