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
    measure_parts,
    norm,
    rms,
    signal_measures,
    unit_shares,
)
from mnist_vg.runs.tags import (
    BACKPROPAGATED,
    GRADIENT_MEAN_ABS,
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


APART = 2**14
"""With at most this many values in all, default measures are a program of their own.

Starting is then half a second faster, and each step copies its values and gradients: 6 µs of 80 in
the tutorial's network, but three quarters of a step with layers of 1,000 units."""


class StepMeasures:
    """Measures a step, in a branch of the block or in a program of its own.

    In a branch, the block carries the measures from step to step. For a small network, it carries
    what they need, and they are compiled beside the block. Their histograms are not compiled then:
    counts, and the two ends, are the same to the last bit, and XLA takes as long for them as for
    all the rest.

    Args:
        model: the network.
        packing: its variables, which after a step hold the values after that step.
        batch_sizes: of all batches.
        clipnorm: the global norm to which the optimizer clips, if it does.
        full: whether to take full records.
        choice: the activation of the hidden layers, if it is chosen.
        jit_compile: whether XLA compiles the block.
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
        values = [tf.TensorSpec(value.shape, tf.float32) for value in packing.unpack()]
        size = sum(value.shape.num_elements() for value in values)
        self._apart = jit_compile and size <= APART and not (full or self._stacked)
        signals = {size: self._signal_specs(size) for size in batch_sizes}
        if self._apart:
            packed = [tf.TensorSpec(part.shape, tf.float32) for part in packing.variables]
            self._caught = {"values": packed, "gradients": packed, "signals": signals}
            self._compiled_sums = tf.function(self._packed_sums, jit_compile=True, autograph=False)
            self._traced = _traced(self._measure_apart, packed, signals)
        else:
            self._traced = _traced(self._measure_in_branch, values, signals)
            measured = self._traced[batch_sizes[0]].structured_outputs
            some = measured["layers"][GRADIENT_MEAN_ABS]
            layers = measured["layers"] | {UPDATE_RATIO: tf.TensorSpec(some.shape, some.dtype)}
            self._caught = measured | {"layers": layers}

    def _signal_specs(self, batch_size):
        hidden = [tf.TensorSpec(shape, tf.float32) for shape in self._signal_shapes(batch_size)]
        if not self._full:
            return [hidden]
        logits = tf.TensorSpec([batch_size, self._model.output_shape[-1]], tf.float32)
        return [hidden, hidden, hidden, [*hidden, *hidden, logits]]

    def _signal_shapes(self, batch_size):
        return [(batch_size, *layer.output.shape[1:]) for layer in self._model.activation_layers]

    def nothing(self) -> dict:
        """Zeros in the form of what is caught of a step."""
        return tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), self._caught)

    def catch(self, values, gradients, signals, batch_size, before) -> dict:
        """What the block is to carry of a step that is recorded, before its update.

        Args:
            values: at which the gradients were taken.
            gradients: of the step.
            signals: as `Trainer` returns them.
            batch_size: of the step.
            before: what was caught of an earlier step.
        """
        if self._apart:
            # Packed, since each tensor of a call takes its time.
            packed = {
                "values": self._packing.pack(values),
                "gradients": self._packing.pack(gradients),
            }
            return packed | {"signals": before["signals"] | {batch_size: signals}}
        measured = self._traced[batch_size](values, gradients, signals)
        measured["layers"][UPDATE_RATIO] = before["layers"][UPDATE_RATIO]
        return measured

    def catch_update(self, values, caught) -> dict:
        """What the block is to carry of a step that is recorded, after its update.

        Args:
            values: before the update.
            caught: as `catch` returned it.
        """
        if self._apart:
            return caught
        ratio = {UPDATE_RATIO: self._update_ratio(values)}
        return caught | {"layers": caught["layers"] | ratio}

    def calls(self) -> list[Callable]:
        """Calls that compile what is a program of its own, by measuring zeros."""
        if not self._apart:
            return []
        zeros = self.nothing()
        given = zeros["values"], zeros["gradients"]
        return [
            functools.partial(traced, *given, zeros["signals"][size])
            for size, traced in self._traced.items()
        ]

    def measure(self, caught: dict, batch_size: int) -> tuple[Tables, dict[str, np.ndarray]]:
        """What a record holds of the newest step, as `Block` has it.

        Args:
            caught: of the step, as the block returned it.
            batch_size: of the step.
        """
        if self._apart:
            signals = caught["signals"][batch_size]
            caught = self._traced[batch_size](caught["values"], caught["gradients"], signals)
        return self._tables(caught)

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

    def _measure_apart(self, values, gradients, signals):
        measured = self._compiled_sums(values, gradients, signals)
        parts = [self._of_kernels(self._packing.unpack(part)) for part in (gradients, values)]
        histograms = measure_parts([{GRADIENTS: histogram}, {WEIGHTS: histogram}], parts)
        return measured | {"layers": measured["layers"] | histograms}

    def _packed_sums(self, values, gradients, signals):
        values = self._packing.unpack(values)
        gradients = self._packing.unpack(gradients)
        measured = self._measure(values, gradients, signals, histograms=False)
        measured["layers"][UPDATE_RATIO] = self._update_ratio(values)
        return measured

    def _measure_in_branch(self, values, gradients, signals):
        return self._measure(values, gradients, signals, histograms=True)

    def _measure(self, values, gradients, signals, histograms):
        clipped = None
        if self._full and self._clipnorm:
            clipped = self._of_kernels(tf.clip_by_global_norm(gradients, self._clipnorm)[0])
        weights = self._of_kernels(values)
        layers = layer_measures(
            self._of_kernels(gradients), weights, clipped, histograms, full=self._full
        )
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
                measured["signals"] = signal_measures(outputs, ranges, inputs, slopes, to_outputs)
            as_in_model = self._packing.model_values(values)
            measured["kernels"] = self._tiny(self._of_kernels(as_in_model))
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


def _traced(measure, values, signals):
    """A measure of values, gradients and signals, traced for each batch size."""
    function = tf.function(measure, autograph=False)
    return {
        size: function.get_concrete_function(values, values, of_size)
        for size, of_size in signals.items()
    }
