"""Catching the inputs and outputs of a network's activations while it is called."""

import contextlib
import threading
from collections.abc import Iterator

import tensorflow as tf

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
