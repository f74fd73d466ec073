"""The measures of the symptoms: functions from `Measurements` to `[records, columns]`.

NaN stands where a value is not known.
"""

import numpy as np

from mnist_vg.diagnosis.learning import is_improving, is_yardstick, penalties, shares
from mnist_vg.diagnosis.measurements import known, typical


def cost_of_knowing_nothing(measurements):
    """The loss of chance, that of the same answer for all inputs, or else the first loss: `[1]`."""
    chance = known(measurements.chance_loss)
    if np.isfinite(chance):
        return chance
    usual = typical(measurements.same_answer)
    return np.array([usual]) if is_yardstick(measurements) else measurements.loss[:1]


def gradient_in_units_of_chance(measurements):
    """The relative condition number, of what knowing nothing costs and not of the loss."""
    reference = cost_of_knowing_nothing(measurements)
    with np.errstate(divide="ignore", invalid="ignore"):
        return measurements.condition * (measurements.loss / reference)[:, np.newaxis]


def first_not_finite(measurements):
    """Counts only of the last layer that has any: backpropagation carries them to the others."""
    counts = np.nan_to_num(measurements.nonfinite)
    later = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1] - counts
    return np.where(later == 0, counts, 0)


def update(measurements):
    """Norm of the update over that of the weights. Weights that are all zero have none."""
    return np.where(np.isfinite(measurements.update_ratio), measurements.update_ratio, np.nan)


def largest_update(measurements):
    """The largest of all layers."""
    largest = np.nan_to_num(update(measurements), nan=-1.0).max(axis=1, initial=-1.0)
    return np.where(largest < 0, np.nan, largest)[:, np.newaxis]


FADED = 0.01
"""A share of the largest learning rate with which weights move no more, beside what they did."""


FEWEST_BEFORE = 15
"""Fewest records that tell whether a network gets better, as `learning.FEWEST` a third."""


def faded_share(measurements):
    """Share of the records so far with a learning rate of at most `FADED` of the largest.

    0 if the network did not get better any more when the rate had faded, as far as the records
    before tell.
    """
    rate = measurements.rate
    with np.errstate(invalid="ignore"):
        faded = rate <= FADED * np.fmax.accumulate(rate)
    before = int(np.argmax(faded)) if faded.any() else 0
    if before >= FEWEST_BEFORE and not is_improving(measurements.until(before)):
        faded[:] = False
    share = np.cumsum(faded) / np.arange(1, len(rate) + 1)
    return np.where(np.isnan(rate), np.nan, share)[:, np.newaxis]


SWING = 0.2
"""A relative rise of the loss from one record to the next that is more than noise."""
SWING_RECORDS = 8


def rises(measurements):
    """Share of the last `SWING_RECORDS` records in which the loss rose by `SWING` or more.

    The loss of a batch rises and falls with its examples. It counts over what the same answer
    for all inputs costs on the same batch, and a rise has to lead from better to worse than that.
    """
    by_batch = not np.isfinite(measurements.test_loss).any()
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = measurements.test_loss
        if by_batch:
            loss = measurements.data_loss / measurements.same_answer
        rose = (loss[:-1] > 0) & (loss[1:] > (1 + SWING) * loss[:-1])
        if by_batch:
            rose &= (loss[:-1] <= 1 - SWING) & (loss[1:] >= 1 + SWING)
    windows_of = np.full((len(loss), 1), np.nan)
    if len(rose) >= SWING_RECORDS:
        windows = np.lib.stride_tricks.sliding_window_view(rose, SWING_RECORDS)
        windows_of[SWING_RECORDS:, 0] = windows.mean(axis=1)
    return windows_of


STUCK_RECORDS = 10


def share_learned(measurements):
    """Of test accuracies each record's share, of losses of batches the mean of ten: 0 or more."""
    values = shares(measurements)
    if not np.isfinite(measurements.accuracy).any() and len(values):
        means = np.full(len(values), np.nan)
        window = min(STUCK_RECORDS, len(values))
        views = np.lib.stride_tricks.sliding_window_view(values, window)
        means[window - 1 :] = views.mean(axis=-1)
        # So that ten records in a row are known after ten records.
        means[: window - 1] = means[window - 1]
        values = means
    return np.maximum(values, 0)[:, np.newaxis]


def difference_to_same_answer(measurements):
    """How much the same answer for all inputs would change the loss, as a share of it."""
    loss, same = measurements.data_loss, measurements.same_answer
    with np.errstate(divide="ignore", invalid="ignore"):
        return (np.abs(loss - same) / np.abs(same))[:, np.newaxis]


def below_zero(measurements):
    """How far below zero the loss is, over the first one or that of the same answer."""
    loss = measurements.data_loss
    usual = np.fmax(np.abs(known(loss)), typical(np.abs(measurements.same_answer)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (-loss / usual)[:, np.newaxis]


ROUNDING = 1e-6
"""What the loss of the same answer may be where it is 0: the mean of float32 outputs is rounded."""


def costs_nothing(measurements):
    """1 where the loss is 0, and that of the same answer for all inputs no more than rounding."""
    nothing = (measurements.data_loss == 0) & (np.abs(measurements.same_answer) <= ROUNDING)
    return nothing.astype(float)[:, np.newaxis]


def penalty(measurements):
    """What regularizers and other penalties add to the loss, over that of the data."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (penalties(measurements) / np.abs(measurements.data_loss))[:, np.newaxis]


GROWN_RECORDS = 6
"""Fewest records in whose last third a loss can be said to have risen."""


def growth(measurements):
    """The loss, averaged over a third of the training, over the first one.

    NaN with a test split, which tells whether the network learns.
    """
    if np.isfinite(measurements.accuracy).any():
        return np.full((len(measurements.step), 1), np.nan)
    counts = np.isfinite(measurements.loss) & (measurements.loss > 0)
    loss = np.where(counts, measurements.loss, np.nan)
    third = max(len(loss) // 3, 1)
    means = np.full(len(loss), np.nan)
    if len(loss) >= GROWN_RECORDS:
        views = np.lib.stride_tricks.sliding_window_view(loss, third)
        means[third - 1 :] = views.mean(axis=-1) / loss[0]
    return means[:, np.newaxis]


FINITE_DATA = ("data without values that are not finite",)
FINITE_LOSS = ("a loss without log(0), division by 0 or sqrt at 0", "labels that fit the loss")
SMALLER_STEPS = ("a lower learning rate", "smaller initial weights", "gradient clipping")


def origin(measurements, record):
    """Where in the step the values that are not finite begin, as far as the record tells.

    Returns:
        Words, and what to try.
    """
    if measurements.nonfinite_weights[record]:
        return "; the weights are not finite, so it began in an update before", SMALLER_STEPS
    inputs, targets, outputs = measurements.nonfinite_batch[record]
    if inputs:
        return f"; it began in the inputs: {inputs:.0f} of the batch's are not finite", FINITE_DATA
    if outputs:
        return "; inputs and weights are finite, so it began in a layer", SMALLER_STEPS
    if targets:
        return (
            f"; it began in the targets: {targets:.0f} of the batch's are not finite",
            FINITE_DATA,
        )
    if np.isfinite(measurements.loss[record]):
        return "; the loss is finite, so it began in backpropagation", FINITE_LOSS
    if np.isfinite(measurements.data_loss[record]):
        return "; it began in a penalty", FINITE_LOSS
    if np.isfinite(measurements.spread[record]):
        return "; the model's outputs are finite, so it began in the loss", FINITE_LOSS
    return "", SMALLER_STEPS
