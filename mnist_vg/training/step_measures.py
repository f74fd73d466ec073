"""`StepMeasures`: what a record holds of a step."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from mnist_vg.keras_models.layers import activation_range
from mnist_vg.model import Model
from mnist_vg.recording.measures import (
    layer_measures,
    measure_each,
    norm,
    rms,
    signal_measures,
    unit_shares,
)
from mnist_vg.runs.tags import (
    BACKPROPAGATED,
    GRADIENT_MEAN_ABS,
    UPDATE_RATIO,
)
from mnist_vg.training.chosen_activation import ChosenActivation
from mnist_vg.training.packing import Packing

TINY = 2**8
"""A full record holds all values of a kernel with at most this many weights."""

Tables = list[tuple[list[str], dict]]
"""Names of layers with their measures, name to array."""


class StepMeasures:
    """Measures a step in a branch of the block, which carries the measures from step to step.

    Args:
        model: the network.
        packing: its variables, which after a step hold the values after that step.
        batch_sizes: of all batches.
        clipnorm: the global norm to which the optimizer clips, if it does.
        full: whether to take full records.
        choice: the activation of the hidden layers, if it is chosen.
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
    ):
        self._model, self._packing = model, packing
        self._full, self._clipnorm, self._choice = full, clipnorm, choice
        self._names = model.layer_names
        self._kernels = packing.positions([layer.kernel for layer in model.dense_layers])
        values = [tf.TensorSpec(value.shape, tf.float32) for value in packing.unpack()]
        traced = tf.function(self._measure, autograph=False)
        self._traced = {
            size: traced.get_concrete_function(values, values, self._signal_specs(size))
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

    def nothing(self) -> dict:
        """Zeros in the form of a step's measures."""
        traced, *_ = self._traced.values()
        measured = tf.nest.map_structure(
            lambda spec: tf.zeros(spec.shape, spec.dtype), traced.structured_outputs
        )
        ratio = {UPDATE_RATIO: tf.zeros_like(measured["layers"][GRADIENT_MEAN_ABS])}
        return measured | {"layers": measured["layers"] | ratio}

    def of_step(self, values, gradients, signals, batch_size, before) -> dict:
        """The measures of a step before its update.

        Args:
            values: at which the gradients were taken.
            gradients: of the step.
            signals: as `Trainer` returns them.
            batch_size: of the step.
            before: the measures that the block carries.
        """
        measured = self._traced[batch_size](values, gradients, signals)
        measured["layers"][UPDATE_RATIO] = before["layers"][UPDATE_RATIO]
        return measured

    def with_update(self, values, measured) -> dict:
        """The measures of a step after its update.

        Args:
            values: before the update.
            measured: what `of_step` returned.
        """
        ratio = {UPDATE_RATIO: self._update_ratio(values)}
        return measured | {"layers": measured["layers"] | ratio}

    def weights(self) -> tuple[Tables, dict[str, np.ndarray]]:
        """What a full record holds of the present weights: tables, and the small kernels."""
        kernels = [layer.kernel.value for layer in self._model.dense_layers]
        measured = layer_measures(kernels, kernels, full=True)
        measured = {key: part for key, part in measured.items() if key.startswith("weight")}
        return self.tables({"layers": measured, "kernels": self._tiny(kernels)})

    def _tiny(self, kernels):
        named = zip(self._names, kernels, strict=True)
        return {name: kernel for name, kernel in named if kernel.shape.num_elements() <= TINY}

    def tables(self, measured: dict) -> tuple[Tables, dict[str, np.ndarray]]:
        """Measures as `Block` has them: the tables, and the small kernels."""
        measured = tf.nest.map_structure(lambda part: part.numpy(), measured)
        tables = [(self._names, measured["layers"])]
        if "signals" in measured:
            tables.append((self._names[:-1], measured["signals"]))
        return tables, measured.get("kernels", {})

    def _of_kernels(self, values):
        return [values[k] for k in self._kernels]

    def _measure(self, values, gradients, signals):
        clipped = None
        if self._full and self._clipnorm:
            clipped = self._of_kernels(tf.clip_by_global_norm(gradients, self._clipnorm)[0])
        weights = self._of_kernels(values)
        layers = layer_measures(self._of_kernels(gradients), weights, clipped, full=self._full)
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
