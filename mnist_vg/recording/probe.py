"""From a step's gradients to the numbers of a record, eagerly or in a graph."""

import functools
import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from mnist_vg.errors import UsageError
from mnist_vg.keras_models.layers import LayerWeights, check_pattern, group_weights, layer_weights
from mnist_vg.recording.measures import (
    LARGE,
    activation_measures,
    measure_parts,
    measures_of,
    squared_distance,
)
from mnist_vg.runs.marks import FROZEN, WITH_GRADIENT, WITHOUT_GRADIENT
from mnist_vg.runs.tags import GRADIENT_THROUGH_TIME, LAYER_STATE, UPDATE_RATIO


class Probe:
    """Measures gradients and weights by layer: `measure` inside a step, `tables` after it.

    Args:
        model: gives the names of the layers; without a model the variables' paths serve.
        pattern: a regular expression; layers whose path contains it are measured.
        histograms: whether to add histograms.
        full: whether to take the measures of a full record.

    Raises:
        UsageError: the pattern is no regular expression, or matches no layer.
    """

    def __init__(self, model: keras.Model | None, pattern: str, histograms: bool, full: bool):
        _check_expression(pattern)
        if model is not None and all(layer.built for layer in model.layers):
            check_pattern(model, model.trainable_variables, pattern)
        self.model, self.pattern, self.full = model, pattern, full
        self._histograms = histograms
        self._groups: dict[tuple, dict[str, list[int]]] = {}
        self._layers: dict[tuple, dict[str, LayerWeights]] = {}
        self._unmeasured: list[list] = []
        self._spec = None

    def measure(
        self,
        gradients,
        variables,
        clipped=None,
        activations=None,
        weights=None,
        through_time=None,
    ) -> tf.Tensor:
        """Measure one step.

        Args:
            gradients: one per variable; None for a variable without a gradient.
            variables: the variables, not updated yet.
            clipped: the gradients after clipping, for the full record.
            activations: path of a layer to `(outputs, range)`, see `activation_measures`.
            weights: what the variables held before the update, if they are updated already.
            through_time: path of a recurrent layer to what `log10_first_to_last` returns.

        Returns:
            What `tables` takes, float64 `[numbers]`.

        Raises:
            UsageError: gradients and variables do not fit each other, or are not those
                of the step before.
        """
        _check_gradients(gradients, variables)
        groups = {
            path: [i for i in group if gradients[i] is not None]
            for path, group in self.group(variables).items()
        }
        groups = {path: group for path, group in groups.items() if group}
        if not groups:
            check_pattern(self.model, variables, self.pattern)
            raise UsageError("gradients: none of the variables that are recorded has one")
        states = self._states(variables, groups)

        def by_layer(tensors):
            return [
                _join([tensors[i] for i in group], [variables[i].shape for i in group])
                for group in groups.values()
            ]

        clipped = by_layer(clipped) if clipped and self.full else []
        parts = by_layer(gradients), by_layer(weights or variables), clipped
        measured = [_measured_layers(parts, self._histograms, self.full)]
        names = [tuple(groups)]
        if through_time and not groups.keys().isdisjoint(through_time):
            ratios = [through_time.get(path, np.nan) for path in groups]
            measured[0][GRADIENT_THROUGH_TIME] = tf.stack(ratios)
        if activations:
            outputs, ranges = zip(*activations.values(), strict=True)
            measured.append(activation_measures(outputs, ranges, self._histograms))
            names.append(tuple(activations))
        self._check_same(names, states, measured)
        flat = [tf.reshape(part, [-1]) for part in tf.nest.flatten(measured)]
        return tf.concat([tf.cast(part, tf.float64) for part in flat], axis=0)

    def distances(self, variables, before) -> tf.Tensor:
        """How far the weights of each layer with a gradient have moved, as norms.

        `measure` comes first.

        Args:
            variables: updated.
            before: what they held before.

        Returns:
            float64 `[layers]`.
        """
        squares = [
            squared_distance(tf.convert_to_tensor(variable), earlier)
            for variable, earlier in zip(variables, before, strict=True)
        ]
        groups = self.group(variables)
        measured, *_ = self._spec[0]
        sums = [tf.add_n([squares[i] for i in groups[path]]) for path in measured]
        return tf.sqrt(tf.stack(sums))

    def renewed(self) -> "Probe":
        """A probe with the same settings, for the model as it is now."""
        return Probe(self.model, self.pattern, self._histograms, self.full)

    def group(self, variables) -> dict[str, list[int]]:
        """Positions in `variables` of each recorded layer's weights, by its path."""
        key = tuple(map(id, variables))
        if key not in self._groups:
            self._groups[key] = group_weights(self.model, variables, self.pattern)
        return self._groups[key]

    def _states(self, variables, groups):
        """The state of every layer, by path."""
        trained = self.group(variables)
        key = tuple(map(id, variables))
        if key not in self._layers:
            self._layers[key] = layer_weights(self.model, variables)
        states, unmeasured = {}, []
        for path, layer in self._layers[key].items():
            if path in groups:
                states[path] = WITH_GRADIENT
            # A layer in neither is one of another optimizer's.
            elif path in trained or (layer.frozen and re.search(self.pattern, path)):
                states[path] = FROZEN if layer.frozen else WITHOUT_GRADIENT
                unmeasured.append(layer.variables)
        if self._spec is None:
            self._unmeasured = unmeasured
        return states

    def _check_same(self, names, states, measured):
        shapes = tf.nest.map_structure(lambda part: tf.TensorSpec(part.shape), measured)
        spec = names, states, shapes
        if self._spec not in (None, spec):
            raise UsageError(
                f"gradients: those of {', '.join(names[0])} came after those of "
                f"{', '.join(self._spec[0][0])}; a run "
                "records the same layers at every step, so begin another folder for these"
            )
        self._spec = spec

    def tables(self, measured, moved=None) -> list[tuple[tuple[str, ...], dict]]:
        """What `measure` returned, as names of layers with their measures.

        Args:
            measured: what `measure` returned, as an array.
            moved: norm of each layer's update, `[layers]`, if it is known.
        """
        if self._spec is None:
            raise UsageError("measured: measure has not been called, so there is nothing to write")
        names, states, structure = self._spec
        specs = tf.nest.flatten(structure)
        ends = np.cumsum([spec.shape.num_elements() for spec in specs])
        parts = np.split(np.asarray(measured), ends)[: len(specs)]
        shaped = [part.reshape(spec.shape) for part, spec in zip(parts, specs, strict=True)]
        tables = tf.nest.pack_sequence_as(structure, shaped)
        of_layers, *of_activations = tables
        if moved is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                of_layers[UPDATE_RATIO] = moved / of_layers["weight_norm"]
        if len(states) > len(names[0]):
            names = [tuple(states), *names[1:]]
            states = np.array(list(states.values()))
            of_layers = _of_all_layers(of_layers, self._weights_without_gradient(), states)
        return list(zip(names, [of_layers, *of_activations], strict=True))

    def _weights_without_gradient(self):
        """Measures of the weights that get no gradient: once, since no update changes them."""
        weights = [_join(layer, [weight.shape for weight in layer]) for layer in self._unmeasured]
        self._unmeasured = []
        sizes = [values.shape.num_elements() for values in weights]
        _, of_weights, _ = measures_of(sizes, self._histograms, self.full, norms=True)
        measures = measure_parts([of_weights], [weights]) if weights else {}
        return tf.nest.map_structure(np.asarray, measures)


def _of_all_layers(measures, of_others, states):
    """Measures `[layers]` of all layers; NaN where one without a gradient has no measure."""

    def rows(values, other):
        placed = np.full([len(states), *values.shape[1:]], np.nan)
        placed[states == WITH_GRADIENT] = values
        if other is not None:
            placed[states != WITH_GRADIENT] = other
        return placed

    placed = {
        name: {part: rows(values[part], of_others.get(name, {}).get(part)) for part in values}
        if isinstance(values, dict)
        else rows(values, of_others.get(name))
        for name, values in measures.items()
    }
    return placed | {LAYER_STATE: states}


def joined(parts: Sequence, order: Sequence[str]) -> list:
    """What `Probe.tables` returned of several parts of a model, as tables of the whole model.

    Args:
        parts: the tables of each part. Of a layer that is in several, the last with a gradient
            counts.
        order: names of the layers, the one nearest the input first.
    """
    if len(parts) == 1:
        return parts[0]
    kinds = zip_longest(*parts, fillvalue=((), {}))
    return [_joined(tables, order) for tables in kinds]


def _joined(tables, order):
    rows: dict[str, dict] = {}
    for layers, measures in tables:
        for at, layer in enumerate(layers):
            row = tf.nest.map_structure(lambda values, at=at: values[at], measures)
            # Where one optimizer gives a layer no gradient, another one may.
            if layer not in rows or row.get(LAYER_STATE, WITH_GRADIENT) == WITH_GRADIENT:
                rows[layer] = row
    place = {layer: at for at, layer in enumerate(order)}
    layers = sorted(rows, key=lambda layer: place.get(layer, len(place)))
    names = dict.fromkeys(name for layer in layers for name in rows[layer])
    unknown = {name: next(rows[x][name] for x in layers if name in rows[x]) for name in names}
    unknown = tf.nest.map_structure(lambda values: np.full_like(values, np.nan), unknown)
    if LAYER_STATE in unknown:
        unknown[LAYER_STATE] = WITH_GRADIENT
    whole = [unknown | rows[layer] for layer in layers]
    return layers, tf.nest.map_structure(lambda *values: np.stack(values), *whole)


def _check_expression(pattern):
    try:
        re.compile(pattern)
    except (re.error, TypeError) as error:
        raise UsageError(f"layers: {pattern!r} is not a regular expression ({error})") from None


def _check_gradients(gradients, variables):
    if len(gradients) != len(variables):
        raise UsageError(
            f"gradients: {len(gradients)} of them came with {len(variables)} variables; pass one "
            "a variable, None where there is none"
        )
    for gradient, variable in zip(gradients, variables, strict=True):
        if not isinstance(variable, (keras.Variable, tf.Variable)):
            raise UsageError(
                f"variables: one is a {type(variable).__name__}; gradients come first, then the "
                "variables that they are of"
            )
        if gradient is None or isinstance(gradient, tf.IndexedSlices):
            continue
        shape = tf.TensorShape(variable.shape)
        if not shape.is_compatible_with(gradient.shape):
            raise UsageError(
                f"gradients: one of shape {gradient.shape} came with the variable "
                f"{variable.name} of shape {shape}"
            )


class _Sparse(NamedTuple):
    """A layer's gradient where only the rows of a table that the batch touches are not zero.

    Attributes:
        values: of those rows, `[values]`. How many there are may change from step to step.
        zeros: how many further values the layer has, float64.
    """

    values: tf.Tensor
    zeros: tf.Tensor


def _join(tensors, shapes):
    """A layer's tensors as one vector; a large sparse one stays sparse."""
    sizes = [tf.TensorShape(shape).num_elements() for shape in shapes]
    sparse = any(isinstance(tensor, tf.IndexedSlices) for tensor in tensors)
    if not sparse or sum(sizes) <= LARGE:
        flat = [
            tf.reshape(tf.convert_to_tensor(tensor), [size])
            for tensor, size in zip(tensors, sizes, strict=True)
        ]
        return flat[0] if len(flat) == 1 else tf.concat(flat, axis=0)
    rows = [
        _touched_rows(t, shape[0]) if isinstance(t, tf.IndexedSlices) else t
        for t, shape in zip(tensors, shapes, strict=True)
    ]
    values = tf.concat([tf.reshape(tf.cast(part, tf.float32), [-1]) for part in rows], axis=0)
    return _Sparse(values, sum(sizes) - tf.cast(tf.size(values), tf.float64))


def _touched_rows(slices, height):
    """The rows of a table of this height that slices touch, each once, and rows of zeros.

    Slices of the same row are added up. The rows of zeros are untouched ones: with them,
    there are as many rows as slices, so that XLA knows their number. (`tf.unique` is
    unknown to XLA.)
    """
    order = tf.argsort(slices.indices)
    index = tf.gather(slices.indices, order)
    starts = index != tf.concat([index[:1], index[:-1]], axis=0)
    row = tf.cumsum(tf.cast(starts, tf.int32))
    values = tf.gather(tf.cast(slices.values, tf.float32), order)
    return tf.math.unsorted_segment_sum(values, row, tf.minimum(tf.size(index), height))


def _measured_layers(parts, histograms, full):
    """What a record holds of layers, given their gradients, weights and clipped gradients.

    Sparse gradients are measured outside of what XLA compiles: it would compile every
    number of values anew.
    """
    dense = [[tensor for tensor in part if not isinstance(tensor, _Sparse)] for part in parts]
    specs = tuple(tuple((t.shape, t.dtype) for t in part) for part in dense)
    sizes = tuple(weights.shape.num_elements() for weights in parts[1])
    measured = _measures_apart(specs, sizes, histograms, full)(*dense)
    for measures, part in zip(measures_of(sizes, histograms, full, norms=True), parts, strict=True):
        if any(isinstance(tensor, _Sparse) for tensor in part):
            measured |= _with_sparse(measures, part, measured)
    return measured


def _with_sparse(measures, part, measured):
    """The measures of a part's layers, given those of its dense layers."""
    sparse = [isinstance(tensor, _Sparse) for tensor in part]
    # Where each layer stands when the sparse ones follow the dense ones.
    order = np.argsort(np.argsort(sparse, kind="stable"))

    def in_order(*rows):
        return tf.gather(tf.concat(rows, axis=0), order)

    joined = {}
    for name, measure in measures.items():
        rows = [measured[name]] if name in measured else []
        rows += [measure(t.values[tf.newaxis], t.zeros) for t in part if isinstance(t, _Sparse)]
        joined[name] = tf.nest.map_structure(in_order, *rows)
    return joined


@functools.lru_cache(maxsize=16)
def _measures_apart(specs, sizes, histograms, full):
    """A function apart from the step, as fast where the step is not compiled.

    Grappler does not look into it, so it does not change how the step is computed.
    """

    def measure(*parts):
        measures = measures_of(sizes, histograms, full, norms=True)
        return measure_parts(measures, parts, compiled=True)

    apart = {"_noinline": True}
    function = tf.function(measure, autograph=False, experimental_attributes=apart)
    return function.get_concrete_function(
        *[[tf.TensorSpec(shape, dtype) for shape, dtype in part] for part in specs]
    )
