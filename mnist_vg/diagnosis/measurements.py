"""What the rules look at: a run's records as a row each of what tells health from disease.

The relative condition number of the loss with respect to a layer's weights is
`norm(weights) * norm(gradient) / loss` (Trefethen and Bau 1997, lecture 12): by how many
percent the loss changes, at most and to first order, when the weights change by one. It is
the same for every scale of the loss and of the weights.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mnist_vg.runs import tags
from mnist_vg.runs.results import kappa


@dataclass(frozen=True)
class Measurements:
    """What the rules look at: a row a record, a column a layer; NaN where it is not recorded.

    `loss` is that of the step's batch, `test_loss` and `accuracy` those of the test
    split, `chance_accuracy` and `chance_loss` those of knowing nothing; `condition` is
    the relative condition number; `nonfinite` counts values of gradients and weights;
    `update_ratio` is the norm of an update over that of the weights; `dead` and
    `saturated` are shares of units, a column a layer that has an activation.
    """

    step: np.ndarray
    loss: np.ndarray
    test_loss: np.ndarray
    accuracy: np.ndarray
    chance_accuracy: np.ndarray
    chance_loss: np.ndarray
    layers: Sequence[str]
    condition: np.ndarray
    nonfinite: np.ndarray
    update_ratio: np.ndarray
    activation_layers: Sequence[str]
    dead: np.ndarray
    saturated: np.ndarray

    def then(self, later: "Measurements") -> "Measurements":
        """These measurements, and those of later records of the same run, layer by layer."""
        layers = tuple(dict.fromkeys([*self.layers, *later.layers]))
        hidden = tuple(dict.fromkeys([*self.activation_layers, *later.activation_layers]))
        first, second = (part._with_columns(layers, hidden) for part in (self, later))
        rows = {
            key: np.concatenate([values, getattr(second, key)])
            for key, values in vars(first).items()
            if isinstance(values, np.ndarray)
        }
        return Measurements(layers=layers, activation_layers=hidden, **rows)

    def _with_columns(self, layers, hidden):
        """The same with a column for each of these layers, in this order."""
        tables = {
            key: _widened(getattr(self, key), names, columns)
            for keys, names, columns in (
                (("condition", "nonfinite", "update_ratio"), self.layers, layers),
                (("dead", "saturated"), self.activation_layers, hidden),
            )
            for key in keys
        }
        return dataclasses.replace(self, layers=layers, activation_layers=hidden, **tables)


def _widened(table, names, columns):
    """A table with other columns; NaN in those that it does not know by name."""
    places = [names.index(name) if name in names else -1 for name in columns]
    unknown = np.full((len(table), 1), np.nan)
    return np.concatenate([table, unknown], axis=1)[:, places]


def histogram_norm(buckets: np.ndarray) -> np.ndarray:
    """Norm of the values that a histogram counts, taken as even within each bucket.

    Good to a few percent where values spread over the buckets; too large where nearly all
    are in one and few far away: seven times, say, of a million zeros and a hundred normals.

    Args:
        buckets: rows of left edge, right edge and count, `[..., buckets, 3]`.
    """
    left, right, counts = np.moveaxis(buckets, -1, 0)
    return np.sqrt((counts * (left**2 + left * right + right**2) / 3).sum(axis=-1))


def measurements_of(history: Mapping) -> Measurements:
    """The measurements in a run's records; for `history` see `events.History`."""
    steps = history["step"]
    layers = tuple(history.get("layers", ()))
    hidden = tuple(history.get("activation_layers", ()))

    def column(tag):
        return np.array(history.get(tag, np.full(len(steps), np.nan)))

    def table(group, names=layers):
        return np.array(history.get(group, np.full((len(steps), len(names)), np.nan)))

    def norm(scalars, histograms):
        if scalars not in history and histograms in history:
            return histogram_norm(history[histograms])
        return table(scalars)

    loss = column(tags.LOSS_TRAIN)
    counts = {group: np.nan_to_num(table(group)) for group in tags.NONFINITE}
    # Steps at which no gradient was measured have notes, or final weights.
    rows = np.isfinite(table(tags.GRADIENT_MEAN_ABS)) | (counts[tags.GRADIENT_NONFINITE] > 0)
    rows = rows.any(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights, gradients = norm("weight_norm", "weights"), norm("gradient_norm", "gradients")
        # Weights that begin at zero have no size yet to set a gradient against.
        condition = np.where((weights == 0) & (gradients > 0), np.nan, weights * gradients)
        # Nothing is large or small beside a loss that overflows, or that has no natural zero.
        usable = np.isfinite(loss) & (loss > 0)
        condition /= np.where(usable, loss, np.nan)[:, np.newaxis]
    arrays = {
        "step": steps,
        "loss": loss,
        "test_loss": column(tags.LOSS_TEST),
        "accuracy": column(tags.ACCURACY_TEST),
        "chance_accuracy": column(tags.CHANCE_ACCURACY),
        "chance_loss": column(tags.CHANCE_LOSS),
        "condition": condition,
        "nonfinite": sum(counts.values()),
        "update_ratio": table(tags.UPDATE_RATIO),
        "dead": table(tags.UNITS_DEAD, hidden),
        "saturated": table(tags.UNITS_SATURATED, hidden),
    }
    rowwise = {key: np.asarray(values)[rows] for key, values in arrays.items()}
    return Measurements(layers=layers, activation_layers=hidden, **rowwise)


def known(values):
    """The first value that is recorded, `[1]`; NaN where none is."""
    return values[np.isfinite(values)][:1] if np.isfinite(values).any() else np.array([np.nan])


def kappas(measurements):
    """NaN where accuracy or chance is not recorded, as in runs of earlier versions."""
    return kappa(measurements.accuracy, known(measurements.chance_accuracy))


def share_learned(measurements):
    """Kappa, from 0 on; where it is not known, the share of the first loss that is gone."""
    shares = kappas(measurements)
    if not np.isfinite(shares).any():
        loss = np.where(
            np.isfinite(measurements.loss) & (measurements.loss > 0), measurements.loss, np.nan
        )
        shares = 1 - loss / loss[:1]
    return np.maximum(shares, 0)[:, np.newaxis]
