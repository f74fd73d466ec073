"""The theory against closed forms, another integration, and networks as wide as it asks for."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import twins

from mnist_vg.theory import gradient_factor, gradient_reach, length_map

VARIANCES = (0.01, 1.0, 25.0)
# Activation to E[f(sqrt(q) z)^2] and E[f'(sqrt(q) z)^2]; those of erf by Williams 1997, eq. 11,
# and by the Gaussian integral of (4 / pi) exp(-2 q z^2).
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
def test_expectations_are_those_of_closed_forms(activation, weight_variance):
    squares, slopes = CLOSED[activation]
    for q in VARIANCES:
        ours = length_map(activation, q, weight_variance)
        assert ours == pytest.approx(weight_variance * squares(q), rel=1e-4)
        ours = gradient_factor(activation, q, weight_variance)
        assert ours == pytest.approx(weight_variance * slopes(q), rel=1e-4)


@pytest.mark.parametrize("q", [1e-4, 0.5, 2.0, 900.0])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_expectations_are_those_of_an_integral_over_the_sums(activation, q):
    """Over the sums themselves, where slopes are as wide for any variance."""
    sums = np.sqrt(q) * np.linspace(-9, 9, 1_000_003)
    density = np.exp(-(sums**2) / (2 * q)) / np.sqrt(2 * np.pi * q)
    function, slope = twins.SLOPES[activation]
    outputs = function(sums)
    for ours, values in [(length_map, outputs), (gradient_factor, slope(sums, outputs))]:
        exact = np.trapezoid(density * values**2, sums)
        assert ours(activation, q, 1.3) == pytest.approx(1.3 * exact, rel=1e-4)


def test_in_a_saturated_layer_few_units_pass_the_gradient_on():
    """sech^4 integrates to 4/3, and next to it a density of large variance is flat."""
    flat = 4 / 3 / np.sqrt(2 * np.pi * 900)
    assert gradient_factor("tanh", 900, 1) == pytest.approx(flat, rel=1e-3)


WIDTHS = [500] * 11
# Of ten kernels: variance times inputs, nearest the input first.
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
    # Far beyond what it is known to, so that a layer too many or too few would show.
    assert abs(measured) > 0.3


def test_on_the_way_back_the_sum_is_over_the_outputs():
    layers = [(0.5, 3, 4), (0.1, 4, 7), (0.2, 7, 2)]
    expected = np.log10(0.1 * 7 * 0.2 * 2) / 2
    assert gradient_reach("linear", 1, layers) == pytest.approx(expected)


def even(variances):
    """Layers of one width, whose weights times inputs have these variances."""
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
def test_nothing_comes_through_weights_of_zero(zero):
    variances = np.where(np.arange(4) == zero, 0.0, 1.0)
    for activation in ("tanh", "relu", "sigmoid"):
        assert gradient_reach(activation, 1, even(variances)) == -np.inf
