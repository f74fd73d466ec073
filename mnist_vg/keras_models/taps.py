"""Catching what a network's activations give while it is called."""

import contextlib
import threading
from collections.abc import Iterator

import keras
import tensorflow as tf

from mnist_vg.keras_models.layers import activation_range, activations
from mnist_vg.model import Model


class Taps(threading.local):
    """What `tapped` has caught: `pairs` of input and output, one list per thread.

    A `tf.distribute` strategy traces each replica in a thread of its own.
    """

    def __init__(self):
        self.pairs: list[tuple[tf.Tensor, tf.Tensor]] = []


@contextlib.contextmanager
def tapped(model: Model) -> Iterator[Taps]:
    """Within the context, each call of the model adds one pair per activation."""
    taps = Taps()

    def tap(apply):
        def tapping(values):
            taps.pairs.append((values, apply(values)))
            return taps.pairs[-1][1]

        return tapping

    with contextlib.ExitStack() as stack:
        for layer in model.activation_layers:
            # A parametric ReLU is a layer, and has no function.
            part = "activation" if hasattr(layer, "activation") else "call"
            stack.enter_context(replaced(layer, part, tap(getattr(layer, part))))
        yield taps


class LayerTaps(threading.local):
    """What `tapped_layers` has caught: the outputs of each activation, one list per thread."""

    def __init__(self, layers):
        self._layers = layers
        self._outputs: dict[str, list[tf.Tensor]] = {path: [] for path in layers}

    def catch(self, path: str, output) -> None:
        """Keep what a layer gives; of several outputs the first."""
        self._outputs[path].append(keras.tree.flatten(output)[0])

    def take(self) -> dict[str, tuple[list[tf.Tensor], tuple[float, float] | None]]:
        """What was caught since the last call, as `Probe.measure` takes it."""
        caught = {
            path: [call for call in calls if _has_units(call) and reachable(call)]
            for path, calls in self._outputs.items()
        }
        for calls in self._outputs.values():
            calls.clear()
        return {
            p: (calls, activation_range(self._layers[p])) for p, calls in caught.items() if calls
        }


@contextlib.contextmanager
def tapped_layers(model: keras.Model | None, pattern: str = "") -> Iterator[LayerTaps]:
    """Within the context, each call of a layer that has an activation is caught.

    Args:
        model: without one, nothing is caught.
        pattern: a regular expression; only layers whose path contains it are tapped.
    """
    layers = activations(model, pattern) if model is not None else {}
    taps = LayerTaps(layers)

    def tap(path, call):
        def tapping(*arguments, **options):
            output = call(*arguments, **options)
            taps.catch(path, output)
            return output

        return tapping

    with contextlib.ExitStack() as stack:
        for path, layer in layers.items():
            stack.enter_context(replaced(layer, "call", tap(path, layer.call)))
        yield taps


def _has_units(tensor):
    return (tensor.shape.rank or 0) > 1 and tensor.shape[-1] is not None


def reachable(tensor: tf.Tensor) -> bool:
    """Whether the code that runs now can use a tensor: the traced function, or the eager loop."""
    if not tf.is_symbolic_tensor(tensor):
        return True
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        if tensor.graph is graph:
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


@contextlib.contextmanager
def replaced(owner, name: str, function) -> Iterator[None]:
    """Within the context, an object's method or attribute is another function."""
    # Not with setattr, since Keras would track the change.
    attributes = vars(owner)
    own = {name: attributes[name]} if name in attributes else {}
    attributes[name] = function
    try:
        yield
    finally:
        del attributes[name]
        attributes.update(own)
