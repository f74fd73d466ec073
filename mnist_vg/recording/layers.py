"""The layers of a Keras model, by names that stay the same from run to run."""

import re

import keras

from mnist_vg.errors import UsageError

BOUNDED = {
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hard_tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
}
"""Activations that flatten toward both ends of their range, and that range."""

# They call their inner layers in a loop, once per time step, and no tensor can leave that loop.
_WHOLE = (keras.layers.RNN, keras.layers.TimeDistributed)

_RECTIFIERS = (
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ELU,
)


def layer_paths(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Every layer of a model by its path, such as `encoder/dense_1`.

    A path joins the names of nested layers with slashes; the model's own name is left out.
    Inner layers come before the layer that holds them. A shared layer comes once.

    Keras numbers the names that it makes (`dense_7`) through the whole process, so the same
    model has other names in the next run. Such names are numbered again among siblings:
    `dense`, `dense_1`. Recurrent and time-distributed layers count as one layer, with all
    that is inside.
    """
    return {path: layer for path, layer in _walk(model, "", set())}


def _walk(parent, prefix, seen):
    names: set[str] = set()
    for child in _children(parent):
        if id(child) in seen:
            continue
        seen.add(id(child))
        path = prefix + _unique(_without_number(child), names)
        if not isinstance(child, _WHOLE):
            yield from _walk(child, f"{path}/", seen)
        yield path, child


def _children(layer):
    if isinstance(layer, keras.Model):
        return layer.layers
    return layer._flatten_layers(include_self=False, recursive=False)


def _without_number(layer):
    base = re.sub(r"_\d+$", "", layer.name)
    made_by_keras = re.sub(r"^(forward|backward)_|_", "", base) == type(layer).__name__.lower()
    return base if made_by_keras else layer.name


def _unique(name, names):
    number, unique = 0, name
    while unique in names:
        number += 1
        unique = f"{name}_{number}"
    names.add(unique)
    return unique


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
        owners.setdefault(_identity(variable), _without_number(model))
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
