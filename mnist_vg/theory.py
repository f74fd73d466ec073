"""What mean-field theory says of a network before it is trained: how far a gradient gets.

Wide layers with random weights are followed by two numbers: the variance of the sums
that go into a layer's activation, and the factor by which the squared gradient changes
from one layer to the one before it.
"""

import keras
import numpy as np
import tensorflow as tf

_NORMAL = np.linspace(-10, 10, 100_001)
"""Where expectations are summed up: finer than quadrature's nodes, as a bounded activation
has its slope in a narrow band where the variance is large."""
_DENSITY = np.exp(-(_NORMAL**2) / 2)


def length_map(activation, variance, weight_variance):
    """The variance of a layer's sums from that of the layer before.

    Poole et al. 2016, section 2 (without biases, which Keras starts at zero):
    `weight_variance * E[activation(sqrt(variance) z)**2]`, z a standard normal.

    Args:
        activation: a Keras activation's name, or a function of tensors.
        variance: of the sums in the layer before, a number.
        weight_variance: of its weights times the number of its inputs.
    """
    outputs, _ = _on_normal(activation, variance)
    return weight_variance * _expectation(outputs**2)


def gradient_factor(activation, variance, weight_variance):
    """The factor of the mean squared gradient over one layer, χ₁ where `variance` is fixed.

    Schoenholz et al. 2017, section 3: `weight_variance * E[activation'(sqrt(variance) z)**2]`;
    the derivative is the one that TensorFlow takes.
    """
    _, slopes = _on_normal(activation, variance)
    return weight_variance * _expectation(slopes**2)


def gradient_reach(activation, input_variance, layers) -> float:
    """log10 of the root mean square gradient at the first layer's sums over that at the logits.

    Below zero it vanishes, above it explodes.

    Args:
        activation: of the hidden layers.
        input_variance: mean square of the inputs' values.
        layers: of each layer the variance of its weights, and the numbers of its inputs
            and outputs. On the way back the sum is over the outputs.
    """
    (first, inputs, _), *later = layers
    variance, log_factor = first * inputs * input_variance, 0.0
    with np.errstate(divide="ignore"):
        for weight, inputs, outputs in later:
            log_factor += np.log10(gradient_factor(activation, variance, weight * outputs)) / 2
            variance = length_map(activation, variance, weight * inputs)
    return float(log_factor)


def _on_normal(activation, variance):
    sums = tf.constant(np.sqrt(variance) * _NORMAL)
    with tf.GradientTape() as tape:
        tape.watch(sums)
        outputs = keras.activations.get(activation)(sums)
    return outputs.numpy(), tape.gradient(outputs, sums).numpy()


def _expectation(values):
    return float(_DENSITY @ values / _DENSITY.sum())
