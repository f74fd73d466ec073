"""Many networks of one structure as one: stacked side by side, and trained together."""

import dataclasses
import functools
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from mnist_vg.datasets import Dataset
from mnist_vg.layers import activation_range
from mnist_vg.making import make_model, make_optimizer
from mnist_vg.measures import layer_measures, shares_of_units
from mnist_vg.model import Model, layer_draws
from mnist_vg.packing import Packing
from mnist_vg.scenarios import PARAMETRIC_RELU, Scenario
from mnist_vg.tags import GRADIENT_MEAN_ABS, HISTOGRAMS, NONFINITE
from mnist_vg.training import Trainer

MEASURES = (GRADIENT_MEAN_ABS, "gradient_norm", "weight_norm", *NONFINITE)
"""What a record of stacked networks holds of each layer, beside updates and units."""

DEEP = 32
"""Layers from which on those of one width are a loop: a quarter slower at a step, and
compiled in seconds however many (`benchmarks/replicas.py`)."""

EVALUATION_VALUES = 2**19
"""Values of a hidden layer that are scored at once: 2 MiB, which a core's cache may hold."""


class StackedDense(keras.layers.Layer):
    """Dense layers of one size side by side, `[batch, replicas, units]`.

    Examples `[batch, values]` are seen by all; of `[batch, replicas, units]` each
    replica sees its own.

    Args:
        replicas: how many.
        units: of each.
        activation: of all.
    """

    def __init__(self, replicas, units, activation, name):
        super().__init__(name=name)
        self.units = units
        self.activation = activation
        self._replicas = replicas

    def build(self, input_shape):
        """Make kernel and bias, `[replicas, values]`."""
        self._inputs, self._shared = input_shape[-1], len(input_shape) == 2
        self.kernel = self.add_weight(shape=(self._replicas, self._inputs * self.units))
        self.bias = self.add_weight(shape=(self._replicas, self.units))

    def call(self, inputs):
        """The activations of every replica."""
        if self._shared:
            # A row a unit, so that the products of all replicas are one.
            kernels = tf.reshape(self.kernel, [-1, self._inputs])
            sums = tf.matmul(inputs, kernels, transpose_b=True)
            sums = tf.reshape(sums, [-1, self._replicas, self.units])
        else:
            kernels = tf.reshape(self.kernel, [self._replicas, self._inputs, self.units])
            sums = tf.einsum("bri,rio->bro", inputs, kernels)
        return self.activation(sums + self.bias)

    def compute_output_shape(self, input_shape):
        """`[batch, replicas, units]`."""
        return input_shape[0], self._replicas, self.units

    def draw(self, draws) -> None:
        """Draw anew: of each replica what draws its kernel, and its bias."""
        kernels = [np.asarray(of_kernel((self._inputs, self.units))) for of_kernel, _ in draws]
        self.kernel.assign([(k.T if self._shared else k).ravel() for k in kernels])
        self.bias.assign([of_bias((self.units,)) for _, of_bias in draws])


class StackedDeep(keras.layers.Layer):
    """Dense layers of one width after each other, in a loop: `[batch, replicas, units]`.

    The compiled program is as long for a hundred layers as for one. Goes from the sums
    of the layer before to those of the last one here, each after the activation of those
    before it.

    Args:
        replicas: how many networks.
        depth: how many layers.
        units: of each layer.
        activation: elementwise, of all.
    """

    def __init__(self, replicas, depth, units, activation, name):
        super().__init__(name=name)
        self.units = units
        self.depth = depth
        self.activation = activation
        self._replicas = replicas

    def build(self, input_shape):
        """Make kernel and bias, `[depth, replicas, values]`."""
        self.kernel = self.add_weight(shape=(self.depth, self._replicas, self.units**2))
        self.bias = self.add_weight(shape=(self.depth, self._replicas, self.units))

    def call(self, sums):
        """The sums of the last layer."""
        size = [self.depth, self._replicas, self.units, self.units]
        kernels = tf.reshape(self.kernel, size)
        biases = tf.convert_to_tensor(self.bias)[:, :, tf.newaxis]
        # By replica, so that a layer of all is one product of matrices.
        sums, self._before = self._loop(tf.transpose(sums, [1, 0, 2]), kernels, biases)
        return tf.transpose(sums, [1, 0, 2])

    def outputs_before(self):
        """What the activations in the loop gave, `[batch, depth * replicas, units]`."""
        _, _, batch, units = self._before.shape
        return tf.transpose(
            tf.reshape(self.activation(self._before), [-1, batch, units]), [1, 0, 2]
        )

    @property
    def _loop(self):
        @tf.custom_gradient
        def loop(sums, kernels, biases):
            def layer(at, sums, before):
                before = before.write(at, sums)
                return at + 1, tf.matmul(self.activation(sums), kernels[at]) + biases[at], before

            _, last, before = self._repeat(layer, sums, self._array(sums))
            before = before.stack()
            return (last, before), lambda of_last, _: self._back(of_last, before, kernels)

        return loop

    def _back(self, of_last, before, kernels):
        """Gradients of the first sums, kernels and biases, from that of the last sums."""

        def layer(done, of_sums, of_kernels, of_biases):
            at = self.depth - 1 - done
            with tf.GradientTape() as tape:
                tape.watch(sums := before[at])
                outputs = self.activation(sums)
            of_kernels = of_kernels.write(at, tf.matmul(outputs, of_sums, transpose_a=True))
            of_biases = of_biases.write(at, tf.reduce_sum(of_sums, axis=1, keepdims=True))
            of_outputs = tf.matmul(of_sums, kernels[at], transpose_b=True)
            return done + 1, tape.gradient(outputs, sums, of_outputs), of_kernels, of_biases

        arrays = self._array(kernels[0]), self._array(of_last[:, :1])
        _, of_first, *of_weights = self._repeat(layer, of_last, *arrays)
        return of_first, *(array.stack() for array in of_weights)

    def _repeat(self, layer, *state):
        return tf.while_loop(lambda at, *_: at < self.depth, layer, (0, *state))

    def _array(self, like):
        return tf.TensorArray(like.dtype, self.depth, element_shape=like.shape)

    def compute_output_shape(self, input_shape):
        """`[batch, replicas, units]`."""
        return input_shape

    def draw(self, draws) -> None:
        """Draw anew: of each layer, and of each replica, what draws its kernel, and its bias."""
        size = (self.units, self.units)
        kernels = [[np.ravel(of_kernel(size)) for of_kernel, _ in layer] for layer in draws]
        self.kernel.assign(kernels)
        self.bias.assign([[of_bias((self.units,)) for _, of_bias in layer] for layer in draws])


class StackedModel(Model):
    """A network's structure so many times side by side: `[batch, replicas, logits]`.

    No replica's numbers reach another's.

    Args:
        scenario: gives the structure; initial values are `set_draws`' to give.
        dataset: gives the sizes of examples and logits.
        replicas: how many.
    """

    def __init__(self, scenario: Scenario, dataset: Dataset, replicas: int):
        self._names = [f"layer{number + 1}" for number in range(scenario.num_layers)]
        if _loops(scenario):
            inputs, outputs = _deep(scenario, dataset, replicas)
        else:
            stacked = keras.models.clone_model(
                make_model(scenario, dataset), clone_function=lambda each: _stacked(each, replicas)
            )
            inputs, outputs = stacked.input, stacked.output
        # Past `Model`, which builds the layers of one network.
        super(Model, self).__init__(inputs, outputs, name="replicas")

    @property
    def dense_layers(self) -> list[keras.layers.Layer]:
        """What holds kernels, the one nearest the input first."""
        return [layer for layer in self.layers if isinstance(layer, (StackedDense, StackedDeep))]

    @property
    def layer_names(self) -> list[str]:
        """Names of the layers of each network."""
        return self._names

    @property
    def activation_layers(self) -> list[keras.layers.Layer]:
        """What applies activations outside of a loop."""
        return [self.get_layer("activation")] if self.deep else super().activation_layers

    @property
    def deep(self) -> StackedDeep | None:
        """The layers that are a loop."""
        return next((layer for layer in self.layers if isinstance(layer, StackedDeep)), None)

    def set_draws(self, draws: Sequence[Sequence[tuple]]) -> None:
        """Draw kernels and biases anew.

        Args:
            draws: of each replica, what `layer_draws` returns.
        """
        by_layer = list(zip(*draws, strict=True))
        for layer in self.dense_layers:
            if isinstance(layer, StackedDeep):
                layer.draw([by_layer.pop(0) for _ in range(layer.depth)])
            else:
                layer.draw(by_layer.pop(0))


def _stacked(layer, replicas):
    """A layer of stacked networks in the place of a network's."""
    if isinstance(layer, keras.layers.Dense):
        return StackedDense(replicas, layer.units, layer.activation, layer.name)
    if isinstance(layer, keras.layers.BatchNormalization):
        # By unit, so units of all replicas may stand in one row.
        return _in_one_row(type(layer).from_config(layer.get_config()), layer, replicas)
    if isinstance(layer, keras.layers.LayerNormalization):
        by_group = keras.layers.GroupNormalization(replicas, epsilon=layer.epsilon)
        return _in_one_row(by_group, layer, replicas)
    return type(layer).from_config(layer.get_config())


def _in_one_row(normalization, layer, replicas):
    units = layer.output.shape[-1]
    row, apart = keras.layers.Flatten(), keras.layers.Reshape((replicas, units))
    return keras.Sequential([row, normalization, apart], name=layer.name)


def _loops(scenario):
    """Whether a network is deep, and of nothing but dense layers of one width."""
    plain = scenario.normalization == "none" and not scenario.skip_connections
    plain = plain and scenario.activation != PARAMETRIC_RELU and scenario.output != "sigmoid_twice"
    return plain and scenario.num_layers >= DEEP


def _deep(scenario, dataset, replicas):
    # Three layers have the sizes of all.
    first, _, last = make_model(dataclasses.replace(scenario, num_layers=3), dataset).dense_layers
    inputs = keras.Input((dataset.input_size,), name="input")
    sums = StackedDense(replicas, first.units, keras.activations.linear, "first")(inputs)
    depth = scenario.num_layers - 2
    sums = StackedDeep(replicas, depth, first.units, first.activation, "deep")(sums)
    outputs = keras.layers.Activation(first.activation, name="activation")(sums)
    return inputs, _stacked(last, replicas)(outputs)


class GroupTrainer(Trainer):
    """Networks of one group in training; what is one number of a network is one a network.

    They share the batches. Initial values, learning rates and the norms at which gradients
    are clipped are each network's own.

    Args:
        scenarios: of one `group`.
        dataset: theirs.
        histograms: whether a record has them.

    Raises:
        ValueError: the scenarios make no network for the data set.
    """

    def __init__(self, scenarios: Sequence[Scenario], dataset: Dataset, histograms: bool = False):
        first, replicas = scenarios[0], len(scenarios)
        self._networks = (replicas,)
        self._clips = _clip(scenarios)
        self._histograms = histograms
        self._evaluation_batch = max(1, EVALUATION_VALUES // (replicas * first.hidden_size))
        self._rates, self._clipnorms = (tf.Variable(tf.zeros([replicas, 1])) for _ in range(2))
        model = StackedModel(first, dataset, replicas)
        super().__init__(
            model,
            self._make_optimizer(first),
            dataset.train,
            first.batch_size,
            first.batch_seed,
            partial_batches=first.partial_batches,
        )
        self._fresh = model.get_weights()
        self.begin(scenarios)

    def begin(self, scenarios: Sequence[Scenario]) -> None:
        """Take on as many scenarios of the same group, without compiling anything.

        Raises:
            ValueError: one of them clips gradients, and none of those before did.
        """
        if _clip(scenarios) and not self._clips:
            raise ValueError("global_clipnorm: the compiled program clips nothing")
        self.model.set_weights(self._fresh)
        self.model.set_draws([draws(scenario) for scenario in scenarios])
        self._rates.assign([[learning_rate(scenario)] for scenario in scenarios])
        self._clipnorms.assign([[scenario.global_clipnorm or np.inf] for scenario in scenarios])
        self._begin(self._make_optimizer(scenarios[0]), scenarios[0].batch_seed)

    def _make_optimizer(self, scenario):
        own = dataclasses.replace(scenario, learning_rate=None, global_clipnorm=None)
        optimizer = make_optimizer(own)
        optimizer.learning_rate = lambda: self._rates
        return optimizer

    def _pack(self, variables, first_kernel):
        return Packing(variables, None, True, *self._networks)

    def _judge(self, logits, labels):
        labels = tf.broadcast_to(labels, [*self._networks, tf.shape(labels)[0]])
        return super()._judge(tf.transpose(logits, [1, 0, 2]), labels)

    # Two programs: in a branch of one, the measures would keep a copy of all gradients
    # and values at every step.
    @functools.cached_property
    def _compiled_blocks(self):
        blocks = {r: functools.partial(self._block, record=r) for r in (False, True)}
        return {r: self._traced_block(block) for r, block in blocks.items()}

    def compile(self) -> None:
        """Compile both."""
        for record in self._compiled_blocks:
            self._run(0, -1, record)

    def _call_block(self, record, *arguments):
        return self._compiled_blocks[record](*arguments)

    def _run(self, first, last, record):
        if record and first < last:
            super()._run(first, last - 1, False)
            first = last
        return super()._run(first, last, record)

    def _apply(self, gradients):
        if self._clips:
            squares = tf.add_n([_sum_by_replica(tf.square(gradient)) for gradient in gradients])
            norms, most = tf.sqrt(squares), tf.convert_to_tensor(self._clipnorms)
            # NaN for a norm that is not finite, as in Keras, but where nothing is clipped.
            factor = tf.minimum(1.0, most / norms) + (norms - norms)
            factor = tf.where(tf.math.is_inf(most), 1.0, factor)
            gradients = [factor * gradient for gradient in gradients]
        super()._apply(gradients)

    def _signals(self, tape, loss, logits, taps):
        [outputs] = super()._signals(tape, loss, logits, taps)
        deep = self.model.deep
        return [[deep.outputs_before(), *outputs] if deep else outputs]

    def _signal_shapes(self, batch_size):
        shapes, deep = super()._signal_shapes(batch_size), self.model.deep
        rows = deep.depth * self._networks[0] if deep else 0
        return [(batch_size, rows, deep.units), *shapes] if deep else shapes

    def _measure(self, values, gradients, signals):
        kernels = [[part[k] for k in self._kernel_positions] for part in (gradients, values)]
        measured = layer_measures(*kernels, histograms=self._histograms, full=True, stacked=True)
        measured = {key: measured[key] for key in (*MEASURES, *HISTOGRAMS) if key in measured}
        [outputs] = signals
        limits = [activation_range(layer) for layer in self.model.activation_layers]
        limits = limits[:1] * (len(outputs) - len(limits)) + limits
        shares = [shares_of_units(*layer) for layer in zip(outputs, limits, strict=True)]
        if shares:
            joined = tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *shares)
            return {"layers": measured, "signals": joined}
        return {"layers": measured}

    def _tables(self, measured):
        """Names of layers with their measures, as arrays `[layers, networks, ...]`."""

        def apart(part):
            return part.reshape(-1, *self._networks, *part.shape[1:])

        tables, _ = super()._tables(measured)
        return [(names, tf.nest.map_structure(apart, table)) for names, table in tables], {}


def _clip(scenarios):
    return any(scenario.global_clipnorm is not None for scenario in scenarios)


def _sum_by_replica(values):
    """Sums `[replicas, 1]` of values `[..., replicas, values]`."""
    sums = tf.reduce_sum(values, axis=-1, keepdims=True)
    return sums if sums.shape.rank == 2 else tf.reduce_sum(sums, axis=0)


def draws(scenario: Scenario) -> list[tuple]:
    """What draws a scenario's kernels and biases, layer by layer."""
    return layer_draws(
        scenario.num_layers,
        scenario.seed,
        scenario.kernel_initializer,
        scenario.output_initializer,
        scenario.shared_initializer,
        scenario.bias_initializer,
        scenario.output,
    )


def learning_rate(scenario: Scenario) -> float:
    """A scenario's learning rate, its optimizer's own where it has none."""
    return float(make_optimizer(scenario).learning_rate)
