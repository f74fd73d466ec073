"""Checks of each output with its loss and its targets: whether the three fit together."""

import inspect
from collections.abc import Iterator
from typing import NamedTuple

import keras
import numpy as np

from mnist_vg.checks.findings import Finding
from mnist_vg.checks.look import Head

RARE = 20
"""How many times rarer one class may be than another. From there on, always answering with the
frequent one of two is right in 95% of the cases."""

MOST_CLASSES = 100
"""Most classes for which a rare one is a finding. The many classes of words and products follow
Zipf's law (Zipf 1949), and 100 of them already span a factor of 100."""

FEWEST_EXAMPLES = 32
"""Fewest examples that have to be of one class before that is a finding: a batch of Keras'."""

ADD_UP = 0.01
"""How far from 1 probabilities may add up: what float16 rounds, in a sum of a thousand."""

DEAD_OUTPUTS = 0.5
"""Share of the output units that give 0 for every example. Half of those of a single number or of
two is one; of the many that reconstruct an image a few are dead by chance."""

SCALED_TO = 0.1
"""Labels all below it, and whole if multiplied by 255, look divided by 255: ten classes end at
9 / 255 = 0.035."""

NEAR_ZERO = 1e-4
"""A target below it counts ten thousand times as much in a percentage error as one of unit size."""

_RANGES = {
    "Sigmoid": (0.0, 1.0),
    "Softmax": (0.0, 1.0),
    "Tanh": (-1.0, 1.0),
    "Softsign": (-1.0, 1.0),
    "Relu": (0.0, np.inf),
    "Relu6": (0.0, 6.0),
    "Softplus": (0.0, np.inf),
}
"""The range of outputs, by TensorFlow's operation that computes them."""

_SPARSE = {"sparse_categorical_crossentropy"}
_ONE_HOT = {
    *("categorical_crossentropy", "categorical_focal_crossentropy", "kl_divergence"),
    "categorical_generalized_cross_entropy",
}
_BINARY = {"binary_crossentropy", "binary_focal_crossentropy"}
_DISTANCES = {
    *("mean_squared_error", "mean_absolute_error", "huber", "log_cosh"),
    *("mean_squared_logarithmic_error", "mean_absolute_percentage_error"),
}


class _Case(NamedTuple):
    """A head with everything that the rules ask for."""

    head: Head
    kind: str
    targets: np.ndarray
    outputs: np.ndarray
    units: int
    from_logits: bool
    ignored: int | None

    def finding(self, check, words, why, instead):
        where = f"output {self.head.name}: " if self.head.name else ""
        return Finding(check, None, where + words, why, instead)


def loss_function(loss: keras.losses.Loss) -> str:
    """The name of the function that a loss of Keras computes, or that of one's own."""
    return getattr(inspect.unwrap(getattr(loss, "fn", type(loss))), "__name__", "")


def is_distance(loss: keras.losses.Loss) -> bool:
    """Whether a loss is a distance between targets and outputs, as in regression."""
    return loss_function(loss) in _DISTANCES


def check_head(head: Head) -> list[Finding]:
    """What does not fit in one output, its loss and its targets: the first thing of each kind."""
    case = _case(head)
    if shapes := [*_shapes(case)]:
        return shapes
    return [*_answers(case)][:1] + [*_labels(case)][:1]


def check_classes(head: Head, class_weight: dict[int, float] | None = None) -> list[Finding]:
    """A class that is much rarer than another, where each example has one label.

    Args:
        head: the output.
        class_weight: as in `fit`; a rare class with a larger weight is no finding.
    """
    case = _case(head)
    labels = _one_label_each(case)
    if labels is None or case.units > MOST_CLASSES or "focal" in case.kind:
        return []
    classes, counts = np.unique(labels, return_counts=True)
    weighted = counts * [(class_weight or {}).get(int(name), 1.0) for name in classes]
    rare, often = np.argmin(weighted), np.argmax(weighted)
    if weighted[often] < RARE * weighted[rare]:
        return []
    return [
        Finding(
            "data",
            None,
            f"class {classes[rare]} has {counts[rare]:,} examples of {len(labels):,}, class "
            f"{classes[often]} has {counts[often] / counts[rare]:.0f} times as many",
            f"always answering {classes[often]} is right in {counts[often] / len(labels):.0%} of "
            "the cases, and a model may learn no more than that",
            "class_weight in fit, or more examples of the rare class; and a metric such as recall, "
            "as accuracy hides it",
        )
    ]


def _case(head):
    outputs = [part.reshape(-1, part.shape[-1]) for part in map(_column, head.outputs)]
    kwargs = getattr(head.loss, "_fn_kwargs", {})
    return _Case(
        head,
        loss_function(head.loss),
        _joined(head.targets),
        np.concatenate(outputs),
        outputs[0].shape[-1],
        bool(kwargs.get("from_logits", False)),
        kwargs.get("ignore_class"),
    )


def _column(part):
    return part[:, np.newaxis] if part.ndim < 2 else part


def _joined(parts):
    if len({part.shape[1:] for part in parts}) == 1:
        return np.concatenate(parts)
    return np.concatenate([part.reshape(-1) for part in parts])


def _classes(case) -> np.ndarray:
    """The targets in one row, without those that the loss ignores."""
    labels = np.asarray(case.targets, np.float64).reshape(-1)
    return labels if case.ignored is None else labels[labels != case.ignored]


def _is_one_hot(case):
    targets = case.targets
    if targets.ndim < 2 or targets.shape[-1] < 2:
        return False
    return bool(np.isin(targets, (0, 1)).all() and (targets.sum(axis=-1) == 1).all())


def _shapes(case) -> Iterator[Finding]:
    """Targets whose shape is not that of the outputs, as far as the loss needs it."""
    target, output = case.head.targets[0].shape[1:], _column(case.head.outputs[0]).shape[1:]
    words = f"{case.kind}: targets of shape {_shape(target)}, outputs of shape {_shape(output)}"
    classes = output[:-1], (*output[:-1], 1)
    if case.kind in _SPARSE and target not in classes:
        yield case.finding(
            "labels",
            words,
            "the loss wants one whole number an example, the class",
            "categorical_crossentropy, as the targets are one-hot"
            if _is_one_hot(case) and target == output
            else f"targets of shape {_shape(output[:-1])}",
        )
    elif case.kind in _ONE_HOT | _BINARY | _DISTANCES:
        # Keras adds or drops a last axis of 1.
        if target == output or (*target, 1) == output or target == (*output, 1):
            return
        instead = f"targets of shape {_shape(output)}, or outputs of shape {_shape(target)}"
        if case.kind in _ONE_HOT and target in classes:
            instead = "sparse_categorical_crossentropy, or keras.utils.to_categorical(y)"
        yield case.finding(
            "labels",
            words,
            "the loss compares them value by value: it fails, or repeats one for all of the other",
            instead,
        )


def _shape(shape):
    return "(batch" + "".join(f", {size}" for size in shape) + ")"


def _answers(case) -> Iterator[Finding]:
    """Outputs that are not what the loss takes."""
    values, operation, kind = case.outputs, case.head.operation, case.kind
    low, high, sums = values.min(), values.max(), values.sum(axis=1)
    distributions = case.units > 1 and low >= 0 and np.abs(sums - 1).max() <= ADD_UP
    if operation == "Softmax" and case.units == 1 and (values == 1).all():
        yield case.finding(
            "head",
            "softmax over one unit: the output is 1 for every input",
            "softmax divides each unit by the sum of all, and here that is the unit itself",
            "Dense(1, 'sigmoid') with binary_crossentropy",
        )
    elif case.units == 1 and kind in _SPARSE | _ONE_HOT - {"kl_divergence"}:
        yield case.finding(
            "head",
            f"{kind} on one output unit",
            "it compares units with each other, so with a single one the loss is always the same",
            "binary_crossentropy for two classes, or one unit a class",
        )
    elif case.from_logits and (operation in ("Sigmoid", "Softmax") or distributions):
        yield case.finding(
            "head",
            f"the outputs are probabilities already ({low:.3g} to {high:.3g}"
            + (", adding up to 1" if distributions else "")
            + f"), and {kind} has from_logits=True",
            "the loss applies softmax or sigmoid a second time: it can hardly fall, and its "
            "gradient is small",
            "from_logits=False, or an output layer without activation",
        )
    elif kind in _SPARSE | _ONE_HOT | _BINARY and not case.from_logits:
        yield from _no_probabilities(case, low, high, sums)
    elif kind in _DISTANCES:
        yield from _out_of_reach(case)
    dead = (values == 0).all(axis=0)
    if operation == "Relu" and dead.mean() >= DEAD_OUTPUTS:
        yield case.finding(
            "head",
            f"{dead.sum()} of {case.units} output units give 0 for all {len(values)} examples: "
            "they end in ReLU",
            "where ReLU gives 0 no gradient passes, so they never give anything else",
            "an output layer without activation",
        )


def _no_probabilities(case, low, high, sums):
    ends = "softmax" if case.kind not in _BINARY else "sigmoid"
    if low < -ADD_UP or high > 1 + ADD_UP:
        yield case.finding(
            "head",
            f"{case.kind} wants probabilities, and the outputs go from {low:.3g} to {high:.3g}",
            "they are cut to 0 and 1, where the loss has no gradient",
            f"from_logits=True, or {ends} as the last activation",
        )
    elif case.units > 1 and case.kind not in _BINARY and np.abs(sums - 1).max() > ADD_UP:
        yield case.finding(
            "head",
            f"{case.kind} wants probabilities that add up to 1, and the outputs add up to "
            f"{np.median(sums):.2g}",
            "each unit is trained as if it were the only answer",
            "softmax as the last activation, or binary_crossentropy for several labels at once",
        )


def _out_of_reach(case):
    low, high = _RANGES.get(case.head.operation, (-np.inf, np.inf))
    targets = _classes(case)
    slack = 1e-6 * max(1.0, np.abs(targets).max())
    outside = (targets < low - slack) | (targets > high + slack)
    if outside.any():
        yield case.finding(
            "head",
            f"{outside.mean():.0%} of the targets are out of reach: they go from "
            f"{targets.min():.3g} to {targets.max():.3g}, and outputs that end in "
            f"{case.head.operation.lower()} from {low:g} to {high:g}",
            "the loss pushes these outputs to the end of their range, where no gradient passes",
            "an output layer without activation, or targets scaled to that range",
        )


def _labels(case) -> Iterator[Finding]:
    """Labels that are not those that the loss takes, or are all the same."""
    labels = _classes(case)
    if not len(labels) or not np.isfinite(labels).all():
        return
    whole = bool((labels == np.round(labels)).all())
    span = f"{labels.min():.3g} to {labels.max():.3g}"
    if case.kind in _SPARSE | _BINARY and _looks_scaled(labels):
        yield case.finding(
            "labels",
            f"the labels go from {span}, and are whole numbers if multiplied by 255",
            "the loss takes them all for class 0",
            "divide the images by 255, and not the labels",
        )
    elif case.kind in _SPARSE and not whole:
        yield case.finding(
            "labels",
            f"the labels are no whole numbers: {span}",
            f"{case.kind} cuts them to whole numbers",
            "whole numbers from 0 on, or a loss for regression such as mse",
        )
    elif case.kind in _SPARSE and (labels.min() < 0 or labels.max() >= case.units):
        yield case.finding(
            "labels",
            f"the labels go from {span}, and {case.units} units stand for 0 to {case.units - 1}",
            "a label without a unit makes the loss NaN, or fails",
            f"labels from 0 on, or {labels.max() + 1:.0f} units",
        )
    elif case.kind in _BINARY and whole and case.units == 1 and len(np.unique(labels)) > 2:
        yield case.finding(
            "labels",
            f"one unit for {len(np.unique(labels))} classes: the labels go from {span}",
            "one sigmoid tells two classes apart, 0 and 1",
            f"Dense({labels.max() + 1:.0f}, 'softmax') with sparse_categorical_crossentropy",
        )
    elif case.kind in _BINARY and (labels.min() < 0 or labels.max() > 1):
        yield case.finding(
            "labels",
            f"the labels go from {span}, and {case.kind} takes 0 to 1",
            "the loss has no lower bound for such labels, and its gradient points the wrong way",
            "labels 0 and 1",
        )
    elif "percentage" in case.kind and np.mean(np.abs(labels) < NEAR_ZERO) > 0:
        near = np.mean(np.abs(labels) < NEAR_ZERO)
        yield case.finding(
            "labels",
            f"{case.kind} divides by the targets, and {near:.1%} of them are 0 or nearly so",
            "these examples count thousands of times as much as all others",
            "mean_absolute_error, or targets that are away from 0",
        )
    elif case.kind in _ONE_HOT and _no_distributions(case):
        sums = case.targets.sum(axis=-1)
        yield case.finding(
            "labels",
            f"{case.kind} takes targets that add up to 1; these add up to {sums.min():.3g} to "
            f"{sums.max():.3g}",
            "softmax cannot give several units a large value at once",
            "sigmoid with binary_crossentropy for several labels at once, or one-hot targets",
        )
    else:
        yield from _constant(case)


def _looks_scaled(labels):
    scaled = labels * 255
    near = np.abs(scaled - np.round(scaled)).max() < 1e-3
    return bool(near and 0 < labels.max() < SCALED_TO)


def _no_distributions(case):
    sums = case.targets.sum(axis=-1)
    sums = sums[sums != 0]  # An example without a label is left out by a mask.
    return bool(len(sums) and np.abs(sums - 1).max() > ADD_UP)


def _constant(case):
    count = len(case.targets)
    if count < FEWEST_EXAMPLES:
        return
    labels = _one_label_each(case)
    if labels is not None and (labels == labels[0]).all():
        yield case.finding(
            "labels",
            f"all {len(labels):,} labels are {labels[0]}",
            "the model learns to give this answer for every input",
            "shuffle before batches are taken, or look at how the labels are made",
        )
    elif case.kind in _DISTANCES and (case.targets == case.targets[:1]).all():
        yield case.finding(
            "labels",
            f"all {count:,} targets are {_classes(case)[0]:.3g}",
            "a constant answers them all, so nothing is learned from the inputs",
            "look at how the targets are made",
        )


def _one_label_each(case) -> np.ndarray | None:
    """The class of each example; None if the targets are no classes, or several an example."""
    if case.kind in _ONE_HOT and case.targets.ndim == 2 and _is_one_hot(case):
        return case.targets.argmax(axis=-1)
    single = case.targets.size == len(case.targets) and case.units > (case.kind in _SPARSE)
    if case.kind not in _SPARSE | _BINARY or not single:
        return None
    labels = _classes(case)
    whole = len(labels) and np.isfinite(labels).all() and (labels == np.round(labels)).all()
    return labels.astype(int) if whole else None
