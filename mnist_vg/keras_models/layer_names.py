"""The names of a Keras model's layers, which stay the same from run to run."""

import functools
import re
from collections.abc import Iterable, Mapping

import keras
from keras.src.backend.common.global_state import get_global_attribute
from keras.src.utils.naming import to_snake_case

# They call their inner layers in a loop, once per time step, and no tensor can leave that loop.
_WHOLE = (keras.layers.RNN, keras.layers.TimeDistributed)

_HELD_BY_KERAS = ("_layers", "_functional", "_operations", "_operations_by_depth")
"""Attributes in which Keras itself keeps layers. (Those of TensorFlow begin with `_self_`.)"""

_NAMED_BY_KERAS = "_named_by_keras"


def _note_who_names_a_layer():
    """Note on every layer that is made from now on whether Keras made its name.

    Keras forgets it: a name that was given may look like one of its own.
    """
    original = keras.Operation.__init__

    @functools.wraps(original)
    def __init__(self, name=None):
        vars(self)[_NAMED_BY_KERAS] = name is None
        original(self, name)

    keras.Operation.__init__ = __init__


_note_who_names_a_layer()


def layer_paths(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Every layer of a model by its path, such as `encoder/dense_1`.

    A path joins the names of nested layers with slashes; the model's own name is left out.
    Inner layers come before the layer that holds them. A shared layer comes once. Recurrent
    and time-distributed layers count as one layer, with all that is inside.

    A name that was given to a layer stays as it is. A layer without one gets the name of the
    attribute in which a layer of the user's own class holds it: `self.actor = Dense(3)` is
    `actor`, and the layers of a list `self.blocks` are `blocks_0` and `blocks_1`. All others
    have a name that Keras made. Keras counts through the whole process (`dense_7`), so the same
    model would have other names in the next run. Here they are counted among siblings: `dense`,
    `dense_1`.

    If a layer was made before this module was imported, it is not known who named it. Its
    number then counts as Keras' own if Keras has counted that far by now.
    """
    return _paths(model, _named_by_keras)


def model_name(model: keras.Model) -> str:
    """The name of the model itself, without the number that Keras may have added."""
    return _counted_name(model) if _named_by_keras(model) else model.name


def name_as_recorded(model: keras.Model, recorded: Iterable[str]) -> None:
    """Name the layers of a loaded model as the record that it continues names them.

    All layers of a model that was loaded from a file were given their names, also those that
    Keras had named (`dense_7`). If the record has names that the model lacks, but has when such
    names are counted among siblings, they are counted from now on: all of them or, if that is
    not it, those that the record does not have.

    Args:
        model: continues the record.
        recorded: paths of layers in the record.
    """
    recorded = set(recorded)
    # The model itself may have weights, too.
    paths = [*layer_paths(model).items(), (model_name(model), model)]
    if recorded <= {path for path, _ in paths}:
        return
    holders = {"/".join(p.split("/")[:n]) for p in recorded for n in range(1, p.count("/") + 2)}
    for kept in set(), holders:
        counted = {id(layer) for path, layer in paths if path not in kept}

        def counts(layer, counted=counted):
            return _looks_made_by_keras(layer) and (id(layer) in counted or _named_by_keras(layer))

        if recorded <= _paths(model, counts).keys() | {_counted_name(model)}:
            for _, layer in paths:
                vars(layer)[_NAMED_BY_KERAS] = counts(layer)
            return


def _named_by_keras(layer):
    """Whether Keras made a layer's name, and nobody gave it."""
    if not _looks_made_by_keras(layer):
        return False
    name = _counted_name(layer)
    # Keras makes the names of the two layers in `Bidirectional` from counted ones.
    if name.startswith(("forward_", "backward_")):
        return True
    number = int(layer.name.removeprefix(name)[1:] or 0)
    so_far = (get_global_attribute("object_name_uids") or {}).get(name, 0)
    return vars(layer).get(_NAMED_BY_KERAS, number < so_far)


def _looks_made_by_keras(layer):
    return re.fullmatch(rf"{_counted_name(layer)}(_\d+)?", layer.name) is not None


def _counted_name(layer):
    """What Keras counts: the name that the first layer of this class gets."""
    prefix = re.match("forward_|backward_|", layer.name)[0]
    return prefix + to_snake_case(type(layer).__name__)


def _paths(model, counts):
    """Paths of the layers; `counts` tells of a layer whether its name has to be counted."""
    return dict(_walk(model, "", set(), counts))


def _walk(parent, prefix, seen, counts):
    children = [child for child in _children(parent) if id(child) not in seen]
    names = _names(parent, children, counts)
    for child in children:
        if id(child) in seen:  # An earlier sibling holds it, too.
            continue
        seen.add(id(child))
        path = prefix + names[id(child)]
        if not isinstance(child, _WHOLE):
            yield from _walk(child, f"{path}/", seen, counts)
        yield path, child


def _children(layer):
    if isinstance(layer, keras.Model):
        return layer.layers
    return layer._flatten_layers(include_self=False, recursive=False)


def _names(parent, children, counts):
    """A name for each child, by its id: first those that stay as they are."""
    attributes = _attributes(parent)
    given, held, counted = {}, {}, {}
    for child in children:
        if not counts(child):
            given[id(child)] = child.name
        elif id(child) in attributes:
            held[id(child)] = attributes[id(child)]
        else:
            counted[id(child)] = _counted_name(child)
    wanted = given | held | counted
    stay = {*given.values(), *held.values()}
    taken: set[str] = set()
    return {child: _unique(name, taken, stay) for child, name in wanted.items()}


def _unique(name, taken, stay):
    number, unique = 0, name
    while unique in taken or (number and unique in stay):
        number += 1
        unique = f"{name}_{number}"
    taken.add(unique)
    return unique


def _attributes(parent):
    """Names of the layers that a layer of the user's own class holds, by id."""
    if type(parent).__module__.startswith("keras."):
        return {}
    names: dict[int, str] = {}
    for attribute, value in vars(parent).items():
        if attribute not in _HELD_BY_KERAS and not attribute.startswith("_self_"):
            for name, layer in _held(value, attribute.lstrip("_")):
                names.setdefault(id(layer), name)
    return names


def _held(value, name):
    if isinstance(value, keras.Layer):
        yield name, value
    elif isinstance(value, (Mapping, list, tuple)):
        for key, part in value.items() if isinstance(value, Mapping) else enumerate(value):
            if isinstance(part, (keras.Layer, Mapping, list, tuple)):
                yield from _held(part, f"{name}_{key}".replace("/", "_"))
