"""Which weights and which activations are those of which layer of a Keras model."""

import re

import keras

from mnist_vg.errors import UsageError
from mnist_vg.recording.layer_names import layer_paths, model_name

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


def group_weights(model: keras.Model | None, variables, pattern: str = "") -> dict[str, list[int]]:
    """Which variables are the weights of which layer.

    Biases are left out, unless a layer has nothing else. (Beta and gamma of a batch
    normalization are weights here.)

    Args:
        model: gives the paths; without a model the variables' own paths serve.
        variables: some of the model's, `keras.Variable` or `tf.Variable`.
        pattern: a regular expression; only layers whose path contains it are returned.

    Returns:
        Path of a layer to positions in `variables`, in the model's order.

    Raises:
        UsageError: no path contains the pattern.
    """
    owners, known = ({}, []) if model is None else (_owners(model), model.trainable_variables)
    owned: dict[str, dict[int, object]] = {path: {} for path in owners.values()}  # in order
    for variable in [*known, *variables]:
        identity = _identity(variable)
        owned.setdefault(owners.get(identity) or _own_path(variable), {})[identity] = variable
    positions = {_identity(variable): i for i, variable in enumerate(variables)}
    groups = {}
    for path, of_layer in owned.items():
        weights = [identity for identity in _without_biases(of_layer) if identity in positions]
        if weights:
            groups[path] = [positions[identity] for identity in weights]
    chosen = {path: group for path, group in groups.items() if re.search(pattern, path)}
    if groups and not chosen:
        raise UsageError(
            f"layers: {pattern!r} matches no layer; those with weights to train are "
            f"{', '.join(groups)}"
        )
    return chosen


def _owners(model):
    owners = {}
    for path, layer in layer_paths(model).items():
        for variable in layer.trainable_variables:
            owners.setdefault(_identity(variable), path)
    for variable in model.trainable_variables:
        owners.setdefault(_identity(variable), model_name(model))
    return owners


def _identity(variable):
    return id(variable.value if isinstance(variable, keras.Variable) else variable)


def _own_path(variable):
    path = variable.path if isinstance(variable, keras.Variable) else variable.name.split(":")[0]
    return path.rpartition("/")[0] or path


def _without_biases(variables):
    weights = [key for key, v in variables.items() if not _own_name(v).endswith("bias")]
    return weights or list(variables)


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
    return BOUNDED.get(getattr(getattr(layer, "activation", None), "__name__", None))
