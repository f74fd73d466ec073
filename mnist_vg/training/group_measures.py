"""`GroupMeasures`: what the table of a sweep, or a run folder, holds of a group's step."""

import tensorflow as tf

from mnist_vg.recording.measures import layer_measures, shares_of_units
from mnist_vg.runs.tags import HISTOGRAMS, TABLE_MEASURES
from mnist_vg.training.step_measures import StepMeasures


class GroupMeasures(StepMeasures):
    """`StepMeasures` of networks that train side by side.

    Args:
        replicas: number of networks.
        histograms: whether a record has histograms.
        given: as `StepMeasures` takes them.
    """

    _stacked = True

    def __init__(self, *given, replicas: int, histograms: bool, **options):
        self._replicas, self._histograms = replicas, histograms
        super().__init__(*given, **options)

    def _signal_shapes(self, batch_size):
        shapes, deep = super()._signal_shapes(batch_size), self._model.deep
        rows = deep.depth * self._replicas if deep else 0
        return [(batch_size, rows, deep.units), *shapes] if deep else shapes

    def _measure(self, values, gradients, signals):
        kernels = [self._of_kernels(part) for part in (gradients, values)]
        layers = layer_measures(*kernels, histograms=self._histograms, full=True, stacked=True)
        layers = {key: layers[key] for key in (*TABLE_MEASURES, *HISTOGRAMS) if key in layers}
        [outputs] = signals
        limits = [self._range(layer) for layer in self._model.activation_layers]
        limits = limits[:1] * (len(outputs) - len(limits)) + limits
        shares = [shares_of_units(*layer) for layer in zip(outputs, limits, strict=True)]
        if shares:
            joined = tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *shares)
            return {"layers": layers, "signals": joined}
        return {"layers": layers}

    def tables(self, measured):
        """Names of layers with their measures, name to array `[layers, networks, ...]`."""

        def apart(part):
            return part.reshape(-1, self._replicas, *part.shape[1:])

        tables, _ = super().tables(measured)
        return [(names, tf.nest.map_structure(apart, table)) for names, table in tables], {}
