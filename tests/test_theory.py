"""Mean-field theory against closed forms, plain integration, and wide random networks."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import twins

from mnist_vg.theory import (
    correlation_map,
    fixed_point,
    gradient_factor,
    gradient_reach,
    length_map,
    trainable_depth,
)

VARIANCES = (0.01, 1.0, 25.0)
# For each activation f, E[f(sqrt(q) z)^2] and E[f'(sqrt(q) z)^2]. For erf these are Williams 1997,
# eq. 11, and the Gaussian integral of (4 / pi) exp(-2 q z^2).
CLOSED = {
    "linear": (lambda q: q, lambda q: 1),
    "relu": (lambda q: q / 2, lambda q: 1 / 2),
    "leaky_relu": (lambda q: 1.04 * q / 2, lambda q: 1.04 / 2),
    tf.math.erf: (
        lambda q: 2 / np.pi * np.arcsin(2 * q / (1 + 2 * q)),
        lambda q: 4 / np.pi / np.sqrt(1 + 4 * q),
    ),
}


@pytest.mark.parametrize("weight_variance", [1, 1.7])
@pytest.mark.parametrize("activation", CLOSED)
def test_expectations_equal_closed_forms(activation, weight_variance):
    squares, slopes = CLOSED[activation]
    for q in VARIANCES:
        ours = length_map(activation, q, weight_variance)
        assert ours == pytest.approx(weight_variance * squares(q), rel=1e-4)
        assert length_map(activation, q, weight_variance, 0.3) == pytest.approx(ours + 0.3)
        ours = gradient_factor(activation, q, weight_variance)
        assert ours == pytest.approx(weight_variance * slopes(q), rel=1e-4)


@pytest.mark.parametrize("q", [1e-4, 0.5, 2.0, 900.0])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_expectations_equal_an_integral_over_the_pre_activations(activation, q):
    """On this grid, the slope covers equally many points at any variance."""
    sums = np.sqrt(q) * np.linspace(-9, 9, 1_000_003)
    density = np.exp(-(sums**2) / (2 * q)) / np.sqrt(2 * np.pi * q)
    function, slope = twins.SLOPES[activation]
    outputs = function(sums)
    for ours, values in [(length_map, outputs), (gradient_factor, slope(sums, outputs))]:
        exact = np.trapezoid(density * values**2, sums)
        assert ours(activation, q, 1.3) == pytest.approx(1.3 * exact, rel=1e-4)


def test_in_a_saturated_layer_few_units_pass_the_gradient_on():
    """tanh'^2 = sech^4 integrates to 4/3, and a normal of large variance is flat around 0."""
    flat = 4 / 3 / np.sqrt(2 * np.pi * 900)
    assert gradient_factor("tanh", 900, 1) == pytest.approx(flat, rel=1e-3)


WIDTHS = [500] * 11
# For each network the activation and, from the first to the last of ten kernels, the variance of a
# weight times the number of inputs.
NETWORKS = {
    "vanishes": ("tanh", [1.0] + 9 * [0.5]),
    "explodes": ("tanh", [1.0] + 9 * [4.0]),
    "starts large": ("tanh", [100.0, *(9 * [1.0])]),
    "changes on its way": ("tanh", [0.3, 4, 0.25, 9, 0.3, 0.5, 2, 6, 0.4, 0.2]),
    "relu": ("relu", [2.0, 1.0, 3.0, *(7 * [2.5])]),
    "leaky": ("leaky_relu", [1.0] * 10),
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_gradient_gets_as_far_in_a_wide_network_as_theory_says(name, seed):
    activation, variances = NETWORKS[name]
    rng = np.random.default_rng(seed)
    inputs = 0.7 * rng.normal(size=(20, WIDTHS[0]))
    parameters = []
    shapes = list(itertools.pairwise(WIDTHS))
    layers = [
        (v / rows, rows, columns) for v, (rows, columns) in zip(variances, shapes, strict=True)
    ]
    for variance, rows, columns in layers:
        parameters += [rng.normal(size=(rows, columns)) * np.sqrt(variance), 0]
    sums, activations = twins.forward(parameters, inputs, activation)
    back = first = rng.normal(size=(20, WIDTHS[-1]))
    for number in reversed(range(1, 10)):
        slopes = twins.SLOPES[activation][1](sums[number - 1], activations[number])
        back = back @ parameters[2 * number].T * slopes
    measured = np.log10(twins.rms(back) / twins.rms(first))
    reach = gradient_reach(activation, 0.49, layers)
    assert reach == pytest.approx(measured, abs=0.15)
    # Larger than the tolerance, so that an error of one layer would be found.
    assert abs(measured) > 0.3


def test_backward_a_layer_sums_over_its_outputs():
    layers = [(0.5, 3, 4), (0.1, 4, 7), (0.2, 7, 2)]
    expected = np.log10(0.1 * 7 * 0.2 * 2) / 2
    assert gradient_reach("linear", 1, layers) == pytest.approx(expected)


def even(variances):
    """Layers of width 100 with these variances, each of a weight times the number of inputs."""
    return [(variance / 100, 100, 100) for variance in variances]


def test_gradients_multiply_layer_by_layer():
    variances = [1.3, 0.8, 2.0, 1.5]
    q, factors = 1.3 * 0.25, []
    for variance in variances[1:]:
        factors.append(gradient_factor("tanh", q, variance))
        q = length_map("tanh", q, variance)
    reach = gradient_reach("tanh", 0.25, even(variances))
    assert reach == pytest.approx(np.log10(np.prod(factors)) / 2)
    steps = [gradient_reach("tanh", 0.25, even(variances[:n])) for n in range(1, 5)]
    assert steps[0] == 0
    np.testing.assert_allclose(np.diff(steps), np.log10(factors) / 2)


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_no_gradient_passes_weights_of_zero(zero):
    variances = np.where(np.arange(4) == zero, 0.0, 1.0)
    for activation in ("tanh", "relu", "sigmoid"):
        assert gradient_reach(activation, 1, even(variances)) == -np.inf


def arc_cosine(c):
    """Cho and Saul 2009, degree 1, for vectors of length 1, and its derivative."""
    angle = np.arccos(c)
    return (np.sin(angle) + (np.pi - angle) * c) / np.pi, (np.pi - angle) / np.pi


def erf_kernel(c, q, weight_variance, bias_variance):
    """Williams 1997, eq. 11: the covariance after erf, and its derivative by the one before."""
    sine = 2 * q * c / (1 + 2 * q)
    slope = 4 / np.pi / np.sqrt((1 + 2 * q) ** 2 - (2 * q * c) ** 2)
    return weight_variance * 2 / np.pi * np.arcsin(sine) + bias_variance, weight_variance * slope


@pytest.mark.parametrize("q", VARIANCES)
def test_correlation_maps_equal_closed_forms(q):
    c = np.array([0, 0.3, 0.9, 0.99, 1])
    covariance, slope = erf_kernel(c, q, 1.7, 0.2)
    after = length_map(tf.math.erf, q, 1.7, 0.2)
    ours = correlation_map(tf.math.erf, q, 1.7, 0.2)(c)
    np.testing.assert_allclose(ours, [covariance / after, slope * q / after], rtol=1e-3)
    np.testing.assert_allclose(correlation_map("linear", q, 1.7)(c), [c, c**0], atol=1e-9)
    kernel, slope = arc_cosine(c)
    ours, our_slope = correlation_map("relu", q, 1.7)(c)
    np.testing.assert_allclose(ours, kernel, atol=1e-5)
    np.testing.assert_allclose(our_slope, slope, rtol=5e-3)
    ours, our_slope = correlation_map("relu", q, 1.7, 0.2)(c)
    after = 1.7 * q / 2 + 0.2
    np.testing.assert_allclose(ours, (1.7 * q / 2 * kernel + 0.2) / after, atol=1e-5)
    np.testing.assert_allclose(our_slope, 1.7 * q / 2 * slope / after, rtol=5e-3)


@pytest.mark.parametrize(("activation", "share"), [("relu", 1 / 2), ("linear", 1)])
def test_fixed_points_of_a_linear_length_map(activation, share):
    factors = np.array([0, 0.5, 0.999, 1.001, 2])
    point = fixed_point(activation, factors / share, 0.3)
    ends = np.where(factors < 1, 0.3 / (1 - factors), np.inf)
    np.testing.assert_allclose(point.variance, ends, rtol=1e-9)
    without = fixed_point(activation, factors / share)
    np.testing.assert_array_equal(without.variance, np.where(factors < 1, 0, np.inf))
    for each in (point, without):
        np.testing.assert_allclose([each.gradient_factor, each.slope], [factors, factors])
        np.testing.assert_array_equal(each.correlation, 1)
    for bias_variance in (0, 0.3):
        he = fixed_point(activation, 1 / share, bias_variance)
        assert he.variance == (1 if bias_variance == 0 else np.inf)
        assert he.gradient_depth == he.correlation_depth == np.inf


def test_the_fixed_point_of_erf_equals_its_closed_forms():
    weights = np.array([0.5, 1.0, 1.5, 4.0, 400.0])
    for biases in (0.0, 0.05, 2.0):
        q, c = np.ones(5), np.full(5, 0.5)
        for _ in range(500):
            q = erf_kernel(1, q, weights, biases)[0]
        for _ in range(500):
            c = erf_kernel(c, q, weights, biases)[0] / q if biases else 0 * c
        ordered = erf_kernel(1, q, weights, biases)[1] <= 1
        c = np.where(ordered, 1, c)
        point = fixed_point(tf.math.erf, weights, biases)
        np.testing.assert_allclose(point.variance, q, rtol=1e-6, atol=1e-10)
        np.testing.assert_allclose(point.correlation, c, atol=1e-4)
        slopes = erf_kernel(np.array([np.ones(5), c]), q, weights, biases)[1]
        np.testing.assert_allclose([point.gradient_factor, point.slope], slopes, rtol=1e-3)


def layer(activation, covariances, noise, weight_variance, bias_variance):
    """The covariances of two examples' pre-activations after a random layer.

    Given the layer before, the pre-activations of a random layer are normal and independent
    between units. So `noise`, `[2, units]`, gives a sample of them without any weights.
    """
    sums = np.linalg.cholesky(covariances + 1e-15 * np.eye(2)) @ noise
    outputs = twins.SLOPES[activation][0](sums)
    return weight_variance * outputs @ outputs.T / noise.shape[1] + bias_variance


def correlation_of(covariances):
    return covariances[0, 1] / np.sqrt(covariances[0, 0] * covariances[1, 1])


@pytest.mark.parametrize(
    ("activation", "weight_variance", "bias_variance"),
    [("tanh", 1.2, 0.05), ("tanh", 4, 0.05), ("tanh", 4, 0.0), ("relu", 1.2, 0.1)],
)
def test_random_networks_converge_to_the_fixed_point(activation, weight_variance, bias_variance):
    rng = np.random.default_rng(0)
    point = fixed_point(activation, weight_variance, bias_variance)
    covariances = np.array([[1.0, 0.2], [0.2, 0.3]])
    for _ in range(30):
        noise = rng.normal(size=(2, 20_000))
        covariances = layer(activation, covariances, noise, weight_variance, bias_variance)
    assert covariances[0, 0] == pytest.approx(point.variance, rel=0.03)
    assert correlation_of(covariances) == pytest.approx(point.correlation, abs=0.03)
    # The slope of the correlation map, from two pairs that start at different distances.
    noise = rng.normal(size=(2, 100_000))
    apart = np.array([0, 1e-3 if point.correlation == 1 else 0.02])
    gaps = []
    for c in point.correlation - apart:
        start = point.variance * np.array([[1, c], [c, 1]])
        after = layer(activation, start, noise, weight_variance, bias_variance)
        gaps.append((after[0, 0] + after[1, 1]) / 2 - after[0, 1])
    slope = (gaps[1] - gaps[0]) / apart[1] / point.variance
    assert slope == pytest.approx(point.slope, rel=0.05)


def test_the_distance_of_two_inputs_decays_with_the_correlation_depth():
    rng = np.random.default_rng(0)
    point = fixed_point("tanh", 1.2, 0.05)
    covariances = point.variance * np.array([[1, 0.9], [0.9, 1]])
    gaps = []
    for _ in range(30):
        gaps.append(1 - correlation_of(covariances))
        covariances = layer("tanh", covariances, rng.normal(size=(2, 20_000)), 1.2, 0.05)
    decay = np.polyfit(np.arange(10, 30), np.log(gaps[10:]), 1)[0]
    assert -1 / decay == pytest.approx(point.correlation_depth, rel=0.05)


def order_to_chaos(q):
    """Weight and bias variance for which tanh has the fixed point q, with χ₁ = 1 there.

    For q = 0.57 they are 1.76 and 0.05.
    """
    sums = np.sqrt(q) * np.linspace(-9, 9, 10_001)
    weights = np.exp(-(sums**2) / (2 * q))
    weights /= weights.sum()
    squares = np.tanh(sums) ** 2
    weight_variance = 1 / (weights @ (1 - squares) ** 2)
    return weight_variance, q - weight_variance * (weights @ squares)


@pytest.mark.parametrize("q", [0.57, 2.0])
def test_depth_scales_diverge_on_the_line_from_order_to_chaos(q):
    """On both sides, ten times closer to the line means ten times as deep."""
    edge, bias_variance = order_to_chaos(q)
    distances = np.array([1e-3, 1e-4, 1e-5, 0])
    ordered, chaotic = np.array([[-1], [1]]) * distances
    point = fixed_point("tanh", edge * (1 + np.stack([ordered, chaotic])), bias_variance)
    assert (point.correlation_depth[:, -1] > 1e7).all()
    depths = point.correlation_depth[:, :-1]
    np.testing.assert_allclose(depths, point.gradient_depth[:, :-1], rtol=0.02)
    np.testing.assert_allclose(depths[:, 1:] / depths[:, :-1], 10, rtol=0.02)
    is_chaotic = np.array([[False], [True]])
    np.testing.assert_array_equal((point.correlation < 1)[:, :-1] ^ is_chaotic, False)
    np.testing.assert_array_equal((point.gradient_factor > 1)[:, :-1] ^ is_chaotic, False)


def test_a_signal_that_dies_out_decays_as_in_a_linear_network():
    weights = np.array([0.1, 0.9, 1.0])
    point = fixed_point("tanh", weights)
    np.testing.assert_array_equal([point.variance, point.correlation], [[0] * 3, [1] * 3])
    np.testing.assert_allclose(point.slope, weights)
    np.testing.assert_allclose(point.correlation_depth, [1 / np.log(10), -1 / np.log(0.9), np.inf])
    # For a small variance q, E[tanh^2] is q - 2 q^2, and E[tanh'^2] is 1 - 2 q.
    point = fixed_point("tanh", 1.0001)
    assert point.variance == pytest.approx(0.5e-4, rel=1e-3)
    assert point.correlation == 0
    assert point.gradient_factor == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("weight_variance", [1e4, 1e8])
def test_a_saturated_tanh_is_the_sign(weight_variance):
    """The covariance of signs is 2 / pi arcsin(c)."""
    point = fixed_point("tanh", weight_variance)
    assert point.variance == pytest.approx(weight_variance, rel=0.01)
    assert point.correlation == 0
    assert point.slope == pytest.approx(2 / np.pi, rel=0.01)
    steep = 4 / 3 * np.sqrt(weight_variance / (2 * np.pi))
    assert point.gradient_factor == pytest.approx(steep, rel=0.01)


@pytest.mark.parametrize(
    ("activation", "weight_variance", "bias_variance"),
    [
        ("sigmoid", 5, 0),
        ("gelu", 2.05, 0.05),  # It has a second fixed point at 4, an unstable one.
        ("elu", 1.5, 0.1),
        ("softsign", 3, 0.01),
        (tf.math.sin, 2, 0.1),
    ],
)
def test_iterating_the_length_map_gives_the_fixed_point(activation, weight_variance, bias_variance):
    q = 1.0
    for _ in range(150):
        q = length_map(activation, q, weight_variance, bias_variance)
    point = fixed_point(activation, weight_variance, bias_variance)
    assert point.variance == pytest.approx(q, rel=1e-5)


def test_selu_keeps_mean_0_and_variance_1():
    """SELU was made for this (Klambauer et al. 2017). With mean 0, the correlation goes to 0."""
    variance, correlation, *_ = fixed_point("selu", 1)
    assert (variance, correlation) == pytest.approx((1, 0), abs=1e-4)


def test_arrays_of_variances_give_the_same_as_single_ones():
    weights, biases = np.array([[0.5], [3.0]]), np.array([0.0, 0.05])
    curve = trainable_depth("tanh", weights, biases)
    assert curve.shape == (2, 2)
    for row, column in np.ndindex(2, 2):
        point = fixed_point("tanh", weights[row, 0], biases[column])
        assert curve[row, column] == pytest.approx(6 / -np.log(point.slope))
