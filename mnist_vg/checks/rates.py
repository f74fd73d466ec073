"""Checks of the optimizer: its learning rate, and what it cuts off."""

import inspect

import keras
import numpy as np
import tensorflow as tf

from mnist_vg.checks.findings import Finding
from mnist_vg.checks.heads import is_distance
from mnist_vg.checks.look import Head, Steps
from mnist_vg.keras_models.optimizers import appliers, unscaled

FAR_ABOVE = 30
"""How many times Keras' default a learning rate may be: a decade and a half."""

UPDATE = 0.3
"""How far the first update may move the weights, over their norm: the threshold of "updates too
large" in `mnist_vg.diagnosis`."""

FEWEST_WEIGHTS = 100
"""Fewest weights whose norm says how large an update may be: a single one may be near 0."""

FAR_BELOW = 100
"""How many times below Keras' default a learning rate may be: two decades. Fine-tuning with Adam
takes 1e-5 (Keras' guide to transfer learning)."""

SLOW = 10_000
"""Steps in which the loss would fall by its own size, at its first slope. A short training has
1,000."""

SLOW_FOR_TARGETS = 500
"""The same for targets far from unit scale, which the outputs first have to reach: five epochs of
Keras' first examples. Set on the public reports in `benchmarks/checks.py`."""

FAR_TARGETS = 10.0
"""Root mean square of targets from which they are far from unit scale, see `LARGE_INPUTS`."""

CUT = 1e-4
"""Share of the gradient that clipping has to leave. Clipping to a norm of 1 to 10 leaves a tenth
or more of a usual gradient (Pascanu et al. 2013)."""

_LATER_STEPS = (0, 100, 1_000, 10_000, 100_000)
"""Steps at which a schedule is asked: it may begin at 0."""

_LIKE_SIGN = (
    keras.optimizers.Adam,
    keras.optimizers.Adamax,
    keras.optimizers.Nadam,
    keras.optimizers.RMSprop,
    keras.optimizers.Lion,
)
"""Optimizers whose first update moves each weight by about the learning rate, whatever the gradient
is: they divide it by its own size."""


def learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """The learning rate; of a schedule, the largest of some steps."""
    rate = unscaled(optimizer)._learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return max(float(rate(step)) for step in _LATER_STEPS)
    return float(rate() if callable(rate) else tf.convert_to_tensor(rate.value))


def default_rate(optimizer: keras.optimizers.Optimizer) -> float | None:
    """The default of the optimizer's class; None if it has none."""
    parameter = inspect.signature(type(unscaled(optimizer))).parameters.get("learning_rate")
    return parameter.default if isinstance(getattr(parameter, "default", None), float) else None


def check_rate_alone(optimizer: keras.optimizers.Optimizer) -> list[Finding]:
    """A learning rate of 0 or less, or none."""
    rate = max(map(learning_rate, appliers(optimizer)))
    if rate > 0:
        return []
    return [
        Finding(
            "optimizer",
            None,
            f"the learning rate is {rate:g}",
            "no weight moves" if rate == 0 else "the weights move away from the minimum",
            f"Keras' default, {default_rate(appliers(optimizer)[0]) or 0.001:g}",
        )
    ]


def check_updates(
    optimizer: keras.optimizers.Optimizer, steps: Steps, heads: list[Head], weight_norm: float
) -> list[Finding]:
    """A learning rate that is out of the usual range, and whose first update shows it.

    Args:
        optimizer: the model's.
        steps: its training steps.
        heads: its outputs.
        weight_norm: Euclidean norm of all weights that are trained.
    """
    [optimizer, *others] = appliers(optimizer)
    if others:
        return []
    clipped = [*_cut_off(optimizer, steps)]
    rate, usual = learning_rate(optimizer), default_rate(optimizer)
    like_sign = isinstance(optimizer, _LIKE_SIGN)
    if clipped or usual is None or not (like_sign or isinstance(optimizer, keras.optimizers.SGD)):
        return clipped
    loss, count = np.abs(steps.losses).mean(), steps.norms[:, 1].sum()
    if not (np.isfinite(loss) and steps.norm > 0):
        return []
    moved = np.sqrt(count) if like_sign else steps.norm
    falls = steps.total if like_sign else steps.norm**2
    update, number = rate * moved / weight_norm, loss / (rate * falls)
    far = {head.name or "y": scale for head in heads if (scale := _far_targets(head))}
    if far and number > SLOW_FOR_TARGETS:
        name, scale = next(iter(far.items()))
        return [
            Finding(
                "optimizer",
                None,
                f"the learning rate, {rate:g}, is too low for targets of this size: the root mean "
                f"square of {name} is {scale:.2g}, and at the first slope the loss falls by its "
                f"own size in {number:,.0f} steps",
                "the outputs start near 0, and it takes that long until they are where the "
                "targets are",
                "subtract the targets' mean and divide by their standard deviation; or raise the "
                "learning rate",
            )
        ]
    if rate >= FAR_ABOVE * usual and update > UPDATE and count >= FEWEST_WEIGHTS:
        return [
            Finding(
                "optimizer",
                None,
                f"the learning rate, {rate:g}, is {rate / usual:,.0f} times Keras' default, and "
                f"the first update moves the weights by {update:.2g} times their norm",
                "after such a step little is left of the initial weights, and units end up dead or "
                "saturated",
                f"Keras' default, {usual:g}",
            )
        ]
    if rate * FAR_BELOW <= usual and number > SLOW:
        return [
            Finding(
                "optimizer",
                None,
                f"the learning rate, {rate:g}, is {usual / rate:,.0f} times below Keras' default, "
                f"and at the first slope the loss falls by its own size in {number:,.0f} steps",
                "the weights hardly move",
                f"Keras' default, {usual:g}",
            )
        ]
    return []


def _far_targets(head):
    """The root mean square of a distance's targets, if it is far from unit scale; else 0."""
    if not is_distance(head.loss):
        return 0.0
    scale = float(np.sqrt(np.mean(np.concatenate([t.ravel() for t in head.targets]) ** 2.0)))
    return scale if scale >= FAR_TARGETS else 0.0


def _cut_off(optimizer, steps):
    norms, counts = steps.norms.T
    left = norms
    for setting in ("clipnorm", "global_clipnorm", "clipvalue"):
        limit = getattr(optimizer, setting, None)
        if limit is None or not steps.norm:
            continue
        if setting == "clipnorm":
            left = np.minimum(norms, limit)
        elif setting == "clipvalue":
            left = np.minimum(norms, limit * np.sqrt(counts))
        else:
            left = norms * min(1.0, limit / steps.norm)
        share = np.linalg.norm(left) / steps.norm
        if share < CUT:
            yield Finding(
                "optimizer",
                None,
                f"{setting}={limit:g} leaves {share:.1g} of the gradient, whose norm is "
                f"{steps.norm:.2g}",
                "the updates are as small as with a learning rate that many times lower",
                f"{setting}=1.0, or none; and inputs and targets of unit scale",
            )
