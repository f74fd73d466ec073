"""What a model does with a few batches, measured without a trace left in it."""

import contextlib
import functools
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from mnist_vg.checks.batches import Batch
from mnist_vg.checks.graph import Dependence, cutting_operation, last_operation
from mnist_vg.keras_models.layer_names import layer_paths
from mnist_vg.keras_models.layers import layer_weights
from mnist_vg.keras_models.losses import Losses, has_losses
from mnist_vg.keras_models.taps import reachable, replaced
from mnist_vg.keras_models.through_time import (
    as_read,
    log10_first_to_last,
    mask_of,
    rms_by_time_step,
)

NUDGE = 1e-3
"""How far a nudge moves the weights of a variable, as their root mean square. A tenth of what
Keras' initializers give a layer of 1,000 inputs, and enough to leave an exact zero."""

LOST = 2.0**-24
"""A gradient with respect to one time step, over that with respect to another, below which it is
lost: the gradient of a weight is a sum over time steps, and this is half of float32's machine
epsilon (IEEE 754). What decays exponentially with time gets there (Hochreiter 1998)."""


class Head(NamedTuple):
    """One output with its loss, on all batches.

    Attributes:
        name: of the output; empty if there is only one.
        loss: the `keras.losses.Loss`.
        targets: an array a batch.
        outputs: an array a batch, without dropout.
        operation: the last operation of TensorFlow that computes the outputs, such as "Softmax".
    """

    name: str
    loss: keras.losses.Loss
    targets: list[np.ndarray]
    outputs: list[np.ndarray]
    operation: str


class Signal(NamedTuple):
    """What passes through a layer in a training step: means over the batches.

    Attributes:
        scale: root mean square of the layer's outputs.
        spread: root mean square of what differs between the examples of a batch, over `scale`.
        input_scale: that of the inputs that are not 0. NaN, as all about inputs, if they are no
            floating numbers, or of a layer that is neither the first nor the last.
        input_spread: as `spread`.
        low: the smallest input of all batches.
        high: the largest input of all batches.
        whole: whether all inputs are whole numbers.
        sensitivity: norm of the outputs times that of the loss's gradient with respect to them;
            NaN if there is none.
        differentiable: whether the loss has a gradient with respect to the inputs.
    """

    scale: float
    spread: float
    input_scale: float
    input_spread: float
    low: float
    high: float
    whole: float
    sensitivity: float
    differentiable: float


class Time(NamedTuple):
    """How the gradient gets through the time steps of a recurrent layer: means over the batches.

    Attributes:
        steps: how many time steps it reads, of the longest example.
        reached: in how many of them the gradient with respect to the inputs is more than `LOST`
            of the largest.
        first_to_last: log10 of that at the first step read over that at the last.
        tail: how many steps at the end of an example have the same inputs, the median of the
            examples. Without a mask only; NaN as the next one, if no other step comes before.
        before_tail: log10 of the gradient at the step before over that at the last, the median.
    """

    steps: float
    reached: float
    first_to_last: float
    tail: float
    before_tail: float


class Gradient(NamedTuple):
    """The gradient of one variable in a training step: means over the batches.

    Attributes:
        total: sum of its absolute values.
        norm: its Euclidean norm.
        count: how many of its values are not 0.
        asymmetry: the largest difference between its values for two units of the layer.
    """

    total: float
    norm: float
    count: float
    asymmetry: float


class Steps(NamedTuple):
    """What training steps on all batches would do; arrays have one row a batch.

    Attributes:
        losses: of each batch.
        signals: by path, for the layers with weights to train, in the order of their calls.
        times: by path, for the recurrent ones among them.
        first: the paths of those that no other of them comes before.
        gradients: by path, one for each weight of the layer; without what got none.
        without: paths of the layers of which no weight gets a gradient, and the operation that
            cuts it off; empty if it is not known.
        total: sum of the absolute gradients of all variables.
        norm: norm of all gradients.
        norms: of each variable's gradient the norm, and how many values are not 0:
            `[variables, 2]`.
    """

    losses: np.ndarray
    signals: dict[str, Signal]
    times: dict[str, Time]
    first: list[str]
    gradients: dict[str, list[Gradient]]
    without: dict[str, str]
    total: float
    norm: float
    norms: np.ndarray


class Look:
    """Calls a model, and puts back whatever that changes.

    A model that is not built is built first, as its first `fit` would.

    Args:
        model: a Keras model.
        batches: what it is called with.
        all_targets: the targets of all examples, if they are known.
    """

    def __init__(self, model: keras.Model, batches: Sequence[Batch], all_targets=None):
        self.model, self._batches, self._all_targets = model, batches, all_targets
        self.layers: dict[str, list] = {}
        self._losses = Losses(model, self._noting) if has_losses(model) else None
        self._noted: list | None = None
        """The arguments of the losses, while they are noted instead of computed."""
        self._traced: dict[str, Any] = {}
        # Without autograph, as Keras traces its own step.
        traced = functools.partial(tf.function, autograph=False, reduce_retracing=True)
        self._measured, self._nudged = traced(self._step), traced(self._nudge)
        self._answered = traced(self._answer)

    def _noting(self, entry):
        def apply(y_true, y_pred, sample_weight=None):
            if self._noted is None:
                return entry.loss(y_true, y_pred, sample_weight)
            self._noted.append((entry, y_true, y_pred))
            return 0.0

        return apply

    def build(self):
        """Build the model if it is not, and find its layers with weights to train."""
        if not all(layer.built for layer in self.model._flatten_layers()):
            x = _tensors(self._batches[0].x)
            forward = tf.function(lambda: _call(self.model, x, training=False), autograph=False)
            forward.get_concrete_function()
        weights = layer_weights(self.model, [])
        self.layers = {p: layer.variables for p, layer in weights.items() if not layer.frozen}

    def heads(self) -> list[Head]:
        """Each output that has a loss, with its targets."""
        found: dict[int, Head] = {}
        for batch, outputs in zip(self._batches, self._run(self._answered), strict=True):
            operations = self._traced["operations"]
            flat = [id(part) for part in keras.tree.flatten(outputs)]
            self._noted = []
            self._losses(batch.y if self._all_targets is None else self._all_targets, outputs)
            for number, (entry, y_true, y_pred) in enumerate(self._noted):
                place = flat.index(id(y_pred)) if id(y_pred) in flat else 0
                name = entry.name if len(flat) > 1 else ""
                head = found.setdefault(number, Head(name, entry.loss, [], [], operations[place]))
                if self._all_targets is None or not head.targets:
                    head.targets.append(np.asarray(y_true))
                head.outputs.append(np.asarray(y_pred, np.float32))
        self._noted = None
        return list(found.values())

    def _answer(self, batch):
        outputs = _call(self.model, batch.x, training=False)
        operations = [last_operation(part) for part in keras.tree.flatten(outputs)]
        self._traced["operations"] = operations
        return outputs

    def steps(self, factors: dict[str, float] | None = None, nudges: int = 0) -> Steps:
        """What training steps would do, one a batch, all with the same weights.

        Args:
            factors: by path, a number to multiply the inputs of a layer with.
            nudges: steps of gradient descent of a fixed size before, which are taken back.
        """
        scales = tf.constant([(factors or {}).get(path, 1.0) for path in self.layers], tf.float32)
        rows = self._run(self._measured, scales, nudges=nudges)
        losses = np.array([row["loss"] for row in rows])
        signals = {
            path: _over_batches([Signal(*row["signals"][path]) for row in rows])
            for path in self._traced["called"]
        }
        times = {
            path: Time(*np.mean([row["times"][path] for row in rows], axis=0).tolist())
            for path in rows[0]["times"]
        }
        every = {
            key: Gradient(*np.mean([row["gradients"][key] for row in rows], axis=0).tolist())
            for key in rows[0]["gradients"]
        }
        gradients = {
            path: [every[str(id(v))] for v in variables if str(id(v)) in every]
            for path, variables in self.layers.items()
        }
        norms = np.array([(each.norm, each.count) for each in every.values()]).reshape(-1, 2)
        return Steps(
            losses,
            signals,
            times,
            self._traced["first"],
            gradients,
            self._traced["without"],
            sum(each.total for each in every.values()),
            float(np.linalg.norm(norms[:, 0])),
            norms,
        )

    def _step(self, batch, factors):
        """Forward and backward, and what is measured of it."""
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape, self._tapped(factors, tape) as calls:
            loss = self._loss(batch)
        inputs = {path: call.before for path, call in calls.items() if _floating(call.before)}
        tensors = {path: call.after for path, call in calls.items()}
        sources = {str(id(v)): v.value for v in variables}, inputs, tensors
        weights, before, after = tape.gradient(loss, sources)
        got = {key for key, gradient in weights.items() if gradient is not None}
        self._traced = {
            "called": list(calls),
            "first": [path for path, call in calls.items() if call.first],
            "without": {
                path: cutting_operation(tensors[path]) if path in tensors else ""
                for path, of_layer in self.layers.items()
                if got.isdisjoint(str(id(v)) for v in of_layer)
            },
        }
        # The inputs of all others are outputs that are measured anyway.
        ends = {*self._traced["first"], *self._traced["called"][-1:]}
        return {
            "loss": loss,
            "signals": {
                path: _signal(
                    inputs.get(path) if path in ends else None,
                    tensors[path],
                    before.get(path) is not None,
                    after[path],
                )
                for path in calls
            },
            "times": {
                path: _time(call.before, before[path], call.layer, call.mask)
                for path, call in calls.items()
                if isinstance(call.layer, keras.layers.RNN) and before.get(path) is not None
            },
            "gradients": {k: _gradient(tf.convert_to_tensor(weights[k])) for k in sorted(got)},
        }

    @contextlib.contextmanager
    def _tapped(self, factors, tape) -> Iterator[dict]:
        """Within the context, each layer's first call."""
        calls: dict[str, _Call] = {}
        dependence = Dependence(self.model.trainable_variables)
        factor = dict(zip(self.layers, tf.unstack(factors), strict=True))

        def tap(path, layer, call):
            def tapping(inputs, *arguments, **options):
                recurrent, mask = isinstance(layer, keras.layers.RNN), None
                if recurrent:
                    mask = mask_of(layer, (inputs, *arguments), options)
                    inputs = tf.identity(inputs)  # Both directions may read the same tensor.
                before = keras.tree.flatten(inputs)[0]
                first = path not in calls and not dependence.of(before)
                if first and _floating(before) and not keras.tree.is_nested(inputs):
                    before = inputs = inputs * tf.cast(factor[path], inputs.dtype)
                    tape.watch(inputs)
                output = call(inputs, *arguments, **options)
                after = keras.tree.flatten(output)[0]
                if path not in calls and reachable(after) and _floating(after):
                    calls[path] = _Call(layer, before, after, first, mask)
                return output

            return tapping

        layers = layer_paths(self.model)
        with contextlib.ExitStack() as stack:
            for path in self.layers:
                if path in layers:  # The model itself is none of its layers.
                    layer = layers[path]
                    stack.enter_context(replaced(layer, "call", tap(path, layer, layer.call)))
            yield calls

    def _run(self, function, *arguments, nudges=0) -> list:
        """What a function gives for each batch, from the same state each time."""
        results = []
        with _unchanged(self.model) as restore:
            for batch in self._batches:
                batch = Batch(*map(_tensors, batch))
                concrete = function.get_concrete_function(batch, *arguments)
                with restore(concrete.graph.variables):
                    for _ in range(nudges):
                        self._nudged(batch)
                    results.append(function(batch, *arguments))
        return keras.tree.map_structure(lambda t: t if len(t.shape) else t.numpy(), results)

    def _nudge(self, batch):
        """Move every weight a little down its gradient, all variables as far."""
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            loss = self._loss(batch)
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        for variable, gradient in zip(variables, gradients, strict=True):
            if gradient is not None:
                gradient = tf.convert_to_tensor(gradient)
                scale = tf.sqrt(tf.reduce_mean(gradient**2))
                variable.assign_sub(NUDGE * tf.math.divide_no_nan(gradient, scale))

    def _loss(self, batch):
        """The loss that a training step takes, with nothing noted in the compiled one."""
        with replaced(self.model, "_compile_loss", self._losses):
            outputs = _call(self.model, batch.x, training=True)
            loss = self.model._compute_loss(batch.x, batch.y, outputs, batch.sample_weight)
        return tf.reduce_mean(tf.cast(loss, "float32"))


class _Call(NamedTuple):
    """A layer's call: first input, first output, whether no layer comes before, and a mask."""

    layer: keras.layers.Layer
    before: tf.Tensor
    after: tf.Tensor
    first: bool
    mask: tf.Tensor | None


@contextlib.contextmanager
def _unchanged(model):
    """Within the context, random states and the layers' own losses stay what they are.

    It gives a context for one call, after which the given variables are what they were.
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()
    layers = [(layer, list(layer._losses)) for layer in model._flatten_layers()]

    @contextlib.contextmanager
    def restore(variables):
        reached = {id(v): v for v in (*variables, *(v.value for v in model.variables))}
        before = [(variable, variable.read_value()) for variable in reached.values()]
        try:
            yield
        finally:
            for variable, value in before:
                variable.assign(value)

    try:
        yield restore
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        for layer, losses in layers:
            layer._losses.clear()
            layer._losses.extend(losses)


def _call(model, x, training):
    options = {"training": training} if model._call_has_training_arg else {}
    return model(x, **options)


def _tensors(tree):
    if tree is None:
        return None
    return keras.tree.map_structure(lambda p: None if p is None else tf.convert_to_tensor(p), tree)


def _floating(tensor):
    return tf.is_tensor(tensor) and tensor.dtype.is_floating


def _signal(before, after, differentiable, after_gradient):
    after = tf.cast(after, "float32")
    nan = tf.constant(np.nan)
    measured = [_scale(after), _spread(after), nan, nan, nan, nan, nan]
    if before is not None:
        before = tf.cast(before, "float32")
        measured[2:] = [
            _scale(before[before != 0]),
            _spread(before),
            tf.reduce_min(before),
            tf.reduce_max(before),
            tf.reduce_all(before == tf.round(before)),
        ]
    sensitivity = nan
    if after_gradient is not None:
        sensitivity = tf.norm(after) * tf.norm(tf.cast(after_gradient, "float32"))
    values = [*measured, sensitivity, differentiable]
    return tuple(tf.cast(value, "float32") for value in values)


def _time(inputs, gradient, layer, mask):
    """The numbers of a `Time`."""
    by_step = rms_by_time_step(gradient, layer, mask)
    largest = tf.reduce_max(tf.where(tf.math.is_nan(by_step), 0.0, by_step))
    reached = tf.math.count_nonzero(by_step > LOST * largest)
    tail = before_tail = tf.constant(np.nan)
    if mask is None:
        tail, before_tail = _tail(as_read(inputs, layer), as_read(gradient, layer))
    read = tf.math.count_nonzero(~tf.math.is_nan(by_step))
    values = [read, reached, log10_first_to_last(by_step), tail, before_tail]
    return tuple(tf.cast(value, "float32") for value in values)


def _tail(inputs, gradient):
    """Length of the stretch of same inputs at the end, and log10 of the gradient before it."""
    features = list(range(2, inputs.shape.rank))
    same = tf.reduce_all(inputs == inputs[:, -1:], axis=features)
    length = tf.reduce_sum(tf.math.cumprod(tf.cast(same[:, ::-1], tf.int32), axis=1), axis=1)
    steps = tf.shape(inputs)[1]
    other = length < steps
    sizes = tf.reduce_max(tf.abs(tf.cast(gradient, "float32")), axis=features)
    sizes = tf.boolean_mask(tf.maximum(sizes, np.finfo(np.float32).tiny), other)
    length = tf.boolean_mask(length, other)
    before = tf.gather(sizes, steps - 1 - length, axis=1, batch_dims=1)
    return _median(length), _median(tf.math.log(before / sizes[:, -1])) / np.log(10.0)


def _median(values):
    middle = tf.sort(tf.cast(values, "float32"))[tf.size(values) // 2 :]
    # Without a value, NaN.
    return tf.concat([middle, [np.nan]], axis=0)[0]


def _over_batches(signals):
    mean = Signal(*np.mean(signals, axis=0).tolist())
    ends = {"low": min(s.low for s in signals), "high": max(s.high for s in signals)}
    return mean._replace(**{end: float(value) for end, value in ends.items()})


def _scale(values):
    return tf.sqrt(tf.reduce_mean(values**2))


def _spread(values):
    return tf.math.divide_no_nan(
        _scale(values - tf.reduce_mean(values, axis=0, keepdims=True)), _scale(values)
    )


def _gradient(values):
    values = tf.cast(values, "float32")
    asymmetry = tf.constant(np.nan)
    if (values.shape.rank or 0) > 1:
        asymmetry = tf.reduce_max(tf.abs(values - values[..., :1]))
    count = tf.math.count_nonzero(values, dtype=tf.float32)
    return tf.reduce_sum(tf.abs(values)), tf.norm(values), count, asymmetry
