"""What the rules for symptoms look at: a run's records, one row per record.

The relative condition number of the loss with respect to a layer's weights is
`norm(weights) * norm(gradient) / loss` (Trefethen and Bau 1997, lecture 12). It says by how
many percent the loss changes, at most and to first order, when the weights change by one
percent. It does not depend on the scale of the loss or of the weights.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mnist_vg.runs import tags
from mnist_vg.runs.marks import WITH_GRADIENT
from mnist_vg.runs.results import kappa


@dataclass(frozen=True)
class Measurements:
    """A run's records as arrays; NaN stands where something was not recorded.

    Attributes:
        step: int `[records]`.
        loss: of the step's batch, `[records]`.
        mean_loss: averaged since the record before, `[records]`.
        data_loss: of the step's batch, without penalties, `[records]`.
        same_answer: what the same answer for all of the batch costs, `[records]`.
        spread: how much the answers of a batch differ, over their size, `[records]`.
        nonfinite_batch: how many of the batch's inputs, targets and outputs are NaN or Inf,
            `[records, 3]`.
        example_weight: the mean weight of the batch's examples, if they have weights, `[records]`.
        stopped: whether a callback has ended the training, `[records]`.
        rate: the learning rate, `[records]`.
        test_loss: of the test split, `[records]`.
        accuracy: of the test split, `[records]`.
        chance_accuracy: of always answering the most frequent label, `[records]`.
        chance_loss: of always answering with the labels' frequencies, `[records]`.
        layers: names of the layers.
        condition: relative condition number, `[records, layers]`.
        nonfinite: how many gradients and weights are NaN or Inf, `[records, layers]`.
        nonfinite_weights: how many weights of all layers are, `[records]`.
        update_ratio: norm of the update over that of the weights, `[records, layers]`.
        through_time: log10 of the gradient at the first time step of a recurrent layer over that
            at the last, `[records, layers]`.
        state: whether a layer gets a gradient, see `runs.marks`, `[records, layers]`.
        activation_layers: names of the layers with an activation.
        dead: share of units that are zero on the whole batch, `[records, activation_layers]`.
        saturated: share of units at an end of their activation for most of the batch,
            `[records, activation_layers]`.
        validation: of a run with validation data, `[validations, 4]`: step, validation loss, the
            training's loss averaged since the validation before, and how much of their first
            values is left in the moving averages of batch normalization, 0 to 1.
    """

    step: np.ndarray
    loss: np.ndarray
    mean_loss: np.ndarray
    data_loss: np.ndarray
    same_answer: np.ndarray
    spread: np.ndarray
    nonfinite_batch: np.ndarray
    example_weight: np.ndarray
    stopped: np.ndarray
    rate: np.ndarray
    test_loss: np.ndarray
    accuracy: np.ndarray
    chance_accuracy: np.ndarray
    chance_loss: np.ndarray
    layers: Sequence[str]
    condition: np.ndarray
    nonfinite: np.ndarray
    nonfinite_weights: np.ndarray
    update_ratio: np.ndarray
    through_time: np.ndarray
    state: np.ndarray
    activation_layers: Sequence[str]
    dead: np.ndarray
    saturated: np.ndarray
    validation: np.ndarray

    def then(self, later: "Measurements") -> "Measurements":
        """These records followed by later ones of the same run, with columns matched by layer."""
        layers = tuple(dict.fromkeys([*self.layers, *later.layers]))
        hidden = tuple(dict.fromkeys([*self.activation_layers, *later.activation_layers]))
        first, second = (part._with_columns(layers, hidden) for part in (self, later))
        rows = {
            key: np.concatenate([values, getattr(second, key)])
            for key, values in vars(first).items()
            if isinstance(values, np.ndarray)
        }
        return Measurements(layers=layers, activation_layers=hidden, **rows)

    def until(self, records: int) -> "Measurements":
        """The first records, as they were when there were no more."""
        rows = {
            key: values[:records]
            for key, values in vars(self).items()
            if isinstance(values, np.ndarray)
        }
        last = self.step[:records][-1:]
        rows["validation"] = self.validation[
            self.validation[:, 0] <= (last[0] if len(last) else -1)
        ]
        return dataclasses.replace(self, **rows)

    def _with_columns(self, layers, hidden):
        """The same records with exactly these columns, in this order."""
        tables = {
            key: _widened(getattr(self, key), names, columns)
            for keys, names, columns in (
                (
                    ("condition", "nonfinite", "update_ratio", "through_time", "state"),
                    self.layers,
                    layers,
                ),
                (("dead", "saturated"), self.activation_layers, hidden),
            )
            for key in keys
        }
        return dataclasses.replace(self, layers=layers, activation_layers=hidden, **tables)


def _widened(table, names, columns):
    """A table with other columns. A column that it does not have is NaN."""
    places = [names.index(name) if name in names else -1 for name in columns]
    unknown = np.full((len(table), 1), np.nan)
    return np.concatenate([table, unknown], axis=1)[:, places]


def histogram_norm(buckets: np.ndarray) -> np.ndarray:
    """Euclidean norm of the values that a histogram counts.

    Values are taken as evenly spread within each bucket. The result is right to a few
    percent where values spread over many buckets. It is too large where nearly all values
    are in one bucket and a few are far away: a million zeros with a hundred standard
    normals give seven times their norm.

    Args:
        buckets: left edge, right edge and count, `[..., buckets, 3]`.

    Returns:
        `[...]`.
    """
    left, right, counts = np.moveaxis(buckets, -1, 0)
    return np.sqrt((counts * (left**2 + left * right + right**2) / 3).sum(axis=-1))


def measurements_of(history: Mapping) -> Measurements:
    """The measurements in a run's records; for `history` see `runs.History`."""
    steps = history["step"]
    layers = tuple(history.get("layers", ()))
    hidden = tuple(history.get("activation_layers", ()))

    def column(tag):
        return np.array(history.get(tag, np.full(len(steps), np.nan)))

    def table(group, names=layers):
        return np.array(history.get(group, np.full((len(steps), len(names)), np.nan)))

    def norm(scalars, histograms, nonfinite):
        """The recorded norms. Where there is none, that of the histogram."""
        norms = np.array(table(scalars))
        lacking = np.isnan(norms) & rows[:, np.newaxis]
        if scalars in history:
            lacking &= counts[nonfinite] == 0  # Otherwise NaN is what was recorded.
        if histograms in history and lacking.any():
            norms[lacking] = histogram_norm(history[histograms])[lacking]
        return norms

    loss = column(tags.LOSS_TRAIN if tags.LOSS_TRAIN in history else tags.LOSS_TRAIN_MEAN)
    counts = {group: np.nan_to_num(table(group)) for group in tags.NONFINITE}
    # Steps without a gradient hold notes, or the final weights.
    rows = np.isfinite(table(tags.GRADIENT_MEAN_ABS)) | (counts[tags.GRADIENT_NONFINITE] > 0)
    rows = rows.any(axis=1)
    with_gradients = rows.any()
    if not with_gradients:  # Other programs than ours record a loss without gradients.
        rows = ~np.isnan(loss)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = norm("weight_norm", tags.WEIGHTS, tags.WEIGHT_NONFINITE)
        gradients = norm("gradient_norm", tags.GRADIENTS, tags.GRADIENT_NONFINITE)
        # Weights that are all zero have no size to compare a gradient with.
        condition = np.where((weights == 0) & (gradients > 0), np.nan, weights * gradients)
        # A loss that overflows, or may be negative, is no scale to compare with.
        usable = np.isfinite(loss) & (loss > 0)
        condition /= np.where(usable, loss, np.nan)[:, np.newaxis]
    arrays = {
        "step": steps,
        "loss": loss,
        "mean_loss": column(tags.LOSS_TRAIN_MEAN),
        "data_loss": column(tags.LOSS_DATA),
        "same_answer": column(tags.LOSS_SAME_ANSWER),
        "spread": column(tags.OUTPUT_SPREAD),
        "nonfinite_batch": np.nan_to_num(np.stack([*map(column, tags.NONFINITE_BATCH)], axis=1)),
        "example_weight": column(tags.EXAMPLE_WEIGHT),
        "stopped": np.full(len(steps), np.isfinite(column(tags.STOPPED)).any()),
        "rate": column(tags.LEARNING_RATE),
        "test_loss": column(tags.LOSS_TEST),
        "accuracy": column(tags.ACCURACY_TEST),
        "chance_accuracy": column(tags.CHANCE_ACCURACY),
        "chance_loss": column(tags.CHANCE_LOSS),
        "condition": condition,
        "nonfinite": sum(counts.values()) if with_gradients else table(tags.GRADIENT_NONFINITE),
        "nonfinite_weights": counts[tags.WEIGHT_NONFINITE].sum(axis=1),
        "update_ratio": table(tags.UPDATE_RATIO),
        "through_time": table(tags.GRADIENT_THROUGH_TIME),
        "state": np.nan_to_num(
            table(tags.LAYER_STATE), nan=WITH_GRADIENT if with_gradients else np.nan
        ),
        "dead": table(tags.UNITS_DEAD, hidden),
        "saturated": table(tags.UNITS_SATURATED, hidden),
    }
    rowwise = {key: np.asarray(values)[rows] for key, values in arrays.items()}
    validation = _validation(
        steps, *map(column, (tags.LOSS_VALIDATION, tags.MOVING_AVERAGE, tags.LOSS_TRAIN_MEAN))
    )
    return Measurements(layers=layers, activation_layers=hidden, validation=validation, **rowwise)


def _validation(steps, losses, left, training):
    """Each validation, with the training's loss averaged since the one before."""
    rows, begin = [], 0
    for row in np.flatnonzero(~np.isnan(losses)):
        since = training[begin : row + 1]
        since = since[~np.isnan(since)]
        rows.append((steps[row], losses[row], since.mean() if len(since) else np.nan, left[row]))
        begin = row + 1
    return np.array(rows).reshape(-1, 4)


def known(values):
    """The first recorded value, `[1]`; NaN if none is recorded."""
    return values[np.isfinite(values)][:1] if np.isfinite(values).any() else np.array([np.nan])


def typical(values):
    """The median of what is finite; NaN if nothing is."""
    finite = values[np.isfinite(values)]
    return np.median(finite) if len(finite) else np.nan


def kappas(measurements):
    """Kappa of each record, `[records]`; NaN where accuracy or chance is not recorded."""
    return kappa(measurements.accuracy, known(measurements.chance_accuracy))
