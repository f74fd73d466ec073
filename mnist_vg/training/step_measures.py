"""`StepMeasures`: what a record holds of a step."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from mnist_vg.keras_models.layers import activation_range
from mnist_vg.model import Model
from mnist_vg.recording.measures import (
    histogram,
    layer_measures,
    measure_each,
    norm,
    rms,
    signal_measures,
    unit_shares,
)
from mnist_vg.runs.tags import (
    ACTIVATION_INPUTS,
    ACTIVATIONS,
    BACKPROPAGATED,
    GRADIENTS,
    UPDATE_RATIO,
    WEIGHTS,
)
from mnist_vg.training.chosen_activation import ChosenActivation
from mnist_vg.training.packing import Packing

TINY = 2**8
"""A full record holds all values of a kernel with at most this many weights."""

Tables = list[tuple[list[str], dict]]
"""Names of layers with their measures, name to array."""


class StepMeasures:
    """Measures what the block has caught of a step.

    Sums are a compiled program of their own, beside the block's. A histogram is not compiled:
    counts, and the two ends, are the same to the last bit, and XLA takes longer to compile it than
    for all the rest.

    Args:
        model: the network.
        packing: its variables, which after a step hold the values after that step.
        batch_sizes: of all batches.
        clipnorm: the global norm to which the optimizer clips, if it does.
        full: whether to take full records.
        choice: the activation of the hidden layers, if it is chosen.
        jit_compile: whether XLA compiles the sums.

    Attributes:
        caught: specs of what the block is to catch: `values` and `gradients`, packed by `packing`,
            and `signals` by batch size.
    """

    _stacked = False

    def __init__(
        self,
        model: Model,
        packing: Packing,
        batch_sizes: Sequence[int],
        *,
        clipnorm: float | None = None,
        full: bool = False,
        choice: ChosenActivation | None = None,
        jit_compile: bool = True,
    ):
        self._model, self._packing = model, packing
        self._full, self._clipnorm, self._choice = full, clipnorm, choice
        self._names = model.layer_names
        self._kernels = packing.positions([layer.kernel for layer in model.dense_layers])
        packed = [tf.TensorSpec(variable.shape, tf.float32) for variable in packing.variables]
        signals = {size: self._signal_specs(size) for size in batch_sizes}
        self.caught = {"values": packed, "gradients": packed, "signals": signals}
        self._compiled_sums = tf.function(
            self._unpacked(self._sums), jit_compile=jit_compile, autograph=False
        )
        traced = tf.function(self._measure, autograph=False)
        self._traced = {
            size: traced.get_concrete_function(*self._of_size(self.caught, size))
            for size in batch_sizes
        }

    def _signal_specs(self, batch_size):
        hidden = [tf.TensorSpec(shape, tf.float32) for shape in self._signal_shapes(batch_size)]
        if not self._full:
            return [hidden]
        logits = tf.TensorSpec([batch_size, self._model.output_shape[-1]], tf.float32)
        return [hidden, hidden, hidden, [*hidden, *hidden, logits]]

    def _signal_shapes(self, batch_size):
        return [(batch_size, *layer.output.shape[1:]) for layer in self._model.activation_layers]

    def _of_size(self, caught, batch_size):
        return caught["values"], caught["gradients"], caught["signals"][batch_size]

    def calls(self) -> list[Callable]:
        """Calls that compile the sums, by measuring zeros."""
        zeros = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), self.caught)
        return [
            functools.partial(traced, *self._of_size(zeros, size))
            for size, traced in self._traced.items()
        ]

    def measure(self, caught: dict, batch_size: int) -> tuple[Tables, dict[str, np.ndarray]]:
        """What a record holds of the step, as `Block` has it.

        Args:
            caught: of the newest step, as `caught` describes it.
            batch_size: of that step.
        """
        return self._tables(self._traced[batch_size](*self._of_size(caught, batch_size)))

    def weights(self) -> tuple[Tables, dict[str, np.ndarray]]:
        """What a full record holds of the present weights: tables, and the small kernels."""
        kernels = [layer.kernel.value for layer in self._model.dense_layers]
        measured = layer_measures(kernels, kernels, full=True)
        measured = {key: part for key, part in measured.items() if key.startswith("weight")}
        return self._tables({"layers": measured, "kernels": self._tiny(kernels)})

    def _tiny(self, kernels):
        named = zip(self._names, kernels, strict=True)
        return {name: kernel for name, kernel in named if kernel.shape.num_elements() <= TINY}

    def _tables(self, measured):
        """The tables, and the small kernels."""
        measured = tf.nest.map_structure(lambda part: part.numpy(), measured)
        tables = [(self._names, measured["layers"])]
        if "signals" in measured:
            tables.append((self._names[:-1], measured["signals"]))
        return tables, measured.get("kernels", {})

    def _of_kernels(self, values):
        return [values[k] for k in self._kernels]

    def _measure(self, values, gradients, signals):
        measured = self._compiled_sums(values, gradients, signals)
        histograms = self._unpacked(self._histograms)(values, gradients, signals)
        for table, of_table in histograms.items():
            measured[table] |= of_table
        return measured

    def _unpacked(self, measure):
        return lambda values, gradients, signals: measure(
            self._packing.unpack(values), self._packing.unpack(gradients), signals
        )

    def _sums(self, values, gradients, signals):
        """All measures but histograms."""
        clipped = None
        if self._full and self._clipnorm:
            clipped = self._of_kernels(tf.clip_by_global_norm(gradients, self._clipnorm)[0])
        weights = self._of_kernels(values)
        layers = layer_measures(
            self._of_kernels(gradients), weights, clipped, histograms=False, full=self._full
        )
        layers[UPDATE_RATIO] = self._update_ratio(values)
        measured = {"layers": layers}
        outputs, *more = signals
        ranges = [self._range(layer) for layer in self._model.activation_layers]
        if ranges and not self._full:
            measured["signals"] = unit_shares(outputs, ranges)
        if self._full:
            inputs, slopes, back = more
            to_inputs, to_outputs = back[: len(inputs)], back[len(inputs) : -1]
            layers[BACKPROPAGATED] = measure_each(rms, [*to_inputs, back[-1]])
            if ranges:
                measured["signals"] = signal_measures(outputs, ranges, slopes, to_outputs)
            as_in_model = self._packing.model_values(values)
            measured["kernels"] = self._tiny(self._of_kernels(as_in_model))
        return measured

    def _histograms(self, values, gradients, signals):
        parts = {GRADIENTS: self._of_kernels(gradients), WEIGHTS: self._of_kernels(values)}
        measured = {"layers": _histograms_of(parts, self._stacked)}
        outputs, *more = signals
        if self._full and outputs:
            parts = {ACTIVATIONS: outputs, ACTIVATION_INPUTS: more[0]}
            measured["signals"] = _histograms_of(parts)
        return measured

    def _range(self, layer):
        chosen = self._choice and layer in self._model.hidden_layers
        return self._choice.range if chosen else activation_range(layer)

    def _update_ratio(self, before):
        """Norm of each layer's update over the norm of its weights, `[layers]`."""
        weights, after = self._of_kernels(before), self._of_kernels(self._packing.unpack())
        moved = [new - old for new, old in zip(after, weights, strict=True)]
        norms = measure_each(norm, [*moved, *weights], self._stacked)
        return tf.divide(*tf.split(norms, 2))


def _histograms_of(parts, stacked=False):
    """Histograms of equally many tensors under each name, in few operations."""
    rows = measure_each(histogram, [tensor for part in parts.values() for tensor in part], stacked)
    split = {key: tf.split(values, len(parts)) for key, values in rows.items()}
    return {
        name: {key: values[number] for key, values in split.items()}
        for number, name in enumerate(parts)
    }
