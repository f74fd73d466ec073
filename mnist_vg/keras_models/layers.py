"""Which weights and which activations are those of which layer of a Keras model."""

import re
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
from keras.src.utils.naming import to_snake_case

from mnist_vg.errors import UsageError
from mnist_vg.keras_models.layer_names import layer_paths, model_name

BOUNDED = {
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hard_tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
}
"""Activations that flatten toward both ends of their range, and that range."""

_RECTIFIERS = (
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ELU,
)


class LayerWeights(NamedTuple):
    """The weights of a layer.

    Attributes:
        variables: `keras.Variable` or `tf.Variable`, in the model's order.
        frozen: whether none of them is to be trained.
    """

    variables: list
    frozen: bool


def layer_weights(model: keras.Model | None, variables) -> dict[str, LayerWeights]:
    """The weights of every layer, by its path, in the model's order.

    Biases are left out, unless a layer has nothing else. (Beta and gamma of a batch
    normalization are weights here.) If some of a layer's weights are frozen, only the others
    count. What never trains, such as the moving mean of a batch normalization, is no weight.

    Args:
        model: gives the paths; without a model the variables' own paths serve.
        variables: some of the model's, `keras.Variable` or `tf.Variable`.
    """
    owners = {} if model is None else _owners(model)
    trained = {_identity(variable) for variable in variables}
    owned: dict[str, dict[int, object]] = {path: {} for path in owners.values()}  # in order
    if model is not None:
        trained |= {_identity(variable) for variable in model.trainable_variables}
        for variable in model.variables:
            if path := owners.get(_identity(variable)):
                owned[path][_identity(variable)] = variable
    for variable in variables:
        path = owners.get(_identity(variable)) or _own_path(variable)
        owned.setdefault(path, {})[_identity(variable)] = variable
    layers = {}
    for path, of_layer in owned.items():
        training = {key: variable for key, variable in of_layer.items() if key in trained}
        weights = _without_biases(training or of_layer)
        layers[path] = LayerWeights(weights, frozen=not training)
    return layers


def group_weights(model: keras.Model | None, variables, pattern: str = "") -> dict[str, list[int]]:
    """Which variables are the weights of which layer, see `layer_weights`.

    Args:
        model: gives the paths; without a model the variables' own paths serve.
        variables: some of the model's, `keras.Variable` or `tf.Variable`.
        pattern: a regular expression; only layers whose path contains it are returned.

    Returns:
        Path of a layer to positions in `variables`, in the model's order.
    """
    positions = {_identity(variable): i for i, variable in enumerate(variables)}
    groups = {}
    for path, layer in layer_weights(model, variables).items():
        keys = [_identity(weight) for weight in layer.variables]
        if places := [positions[key] for key in keys if key in positions]:
            groups[path] = places
    return {path: group for path, group in groups.items() if re.search(pattern, path)}


def check_pattern(model: keras.Model | None, variables, pattern: str) -> None:
    """Check that a pattern matches a layer; arguments are those of `group_weights`.

    Raises:
        UsageError: it does not.
    """
    layers = layer_weights(model, variables)
    if layers and not any(re.search(pattern, path) for path in layers):
        raise UsageError(
            f"layers: {pattern!r} matches no layer; those with weights to train are "
            f"{', '.join(layers)}"
        )


def _owners(model):
    """Path of the layer that holds a variable, by the variable; the innermost one counts."""
    owners: dict[int, str] = {}

    def own(path, layer):
        # Keras' public lists leave out what is frozen, or hold what never trains, too.
        for part in layer._flatten_layers():
            for variable in part._trainable_variables:
                owners.setdefault(_identity(variable), path)

    for path, layer in layer_paths(model).items():
        own(path, layer)
    name = model_name(model)
    own(f"{name}_itself" if name in owners.values() else name, model)
    return owners


def _identity(variable):
    return id(variable.value if isinstance(variable, keras.Variable) else variable)


def _own_path(variable):
    path = variable.path if isinstance(variable, keras.Variable) else variable.name.split(":")[0]
    return path.rpartition("/")[0] or path


def _without_biases(variables):
    weights = [v for v in variables.values() if not _own_name(v).endswith("bias")]
    return weights or list(variables.values())


def _own_name(variable):
    return variable.name.split(":")[0].rpartition("/")[2]


def activations(model: keras.Model, pattern: str = "") -> dict[str, keras.layers.Layer]:
    """The layers with an activation, by path."""
    found = {path: layer for path, layer in layer_paths(model).items() if _has_activation(layer)}
    return {path: layer for path, layer in found.items() if re.search(pattern, path)}


def _has_activation(layer):
    activation = getattr(layer, "activation", None)
    named = activation is not None and activation is not keras.activations.linear
    return named or isinstance(layer, _RECTIFIERS)


def activation_range(layer: keras.layers.Layer) -> tuple[float, float] | None:
    """The ends of the range of a layer's activation, if it flattens toward both; else None."""
    return range_of(getattr(layer, "activation", None))


def range_of(activation: Callable | None) -> tuple[float, float] | None:
    """The ends of the range of an activation, if it flattens toward both; else None."""
    return BOUNDED.get(getattr(activation, "__name__", None))


def largest_momentum(model: keras.Model) -> float:
    """The largest momentum of the moving averages that train; 0 without any."""
    kind = keras.layers.BatchNormalization
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, kind)]
    return max((float(layer.momentum) for layer in layers if layer.trainable), default=0.0)


def averages_are_new(model: keras.Model) -> bool:
    """Whether all moving means are 0, as before the first batch."""
    kind = keras.layers.BatchNormalization
    built = (layer for layer in model._flatten_layers() if isinstance(layer, kind) and layer.built)
    return not any(np.any(keras.ops.convert_to_numpy(layer.moving_mean)) for layer in built)


def traits(model: keras.Model) -> dict[str, str | bool]:
    """What a network has that others lack, as far as its layers tell.

    Returns:
        `activations`: their names; `normalization` and `skip_connections`: whether it has some.
    """
    layers = layer_paths(model).values()
    kinds = {type(layer).__name__ for layer in layers}
    names = dict.fromkeys(_activation_name(layer) for layer in layers if _has_activation(layer))
    return {
        "activations": ", ".join(names),
        # The layer `Normalization` scales the data.
        "normalization": any(kind.endswith("Normalization") for kind in kinds - {"Normalization"}),
        "skip_connections": "Add" in kinds,
    }


def _activation_name(layer):
    if isinstance(layer, _RECTIFIERS):
        return to_snake_case(type(layer).__name__)
    activation = layer.activation
    return getattr(activation, "__name__", None) or to_snake_case(type(activation).__name__)
