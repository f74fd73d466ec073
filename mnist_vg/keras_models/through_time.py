"""How the gradient of a loss gets through the time steps of recurrent layers."""

import contextlib
import inspect
import threading
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from mnist_vg.keras_models.layer_names import layer_paths
from mnist_vg.keras_models.taps import reachable, replaced


def recurrent_layers(model: keras.Model) -> dict[str, keras.layers.RNN]:
    """The recurrent layers of a model by path; of a bidirectional one, both directions."""
    layers = layer_paths(model)
    return {path: layer for path, layer in layers.items() if isinstance(layer, keras.layers.RNN)}


def mask_of(layer: keras.layers.RNN, arguments, options) -> tf.Tensor | None:
    """The mask in a call of a recurrent layer, `[batch, time]`; None if it reads all steps."""
    return (
        inspect.signature(type(layer).call).bind(layer, *arguments, **options).arguments.get("mask")
    )


def as_read(values: tf.Tensor, layer: keras.layers.RNN, mask=None) -> tf.Tensor:
    """Time steps in the order in which a layer reads them.

    Args:
        values: `[batch, time, ...]`.
        layer: may go backwards.
        mask: `[batch, time]`, true where it reads. Steps that it leaves out come first.
    """
    if layer.go_backwards:
        values = tf.reverse(values, [1])
    if mask is None:
        return values
    mask = tf.reverse(mask, [1]) if layer.go_backwards else mask
    # Sorting is stable, so the steps that are read keep their order.
    return tf.gather(values, tf.argsort(tf.cast(mask, tf.int32), axis=1), axis=1, batch_dims=1)


def rms_by_time_step(gradient: tf.Tensor, layer: keras.layers.RNN, mask=None) -> tf.Tensor:
    """Root mean square of a gradient at each time step, in the order of reading.

    Args:
        gradient: of the loss with respect to the inputs of the layer, `[batch, time, ...]`.
        layer: the recurrent layer.
        mask: `[batch, time]`, true where the layer reads. The last steps that are read of
            all examples are then aligned.

    Returns:
        float32 `[time]`; NaN where no example has such a step.
    """
    gradient = as_read(tf.cast(gradient, tf.float32), layer, mask)
    # The square of 1e-20 would be 0.
    largest = tf.reduce_max(tf.abs(gradient), axis=[0, *range(2, gradient.shape.rank)])
    shape = [1, -1, *[1] * (gradient.shape.rank - 2)]
    scaled = tf.math.divide_no_nan(gradient, tf.reshape(largest, shape))
    of_examples = tf.reduce_mean(scaled**2, axis=list(range(2, gradient.shape.rank)))
    read = tf.ones_like(of_examples)
    if mask is not None:
        read = as_read(tf.cast(mask, tf.float32), layer, mask)
    return largest * tf.sqrt(tf.reduce_sum(of_examples, axis=0) / tf.reduce_sum(read, axis=0))


def log10_first_to_last(by_time_step: tf.Tensor) -> tf.Tensor:
    """log10 of the gradient at the first time step over that at the last.

    A gradient of 0 at the first step counts as the smallest normal float32, 1e-38.

    Args:
        by_time_step: as `rms_by_time_step` returns it.

    Returns:
        float32 `[]`; NaN if the gradient at the last step is 0.
    """
    known = tf.cast(~tf.math.is_nan(by_time_step), tf.int32)
    smallest = tf.constant(np.finfo(np.float32).tiny)
    first, last = tf.maximum(by_time_step[tf.argmax(known)], smallest), by_time_step[-1]
    ratio = tf.math.log(first) - tf.math.log(last)
    return tf.where(last > 0, ratio / np.log(10).astype(np.float32), np.nan)


class TimeTaps(threading.local):
    """What `tapped_recurrence` has caught: a function a layer, one dict per thread."""

    def __init__(self):
        self.caught: dict[str, tuple] = {}

    def take(self) -> dict[str, tf.Tensor]:
        """`log10_first_to_last` of each layer that a gradient came back to since the last call."""
        caught, self.caught = self.caught, {}
        return {
            path: log10_first_to_last(rms_by_time_step(gradient, layer, mask))
            for path, (gradient, layer, mask) in caught.items()
            if reachable(gradient)
        }


@contextlib.contextmanager
def tapped_recurrence(model: keras.Model | None) -> Iterator[TimeTaps]:
    """Within the context, gradients with respect to the inputs of recurrent layers are caught.

    A training step takes gradients with respect to weights alone. So inputs pass through an
    identity that also takes a weight of the layer: then backpropagation passes there, too.

    Args:
        model: without one, nothing is caught.
    """
    taps = TimeTaps()

    def tap(path, layer, call):
        def tapping(sequences, *arguments, **options):
            weights = layer.trainable_variables
            if weights and tf.is_tensor(sequences) and sequences.dtype.is_floating:
                mask = mask_of(layer, (sequences, *arguments), options)

                def note(gradient):
                    taps.caught[path] = gradient, layer, mask

                sequences = _identity(sequences, tf.convert_to_tensor(weights[0]), note)
            return call(sequences, *arguments, **options)

        return tapping

    layers = recurrent_layers(model) if model is not None else {}
    with contextlib.ExitStack() as stack:
        for path, layer in layers.items():
            stack.enter_context(replaced(layer, "call", tap(path, layer, layer.call)))
        yield taps


def _identity(values, weight, note):
    """The values; calls `note` with their gradient if there is one for values or weight."""

    @tf.custom_gradient
    def identity(values, weight):
        def backward(gradient):
            note(gradient)
            return gradient, None

        return tf.identity(values), backward

    return identity(values, weight)
