"""`StackedModel`: networks of one structure side by side, as one Keras model.

No network's numbers reach another's. So the gradient of the sum of their losses holds the
gradient of each loss.
"""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from mnist_vg.datasets import Dataset
from mnist_vg.model import Model
from mnist_vg.scenarios.scenario import PARAMETRIC_RELU, Scenario
from mnist_vg.training.build import make_model

DEEP = 32
"""From this many layers on, the hidden layers are a loop in the program. A step is then
somewhat slower, but compiling takes seconds at any depth (`benchmarks/replicas.py`)."""


class StackedDense(keras.layers.Layer):
    """Dense layers of one size side by side.

    It maps `[batch, values]`, which all replicas see, or `[batch, replicas, values]` to
    `[batch, replicas, units]`.

    Args:
        replicas: number of layers.
        units: of each layer.
        activation: of all layers.
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
            # One row per unit, so that the products of all replicas are one product.
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
        """Draw new values.

        Args:
            draws: initializers of kernel and bias, one pair per replica.
        """
        kernels = [np.asarray(of_kernel((self._inputs, self.units))) for of_kernel, _ in draws]
        self.kernel.assign([(k.T if self._shared else k).ravel() for k in kernels])
        self.bias.assign([of_bias((self.units,)) for _, of_bias in draws])


class StackedDeep(keras.layers.Layer):
    """Hidden layers of one width, one after the other, as a loop in the program.

    The compiled program is as long for a hundred layers as for one. The layer maps the
    sums that go into one activation to the sums that go into the activation `depth` layers
    later, both `[batch, replicas, units]`.

    Args:
        replicas: number of networks.
        depth: number of layers.
        units: of each layer.
        activation: of all layers.
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
        # Replicas first, so that one batched product computes a layer of all of them.
        sums, self._before = self._loop(tf.transpose(sums, [1, 0, 2]), kernels, biases)
        return tf.transpose(sums, [1, 0, 2])

    def outputs_before(self):
        """The outputs of the activations in the loop, `[batch, depth * replicas, units]`."""
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
        """Gradients with respect to first sums, kernels and biases, given that of the last sums."""

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
        """Draw new values.

        Args:
            draws: for each layer, initializers of kernel and bias, one pair per replica.
        """
        size = (self.units, self.units)
        kernels = [[np.ravel(of_kernel(size)) for of_kernel, _ in layer] for layer in draws]
        self.kernel.assign(kernels)
        self.bias.assign([[of_bias((self.units,)) for _, of_bias in layer] for layer in draws])


class StackedModel(Model):
    """A network's structure several times side by side, with outputs `[batch, replicas, logits]`.

    Args:
        scenario: gives the structure; `set_draws` gives the initial values.
        dataset: gives the sizes of examples and logits.
        replicas: number of networks.
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
        # Not `Model.__init__`, which builds the layers of a single network.
        super(Model, self).__init__(inputs, outputs, name="replicas")

    @property
    def dense_layers(self) -> list[keras.layers.Layer]:
        """The layers with kernels, the one nearest the input first."""
        return [layer for layer in self.layers if isinstance(layer, (StackedDense, StackedDeep))]

    @property
    def layer_names(self) -> list[str]:
        """Names of the layers of each network."""
        return self._names

    @property
    def activation_layers(self) -> list[keras.layers.Layer]:
        """The layers that apply activations, outside the loop of a deep network."""
        return [self.get_layer("activation")] if self.deep else super().activation_layers

    @property
    def deep(self) -> StackedDeep | None:
        """The hidden layers that are a loop; None in a network that is not deep."""
        return next((layer for layer in self.layers if isinstance(layer, StackedDeep)), None)

    def set_draws(self, draws: Sequence[Sequence[tuple]]) -> None:
        """Draw new kernels and biases.

        Args:
            draws: what `layer_initializers` returns, for each replica.
        """
        by_layer = list(zip(*draws, strict=True))
        for layer in self.dense_layers:
            if isinstance(layer, StackedDeep):
                layer.draw([by_layer.pop(0) for _ in range(layer.depth)])
            else:
                layer.draw(by_layer.pop(0))


def _stacked(layer, replicas):
    """The stacked form of a network's layer."""
    if isinstance(layer, keras.layers.Dense):
        return StackedDense(replicas, layer.units, layer.activation, layer.name)
    if isinstance(layer, keras.layers.BatchNormalization):
        # It works unit by unit, so the units of all replicas can stand in one row.
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
    """Whether a network is deep and has only plain dense layers of one width."""
    plain = scenario.normalization == "none" and not scenario.skip_connections
    plain = plain and scenario.activation != PARAMETRIC_RELU and scenario.output != "sigmoid_twice"
    return plain and scenario.num_layers >= DEEP


def _deep(scenario, dataset, replicas):
    # A network of three layers has every size that is needed.
    first, _, last = make_model(dataclasses.replace(scenario, num_layers=3), dataset).dense_layers
    inputs = keras.Input((dataset.input_size,), name="input")
    sums = StackedDense(replicas, first.units, keras.activations.linear, "first")(inputs)
    depth = scenario.num_layers - 2
    sums = StackedDeep(replicas, depth, first.units, first.activation, "deep")(sums)
    outputs = keras.layers.Activation(first.activation, name="activation")(sums)
    return inputs, _stacked(last, replicas)(outputs)
