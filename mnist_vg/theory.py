"""Mean-field theory: how far signals and gradients travel in a network before training.

In wide layers with random weights and biases, three numbers are followed from layer to layer: the
variance of the pre-activations (the values that a layer's activation is applied to), the
correlation of the pre-activations of two examples, and the factor by which the mean squared
gradient changes from one layer to the layer before it.

An activation is an elementwise one: its name in Keras, or a function of tensors. `weight_variance`
is the variance of one weight times the number of the layer's inputs (σ_w² in the papers), and
`bias_variance` the variance of one bias (σ_b²).
"""

import functools
import math
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

_STRETCHED = np.linspace(-12, 12, 10_000)
_NORMAL = 1e-4 * np.sinh(_STRETCHED)
"""The points at which expectations over a standard normal are summed, from -8 to 8.

They are dense around 0, because at a large variance a bounded activation has its slope only there;
the nodes of Gauss-Hermite quadrature would be too far apart. Their number is even, so that the
corner of a ReLU, at 0, is in the middle between two points, where symmetry makes sums exact."""
_DENSITY = np.exp(-(_NORMAL**2) / 2) * np.cosh(_STRETCHED)
_DENSITY /= _DENSITY.sum()
_DEGREES = np.arange(256)
"""Degrees of the Hermite polynomials in a correlation map. Much higher ones overflow float64."""
_VARIANCES = np.logspace(-10, 10, 201)
"""The variances between which a fixed point is searched."""
_START = len(_VARIANCES) // 2
"""The index at which the search starts: a variance of 1, as normalized inputs have."""


class FixedPoint(NamedTuple):
    """The values that a deep network converges to: numbers, or arrays of the same shape.

    Attributes:
        variance: q*, the variance of the pre-activations. 0 if the signal dies out, infinite if
            it grows without limit.
        correlation: c*, the correlation of two examples' pre-activations. 1 (the ordered phase)
            if `gradient_factor` is at most 1, or if the variance is 0 or infinite.
        gradient_factor: χ₁, the factor of the mean squared gradient per layer.
        slope: the slope of the correlation map at c*. It equals χ₁ if c* is 1.
    """

    variance: np.ndarray
    correlation: np.ndarray
    gradient_factor: np.ndarray
    slope: np.ndarray

    @property
    def gradient_depth(self):
        """ξ_∇: the number of layers over which the mean squared gradient changes by a factor e."""
        return _depth_scale(self.gradient_factor)

    @property
    def correlation_depth(self):
        """ξ_c: the number of layers over which the distance from c* changes by a factor e."""
        return _depth_scale(self.slope)


def length_map(activation, variance, weight_variance, bias_variance=0.0):
    """The variance of a layer's pre-activations, given the variance in the layer before.

    `weight_variance * E[activation(sqrt(variance) z)**2] + bias_variance`, where z is a standard
    normal (Poole et al. 2016, section 2).

    Args:
        activation: the name of a Keras activation, or a function of tensors.
        variance: variance of the pre-activations in the layer before, a number or an array.
        weight_variance: variance of the layer's weights times the number of its inputs.
        bias_variance: variance of the layer's biases. Keras initializes biases to zero.
    """
    outputs = keras.activations.get(activation)(_pre_activations(variance)).numpy()
    return weight_variance * (outputs**2 @ _DENSITY) + bias_variance


def gradient_factor(activation, variance, weight_variance):
    """The factor of the mean squared gradient from one layer to the layer before it.

    `weight_variance * E[activation'(sqrt(variance) z)**2]`, where z is a standard normal
    (Schoenholz et al. 2017). At the fixed point of the variance, this is χ₁. TensorFlow takes
    the derivative. The arguments are those of `length_map`.
    """
    pre_activations = _pre_activations(variance)
    with tf.GradientTape() as tape:
        tape.watch(pre_activations)
        outputs = keras.activations.get(activation)(pre_activations)
    return weight_variance * (tape.gradient(outputs, pre_activations).numpy() ** 2 @ _DENSITY)


def gradient_reach(activation, input_variance, layers) -> float:
    """log10 of the root mean square gradient at the first pre-activations over that at the logits.

    Below 0 gradients vanish, above 0 they explode. Biases are zero.

    Args:
        activation: the activation of the hidden layers.
        input_variance: mean square of the network's inputs.
        layers: for each layer, the variance of a weight, the number of inputs and the number of
            outputs.
    """
    (first, inputs, _), *later = layers
    variance, log_factor = first * inputs * input_variance, 0.0
    with np.errstate(divide="ignore"):
        for weight, inputs, outputs in later:
            # Backward, a layer sums over its outputs, so these take the place of the inputs.
            log_factor += np.log10(gradient_factor(activation, variance, weight * outputs)) / 2
            variance = length_map(activation, variance, weight * inputs)
    return float(log_factor)


def correlation_map(activation, variance, weight_variance, bias_variance=0.0):
    """The map from the correlation of two examples' pre-activations to that in the next layer.

    The covariance in the next layer is `weight_variance * E[activation(u) activation(v)] +
    bias_variance`, where u and v are normal with the given variance and correlation (Poole et al.
    2016). It is computed as a power series of the correlation (Daniely et al. 2016, section 8).
    An integral over the plane would be inaccurate near a correlation of 1.

    Args:
        activation: the name of a Keras activation, or a function of tensors.
        variance: variance of the pre-activations in the layer before, the same for both
            examples, above 0.
        weight_variance: variance of the layer's weights times the number of its inputs.
        bias_variance: variance of the layer's biases.

    Returns:
        A function that takes correlations from 0 to 1, and returns the correlations in the next
        layer and the slopes of the map.
    """
    coefficients, powers = _correlation_series(activation, variance)
    variance_after = weight_variance * coefficients.sum(axis=-1) + bias_variance

    def correlate(correlation):
        base = np.asarray(correlation)[..., np.newaxis]
        products = (coefficients * base**powers).sum(axis=-1)
        slopes = (coefficients * powers * base ** np.maximum(powers - 1, 0)).sum(axis=-1)
        covariance = weight_variance * products + bias_variance
        return covariance / variance_after, weight_variance * slopes / variance_after

    return correlate


def fixed_point(activation, weight_variance, bias_variance=0.0) -> FixedPoint:
    """The fixed point of variance and correlation over the layers (Schoenholz et al. 2017).

    The variance starts at 1. Some activations have several fixed points, such as GELU at a
    weight variance of 2 to 4, and another start may lead to another one. A variance below 1e-10
    counts as 0, and one above 1e10 as infinite.

    Args:
        activation: the name of a Keras activation, or a function of tensors. Its length map must
            increase with the variance; this holds if |activation| grows with |input|.
        weight_variance: variance of a layer's weights times the number of its inputs, a number
            or an array.
        bias_variance: variance of a layer's biases, a number or an array that broadcasts with
            `weight_variance`.
    """
    weights, biases = np.broadcast_arrays(np.float64(weight_variance), np.float64(bias_variance))
    with np.errstate(over="ignore", invalid="ignore"):
        variance = _fixed_variance(activation, weights, biases)
        # Close to 0 but not 0, where a ReLU has no slope.
        near = np.clip(variance, 1e-20, _VARIANCES[-1])
        factor = gradient_factor(activation, near, weights)
    # At a variance of 0 or infinity, every covariance changes by the same factor, χ₁.
    chaotic = (factor > 1) & (variance > 0) & np.isfinite(variance)
    correlate = correlation_map(activation, *np.where(chaotic, (variance, weights, biases), 1.0))
    # The map is convex and passes through (1, 1). So it increases a correlation below the stable
    # fixed point, and decreases one between that point and 1.
    unit = np.zeros(weights.shape), np.ones(weights.shape)
    correlation = _bisect(lambda c: correlate(c)[0] > c, *unit)
    slope = np.where(chaotic, correlate(correlation)[1], factor)
    values = variance, np.where(chaotic, correlation, 1.0), factor, slope
    return FixedPoint(*(value[()] for value in values))


def trainable_depth(activation, weight_variance, bias_variance=0.0):
    """The largest number of layers with which a network still learns, about 6 ξ_c.

    Schoenholz et al. 2017 observed this for tanh networks on MNIST; it is not a theorem. The
    arguments are those of `fixed_point`.
    """
    return 6 * fixed_point(activation, weight_variance, bias_variance).correlation_depth


def _fixed_variance(activation, weights, biases):
    squares = length_map(activation, _VARIANCES, 1.0)
    variances = weights[..., np.newaxis] * squares + biases[..., np.newaxis]
    growth = variances / _VARIANCES - 1
    # With He's weights, a ReLU keeps any variance, except for rounding errors.
    rounding = 1e-12
    up = growth[..., _START] > rounding
    # From the start, search upward or downward for the first change of sign.
    passed = np.where(
        up[..., np.newaxis],
        growth[..., _START:] <= 0,
        growth[..., _START::-1] >= -rounding,
    )
    steps = passed.argmax(axis=-1)
    side = np.where(up, 1, -1)
    bracket = _VARIANCES[_START + side * np.stack([steps, np.maximum(steps - 1, 0)])]
    point = _bisect(
        lambda q: length_map(activation, q, weights, biases) > q,
        bracket.min(axis=0),
        bracket.max(axis=0),
    )
    return np.where(passed.any(axis=-1), point, np.where(up, np.inf, 0.0))


def _correlation_series(activation, variance):
    """The coefficients and exponents of E[activation(u) activation(v)] as a series of c.

    All higher terms are replaced by a single one, which makes value and slope exact at a
    correlation of 1: there, they decide between order and chaos.
    """
    outputs = keras.activations.get(activation)(_pre_activations(variance)).numpy()
    coefficients = ((outputs * _DENSITY) @ _hermite_polynomials()) ** 2
    square = outputs**2 @ _DENSITY
    rest = np.maximum(square - coefficients.sum(axis=-1), 1e-15 * square)
    rest_slope = variance * gradient_factor(activation, variance, 1.0) - coefficients @ _DEGREES
    rest_power = np.maximum(rest_slope / rest, len(_DEGREES))
    powers = np.broadcast_to(_DEGREES, coefficients.shape)
    return (
        np.append(coefficients, rest[..., np.newaxis], axis=-1),
        np.append(powers, rest_power[..., np.newaxis], axis=-1),
    )


def _bisect(below, low, high):
    """Halve the interval 40 times; `below` tells whether a value is below the solution."""
    for _ in range(40):
        middle = (low + high) / 2
        is_below = below(middle)
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
    return low


def _depth_scale(factor):
    # Rounded, because a sum of floats is hardly ever exactly 1, which means an infinite depth.
    with np.errstate(divide="ignore"):
        return 1 / np.abs(np.log(np.round(factor, 12)))


def _pre_activations(variance):
    return tf.constant(np.sqrt(variance)[..., np.newaxis] * _NORMAL)


@functools.cache
def _hermite_polynomials():
    """The Hermite polynomials at `_NORMAL`, one column each, orthonormal for a standard normal."""
    norms = np.exp([math.lgamma(degree + 1) / 2 for degree in _DEGREES])
    return np.polynomial.hermite_e.hermevander(_NORMAL, _DEGREES[-1]) / norms
