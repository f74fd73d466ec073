"""What mean-field theory says of a network before it is trained: how far signals and gradients get.

Wide layers with random weights and biases are followed by three numbers: the variance of the
sums that go into a layer's activation, the correlation of the sums of two inputs, and the factor
by which the squared gradient changes from one layer to the one before it.

An activation is the name of one in Keras, or a function of tensors, that takes each element by
itself. A layer's weight variance is that of one weight times the number of inputs (σ_w² in the
papers), its bias variance that of one bias (σ_b²).
"""

import functools
import math
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

_STRETCHED = np.linspace(-12, 12, 10_000)
_NORMAL = 1e-4 * np.sinh(_STRETCHED)
"""Where expectations are summed up, to 8 on both sides: finer than quadrature's nodes, most so
around 0, as a bounded activation has its slope in a narrow band where the variance is large.
An even number, so that the corner of a ReLU lies between two and symmetry makes its sums exact."""
_DENSITY = np.exp(-(_NORMAL**2) / 2) * np.cosh(_STRETCHED)
_DENSITY /= _DENSITY.sum()
_DEGREES = np.arange(256)
"""Of the Hermite polynomials in a correlation map; float64 holds none far beyond them."""
_VARIANCES = np.logspace(-10, 10, 201)
_START = len(_VARIANCES) // 2
"""Where a fixed point is looked for, and from where: a variance of 1, that of normalized inputs."""


class FixedPoint(NamedTuple):
    """What the layers of a deep network come to; numbers, or arrays of one shape.

    Attributes:
        variance: q*, of the sums; 0 where the signal dies out, infinite where it grows forever.
        correlation: c*, of two inputs' sums. 1 (the ordered phase) where `gradient_factor` is
            at most 1, and where the variance is 0 or infinite.
        gradient_factor: χ₁, of the mean squared gradient over one layer.
        slope: of the correlation map at c*. It is χ₁ where c* is 1. Where q* is 0 or infinite
            it is χ₁ too: there every covariance shrinks or grows by that factor a layer.
    """

    variance: np.ndarray
    correlation: np.ndarray
    gradient_factor: np.ndarray
    slope: np.ndarray

    @property
    def gradient_depth(self):
        """The layers over which the mean squared gradient changes e-fold, ξ_∇ of the paper."""
        return _depth_scale(self.gradient_factor)

    @property
    def correlation_depth(self):
        """The layers over which a distance from c* changes e-fold, ξ_c of the paper."""
        return _depth_scale(self.slope)


def length_map(activation, variance, weight_variance, bias_variance=0.0):
    """The variance of a layer's sums from that of the layer before.

    Poole et al. 2016, section 2 (Keras starts biases at zero):
    `weight_variance * E[activation(sqrt(variance) z)**2] + bias_variance`, z a standard normal.

    Args:
        activation: a Keras activation's name, or a function of tensors.
        variance: of the sums in the layer before, a number or an array.
        weight_variance: of its weights times the number of its inputs.
        bias_variance: of its biases.
    """
    outputs = keras.activations.get(activation)(_sums(variance)).numpy()
    return weight_variance * (outputs**2 @ _DENSITY) + bias_variance


def gradient_factor(activation, variance, weight_variance):
    """The factor of the mean squared gradient over one layer, χ₁ where `variance` is fixed.

    Schoenholz et al. 2017: `weight_variance * E[activation'(sqrt(variance) z)**2]`;
    the derivative is the one that TensorFlow takes. Arguments as of `length_map`.
    """
    sums = _sums(variance)
    with tf.GradientTape() as tape:
        tape.watch(sums)
        outputs = keras.activations.get(activation)(sums)
    return weight_variance * (tape.gradient(outputs, sums).numpy() ** 2 @ _DENSITY)


def gradient_reach(activation, input_variance, layers) -> float:
    """log10 of the root mean square gradient at the first layer's sums over that at the logits.

    Below zero it vanishes, above it explodes.

    Args:
        activation: of the hidden layers.
        input_variance: mean square of the inputs' values.
        layers: of each layer the variance of its weights, and the numbers of its inputs
            and outputs. On the way back the sum is over the outputs. Biases are zero.
    """
    (first, inputs, _), *later = layers
    variance, log_factor = first * inputs * input_variance, 0.0
    with np.errstate(divide="ignore"):
        for weight, inputs, outputs in later:
            log_factor += np.log10(gradient_factor(activation, variance, weight * outputs)) / 2
            variance = length_map(activation, variance, weight * inputs)
    return float(log_factor)


def correlation_map(activation, variance, weight_variance, bias_variance=0.0):
    """How the correlation of two inputs' sums goes from one layer to the next.

    Poole et al. 2016: the covariance is `weight_variance * E[activation(u) activation(v)] +
    bias_variance`, u and v normal with that variance and correlation. As a power series of the
    correlation (Daniely et al. 2016, section 8) it needs no integral over a plane, which
    would get hard where the inputs agree.

    Args:
        activation: a Keras activation's name, or a function of tensors.
        variance: of the sums of both inputs in the layer before, above 0.
        weight_variance: of its weights times the number of its inputs.
        bias_variance: of its biases.

    Returns:
        A function from a correlation, 0 to 1, to that in the layer, and to the map's slope.
    """
    shares, powers = _correlation_series(activation, variance)
    variance_after = weight_variance * shares.sum(axis=-1) + bias_variance

    def correlate(correlation):
        base = np.asarray(correlation)[..., np.newaxis]
        products = (shares * base**powers).sum(axis=-1)
        slopes = (shares * powers * base ** np.maximum(powers - 1, 0)).sum(axis=-1)
        covariance = weight_variance * products + bias_variance
        return covariance / variance_after, weight_variance * slopes / variance_after

    return correlate


def fixed_point(activation, weight_variance, bias_variance=0.0) -> FixedPoint:
    """What variance and correlation of the sums come to, layer after layer, and how fast.

    Schoenholz et al. 2017. The variance is followed from 1; where a map has several fixed points
    (that of GELU, say, at a weight variance of 2 to 4) another start may end elsewhere.
    It is taken for 0 below 1e-10 and for infinite above 1e10.

    Args:
        activation: a Keras activation's name, or a function of tensors. Its length map grows
            with the variance, as that of any activation which moves away from 0 does.
        weight_variance: of a layer's weights times the number of its inputs, a number or an array.
        bias_variance: of its biases; a number, or an array that broadcasts with the weights'.
    """
    weights, biases = np.broadcast_arrays(np.float64(weight_variance), np.float64(bias_variance))
    with np.errstate(over="ignore", invalid="ignore"):
        variance = _fixed_variance(activation, weights, biases)
        # The limits of slopes: at 0 itself a ReLU has none.
        near = np.clip(variance, 1e-20, _VARIANCES[-1])
        factor = gradient_factor(activation, near, weights)
    chaotic = (factor > 1) & (variance > 0) & np.isfinite(variance)
    correlate = correlation_map(activation, *np.where(chaotic, (variance, weights, biases), 1.0))
    # The map is convex and ends at (1, 1): below its stable point it raises a correlation,
    # between that and 1 it lowers it.
    unit = np.zeros(weights.shape), np.ones(weights.shape)
    correlation = _bisect(lambda c: correlate(c)[0] > c, *unit)
    slope = np.where(chaotic, correlate(correlation)[1], factor)
    values = variance, np.where(chaotic, correlation, 1.0), factor, slope
    return FixedPoint(*(value[()] for value in values))


def trainable_depth(activation, weight_variance, bias_variance=0.0):
    """The most layers with which a network still learns: 6 ξ_c, as Schoenholz et al. 2017 observed.

    That is what they saw of tanh networks on MNIST, no theorem. Arguments as of `fixed_point`.
    """
    return 6 * fixed_point(activation, weight_variance, bias_variance).correlation_depth


def _fixed_variance(activation, weights, biases):
    squares = length_map(activation, _VARIANCES, 1.0)
    variances = weights[..., np.newaxis] * squares + biases[..., np.newaxis]
    growth = variances / _VARIANCES - 1
    # A ReLU with He's weights leaves any variance as it is, but for rounding.
    rounding = 1e-12
    up = growth[..., _START] > rounding
    passed = np.where(
        up[..., np.newaxis],
        growth[..., _START:] <= 0,
        growth[..., _START::-1] >= -rounding,
    )
    far = passed.argmax(axis=-1)
    side = np.where(up, 1, -1)
    bracket = _VARIANCES[_START + side * np.stack([far, np.maximum(far - 1, 0)])]
    point = _bisect(
        lambda q: length_map(activation, q, weights, biases) > q,
        bracket.min(axis=0),
        bracket.max(axis=0),
    )
    return np.where(passed.any(axis=-1), point, np.where(up, np.inf, 0.0))


def _correlation_series(activation, variance):
    """E[activation(u) activation(v)] as a sum of shares times powers of the correlation.

    All that is beyond the polynomials at hand is one more term, such that at a correlation of 1
    value and slope are right: near it that is what tells order from chaos.
    """
    outputs = keras.activations.get(activation)(_sums(variance)).numpy()
    shares = ((outputs * _DENSITY) @ _hermite_polynomials()) ** 2
    square = outputs**2 @ _DENSITY
    rest = np.maximum(square - shares.sum(axis=-1), 1e-15 * square)
    rest_slope = variance * gradient_factor(activation, variance, 1.0) - shares @ _DEGREES
    rest_power = np.maximum(rest_slope / rest, len(_DEGREES))
    powers = np.broadcast_to(_DEGREES, shares.shape)
    return (
        np.append(shares, rest[..., np.newaxis], axis=-1),
        np.append(powers, rest_power[..., np.newaxis], axis=-1),
    )


def _bisect(below, low, high):
    for _ in range(40):
        middle = (low + high) / 2
        is_below = below(middle)
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
    return low


def _depth_scale(factor):
    # Rounded, as 1 itself (an infinite scale) is not to be had from sums of floats.
    with np.errstate(divide="ignore"):
        return 1 / np.abs(np.log(np.round(factor, 12)))


def _sums(variance):
    return tf.constant(np.sqrt(variance)[..., np.newaxis] * _NORMAL)


@functools.cache
def _hermite_polynomials():
    """Orthonormal under the normal density, a column each."""
    norms = np.exp([math.lgamma(degree + 1) / 2 for degree in _DEGREES])
    return np.polynomial.hermite_e.hermevander(_NORMAL, _DEGREES[-1]) / norms
