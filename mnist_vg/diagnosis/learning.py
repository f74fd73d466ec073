"""What a run has learned: better than what knows nothing, and still getting better."""

import numpy as np

from mnist_vg.diagnosis.measurements import Measurements, kappas, known, typical
from mnist_vg.runs.results import LEARNED_KAPPA

SURE = 3.0
"""Standard errors that a difference must be away from zero: by chance, one in 740 is."""

FEWEST = 5
"""Fewest records of single batches from which anything is concluded."""

GAIN = 0.01
"""The least gain that counts, as a share of what knowing nothing costs, or of the loss before."""


NOTHING = 1e-3
"""A cost of the same answer for all inputs that is nothing, as a share of the first loss."""


def shares(measurements: Measurements) -> np.ndarray:
    """How much better than what knows nothing each record is: 0 as good as that, 1 perfect.

    With test accuracies it is kappa, see `runs.results`. Otherwise it is the share of the loss
    that the same answer for all inputs costs and the model saves; for a squared error, that is
    the explained variance, R squared. The model may be worse, down to -1. It is NaN where
    neither is recorded, and where the same answer costs nothing: then it is no yardstick, as in
    a loss that only compares the answers with each other.

    Returns:
        `[records]`.
    """
    by_accuracy = kappas(measurements)
    if np.isfinite(by_accuracy).any():
        return by_accuracy
    loss, same = measurements.data_loss, measurements.same_answer
    if not is_yardstick(measurements):
        return np.full(len(loss), np.nan)
    with np.errstate(invalid="ignore", over="ignore"):
        saved = (same - loss) / np.fmax(np.abs(same), np.abs(loss))
    return np.where(loss == same, 0.0, saved)


def is_yardstick(measurements: Measurements) -> bool:
    """Whether the same answer for all inputs is recorded, and costs something."""
    first = np.abs(known(measurements.data_loss))[0]
    return bool(typical(np.abs(measurements.same_answer)) > NOTHING * first)


def has_learned(measurements: Measurements) -> bool | None:
    """Whether the newest records show that the model has learned; None if they cannot.

    A test accuracy shows it with a kappa of `LEARNED_KAPPA`. Losses of single batches are noisy:
    the share that is saved has to be above zero by `SURE` standard errors of its mean, over the
    newest third of the records.
    """
    if np.isfinite(kappas(measurements)).any():
        return bool(kappas(measurements)[-1] >= LEARNED_KAPPA)
    share, error = share_learned(measurements)
    return None if np.isnan(share) else bool(share >= GAIN and share > SURE * error)


def share_learned(measurements: Measurements) -> tuple[float, float]:
    """Mean of `shares` over the newest third of the records, and its standard error.

    NaN for both with fewer than `FEWEST` such records.
    """
    values = shares(measurements)
    newest = values[-max(len(values) // 3, FEWEST) :]
    newest = newest[~np.isnan(newest)]
    if len(newest) < FEWEST:
        return np.nan, np.nan
    lost = len(measurements.loss) and not np.isfinite(measurements.loss[-1])
    return (-1.0 if lost else float(newest.mean())), _error(newest)


def is_improving(measurements: Measurements) -> bool:
    """Whether the newer two thirds of the records get better.

    That is if the share saved grows or the loss falls along a line, by `GAIN` and by `SURE`
    standard errors of its slope. Losses of batches are taken without penalties.
    """
    if np.isfinite(measurements.test_loss).any():
        return _grows(kappas(measurements)) or _grows(-_log(measurements.test_loss))
    averaged = np.isfinite(measurements.mean_loss).any()
    losses = measurements.mean_loss if averaged else measurements.loss
    losses = losses - np.nan_to_num(penalties(measurements))
    return _grows(shares(measurements), FEWEST) or _grows(-_log(losses), FEWEST)


def penalties(measurements: Measurements) -> np.ndarray:
    """What the loss of each record has beside that of the data, `[records]`."""
    with np.errstate(invalid="ignore", over="ignore"):
        added = measurements.loss - measurements.data_loss
    return np.where(np.isfinite(added), added, np.nan)


def _grows(values, fewest=3):
    newest = values[len(values) // 3 :]
    newest = newest[np.isfinite(newest)]
    if len(newest) < fewest:
        return False
    at = np.arange(len(newest)) - (len(newest) - 1) / 2
    slope = (at * newest).sum() / (at**2).sum()
    left = newest - newest.mean() - slope * at
    error = np.sqrt((left**2).sum() / (len(newest) - 2) / (at**2).sum())
    return bool(slope * len(newest) >= GAIN and slope >= SURE * error)


def _log(losses):
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log(losses)


def _error(values):
    """Standard error of the mean; of a single value it is not known, and taken for 0."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
