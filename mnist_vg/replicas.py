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
from mnist_vg.measures import layer_measures, unit_shares
from mnist_vg.model import Model, layer_draws
from mnist_vg.packing import Packing
from mnist_vg.scenarios import Scenario
from mnist_vg.tags import GRADIENT_MEAN_ABS, HISTOGRAMS, NONFINITE
from mnist_vg.training import Trainer

MEASURES = (GRADIENT_MEAN_ABS, "gradient_norm", "weight_norm", *NONFINITE)
"""What a record of stacked networks holds of each layer, beside updates and units."""

EVALUATION_VALUES = 2**22
"""Values of a hidden layer that are scored at once: 16 MiB."""


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
        """Make the kernel, `[replicas, inputs, units]`; of shared inputs `[…, units, inputs]`."""
        size = (input_shape[-1], self.units)
        # The products of all replicas are one then, of rows.
        size = size[::-1] if len(input_shape) == 2 else size
        self.kernel = self.add_weight(shape=(self._replicas, *size), name="kernel")
        self.bias = self.add_weight(shape=(self._replicas, self.units), name="bias")

    def call(self, inputs):
        """The activations of every replica."""
        if inputs.shape.rank == 2:
            kernels = tf.reshape(self.kernel, [-1, inputs.shape[-1]])
            sums = tf.matmul(inputs, kernels, transpose_b=True)
            sums = tf.reshape(sums, [-1, self._replicas, self.units])
        else:
            sums = tf.einsum("bri,rio->bro", inputs, self.kernel)
        return self.activation(sums + self.bias)

    def compute_output_shape(self, input_shape):
        """`[batch, replicas, units]`."""
        return input_shape[0], self._replicas, self.units


class StackedModel(Model):
    """A network's structure so many times side by side: `[batch, replicas, logits]`.

    No replica's numbers reach another's.

    Args:
        model: gives the structure; initial values are `set_draws`' to give.
        replicas: how many.
    """

    def __init__(self, model: Model, replicas: int):
        stacked = keras.models.clone_model(
            model, clone_function=lambda layer: _stacked(layer, replicas)
        )
        # Past `Model`, which builds the layers of one network.
        super(Model, self).__init__(stacked.inputs, stacked.outputs, name="replicas")

    @property
    def dense_layers(self) -> list[StackedDense]:
        """`layer1` … `layerN`, the one nearest the input first."""
        return [layer for layer in self.layers if isinstance(layer, StackedDense)]

    def set_draws(self, draws: Sequence[Sequence[tuple]]) -> None:
        """Draw kernels and biases anew.

        Args:
            draws: of each replica, what `layer_draws` returns.
        """
        for layer, *of_replicas in zip(self.dense_layers, *draws, strict=True):
            size = (layer.input.shape[-1], layer.units)
            shared = len(layer.input.shape) == 2
            kernels = [np.asarray(of_kernel(size)) for of_kernel, _ in of_replicas]
            layer.kernel.assign([kernel.T for kernel in kernels] if shared else kernels)
            layer.bias.assign([of_bias((layer.units,)) for _, of_bias in of_replicas])


def _stacked(layer, replicas):
    """A layer of stacked networks in the place of a network's."""
    if isinstance(layer, keras.layers.Dense):
        activation = layer.activation
        return StackedDense(replicas, layer.units, activation, layer.name)
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
        self._histograms = histograms
        self._evaluation_batch = max(1, EVALUATION_VALUES // (replicas * first.hidden_size))
        self._rates, self._clipnorms = (tf.Variable(tf.zeros([replicas, 1])) for _ in range(2))
        model = StackedModel(make_model(first, dataset), replicas)
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
        """Take on as many scenarios of the same group, without compiling anything."""
        self.model.set_weights(self._fresh)
        self.model.set_draws([draws(scenario) for scenario in scenarios])
        self._rates.assign([[learning_rate(scenario)] for scenario in scenarios])
        self._clipnorms.assign([[scenario.global_clipnorm or np.inf] for scenario in scenarios])
        self._begin(self._make_optimizer(scenarios[0]), scenarios[0].batch_seed)

    def _make_optimizer(self, scenario):
        own = dataclasses.replace(scenario, learning_rate=None, global_clipnorm=None)
        optimizer = make_optimizer(own)
        optimizer.learning_rate = lambda: self._rates
        self._clips = scenario.global_clipnorm is not None
        return optimizer

    def _pack(self, variables, first_kernel):
        return Packing(variables, None, True, *self._networks)

    def _judge(self, logits, labels):
        labels = tf.broadcast_to(labels, [*self._networks, tf.shape(labels)[0]])
        return super()._judge(tf.transpose(logits, [1, 0, 2]), labels)

    # Two programs: in a branch of one, the measures would keep a copy of all gradients
    # and values at every step.
    def _trace_block(self):
        blocks = {r: functools.partial(self._block, record=r) for r in (False, True)}
        self._compiled_blocks = {r: self._traced_block(block) for r, block in blocks.items()}

    def _call_block(self, record, *arguments):
        return self._compiled_blocks[record](*arguments)

    def _run(self, first, last, record):
        if record and first < last:
            super()._run(first, last - 1, False)
            first = last
        return super()._run(first, last, record)

    def _apply(self, gradients):
        if self._clips:
            squares = [tf.reduce_sum(tf.square(g), axis=1, keepdims=True) for g in gradients]
            norms = tf.sqrt(tf.add_n(squares))
            factor = self._clipnorms / tf.maximum(norms, self._clipnorms)
            gradients = [factor * gradient for gradient in gradients]
        super()._apply(gradients)

    def _measure(self, values, gradients, signals):
        kernels = [[part[k] for k in self._kernel_positions] for part in (gradients, values)]
        measured = layer_measures(
            *kernels, histograms=self._histograms, full=True, rows=self._networks[0]
        )
        measured = {key: measured[key] for key in (*MEASURES, *HISTOGRAMS) if key in measured}
        outputs = signals[0]
        ranges = [activation_range(layer) for layer in self.model.activation_layers]
        return {"layers": measured} | ({"signals": unit_shares(outputs, ranges)} if outputs else {})

    def _tables(self, measured):
        """Names of layers with their measures, as arrays `[layers, networks, ...]`."""
        tables, kernels = super()._tables(measured)

        def apart(part):
            return part.reshape(-1, *self._networks, *part.shape[1:])

        names, layers = tables[0]
        tables[0] = names, tf.nest.map_structure(apart, layers)
        return tables, kernels


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
