"""Checks of what passes through the network, forward and back."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import keras
import numpy as np

from mnist_vg.checks.findings import Finding, and_others
from mnist_vg.checks.look import Gradient, Steps, Time
from mnist_vg.checks.weights import LINEAR, LINEAR_WITHOUT_WEIGHTS
from mnist_vg.keras_models.layer_names import layer_paths
from mnist_vg.keras_models.layers import layer_weights
from mnist_vg.theory import fixed_point

GROWN = 1e3
"""How many times larger or smaller than at the first layer a signal may be at the last; set on
the models of `benchmarks/checks.py`. It stays about the same with weights of variance 1 / inputs or
2 / inputs (Glorot and Bengio 2010; He et al. 2015)."""

GROWN_GRADIENT = 1e4
"""How many times larger than at the last layer the gradient may be at the first ones, both times
the size of the layer's outputs. This is a relative condition number (Trefethen and Bau 1997,
lecture 12), which is about the same for all layers of a network that is linear or has ReLUs. Batch
normalization makes it grow with depth (Yang et al. 2019); set above the 700 of ResNet50."""

ALIKE = 0.02
"""Share of a signal, at the last layer, that has to differ between examples. Below it, the
correlation of two examples is above 0.9996, which is the ordered phase of Schoenholz et al.
(2017)."""

GROWN_ALIKE = 0.03
"""That share over the same at the first layer. A layer of sigmoids passes on 1/4, the largest slope
of a sigmoid, so after three hidden layers 1/16 is left, and after four 1/64; set between, as the
public report of a gradient that vanished has four."""

PADDED = 1e-5
"""Gradient at the step before the padding over that at the last step; set between 1e-4, with which
recurrent layers learned the words before it, and 1e-8, with which they did not
(`benchmarks/through_time.py`)."""

ROUNDING = 1e-5
"""Relative difference below which two sums of float32 are the same, up to their order: a hundred
times the machine epsilon."""

NUDGES = 2
"""Steps after which a layer's gradient has to be more than 0. Two layers of zeros, one behind the
other, as residual branches or low-rank adapters begin with, need one step each."""


def check_gradients(
    model: keras.Model, steps: Steps, steps_later: Callable[[int], Steps]
) -> list[Finding]:
    """Layers that get no gradient, or one that is exactly 0 in all batches, also later.

    Args:
        model: the model.
        steps: its training steps.
        steps_later: the same after a number of small steps, which are taken back.
    """
    return [
        *_without(steps),
        *_units_alike(model, steps),
        *_copies(model, steps),
        *_zero(model, steps, steps_later),
    ]


def _kernels(model, steps) -> Iterator[tuple[str, np.ndarray, Gradient]]:
    """Weights of more than one unit and more than one input, with their gradients."""
    for path, layer in layer_weights(model, []).items():
        gradients = steps.gradients.get(path, [])
        if len(gradients) != len(layer.variables):
            continue
        for variable, gradient in zip(layer.variables, gradients, strict=True):
            if len([size for size in variable.shape if size > 1]) > 1 and gradient.norm > 0:
                yield path, keras.ops.convert_to_numpy(variable), gradient


def _units_alike(model, steps):
    alike = [
        (path, values.flat[0])
        for path, values, gradient in _kernels(model, steps)
        if (values == values.flat[0]).all() and gradient.asymmetry <= ROUNDING * gradient.norm
    ]
    if alike:
        yield Finding(
            "network",
            alike[0][0],
            f"all weights are {alike[0][1]:.3g}, and all units get the same gradient"
            + and_others([path for path, _ in alike]),
            "units that are the same now stay the same, so the layer has a single one",
            "a random initializer, such as Keras' default glorot_uniform",
        )


def _copies(model, steps):
    pairs = [
        (one, other)
        for (one, left, first), (other, right, second) in itertools.combinations(
            _kernels(model, steps), 2
        )
        if left.shape == right.shape and np.allclose(first[:2], second[:2], ROUNDING, 0)
        if np.array_equal(left, right)
    ]
    if pairs:
        yield Finding(
            "network",
            pairs[0][1],
            f"it has the initial weights of {pairs[0][0]}, value by value, and gets the same "
            "gradient",
            "two layers that are the same now stay the same: one initializer with a seed draws "
            "the same numbers for both",
            "an initializer of its own for each layer, without a seed or each with another",
        )


def _without(steps):
    for operation in dict.fromkeys(steps.without.values()):
        paths = [path for path, of in steps.without.items() if of == operation]
        if operation:
            yield Finding(
                "network",
                paths[-1],
                f"no gradient comes back through {operation}{and_others(paths[::-1])}",
                f"{operation} has no derivative, so what is before it is never trained",
                "an operation with a gradient (softmax for argmax), or trainable=False if it is "
                "meant",
            )
        else:
            yield Finding(
                "network",
                paths[0],
                f"it gets no gradient{and_others(paths)}: the loss does not use its output",
                "its weights stay what they are",
                "use its output, leave the layer out, or set trainable=False",
            )


def _zero(model, steps, steps_later):
    zero = _zero_paths(steps)
    if not zero:
        return
    later = steps_later(NUDGES)
    zero = [path for path in zero if path in _zero_paths(later)]
    if not zero:
        return
    variables = {path: layer.variables for path, layer in layer_weights(model, []).items()}
    zeros = [
        path
        for path in zero
        if all(not np.any(keras.ops.convert_to_numpy(v)) for v in variables[path])
    ]
    dead = [path for path, signal in later.signals.items() if signal.scale == 0]
    if zeros:
        yield Finding(
            "network",
            zeros[0],
            f"all weights are 0{and_others(zeros)}, and so is their gradient",
            "behind weights of 0 all units are 0, so nothing tells them apart and none is trained",
            "a random initializer, such as Keras' default glorot_uniform",
        )
    elif dead and isinstance(layer_paths(model).get(dead[0]), keras.layers.BatchNormalization):
        yield Finding(
            "network",
            dead[0],
            "it gives 0 for all examples: each batch has one value of a unit",
            "batch normalization subtracts the mean of the batch, which is the value itself",
            "larger batches, or layer normalization",
        )
    elif dead:
        yield Finding(
            "network",
            dead[0],
            f"all of its units are dead{and_others(dead)}: they give 0 for all examples",
            "where a ReLU gives 0 no gradient passes, so nothing before it is ever trained",
            "initial weights and biases around 0, inputs of unit scale, or leaky_relu",
        )
    else:
        yield Finding(
            "network",
            zero[0],
            f"its gradient is exactly 0 in all {len(steps.losses)} batches{and_others(zero)}",
            "its weights stay what they are: behind it something is flat, such as ReLUs that all "
            "give 0, or rounding",
            "initial weights around 0, inputs of unit scale, or an activation without a flat part",
        )


def _zero_paths(steps):
    return [
        path
        for path, gradients in steps.gradients.items()
        if gradients and all(gradient.norm == 0 for gradient in gradients)
    ]


def check_time(model: keras.Model, steps: Steps) -> list[Finding]:
    """What recurrent layers do to the gradient on its way through their time steps.

    That it vanishes is no finding: forget gates of healthy networks let through less than the
    rounding of float32 after 50 steps, until they are trained. It is one where nothing but
    padding comes within reach.
    """
    return [*_forgotten(model, steps.times), *_exploding(steps.times)][:1]


def _forgotten(model, times):
    layers = layer_paths(model)
    for path, time in times.items():
        # What one direction forgets, the other has read last.
        both = isinstance(layers.get(path.rpartition("/")[0]), keras.layers.Bidirectional)
        if not both and time.before_tail < np.log10(PADDED):
            yield Finding(
                "network",
                path,
                f"half of the examples end in {time.tail:.0f} or more time steps with the same "
                f"inputs, and the gradient before them is 1e{time.before_tail:.0f} of that at the "
                "last step",
                "nothing is left of an example when its padding has been read, and no gradient "
                "gets back through it",
                _KEEP_IN_REACH,
            )


_KEEP_IN_REACH = (
    "mask_zero=True in the Embedding, or a Masking layer; or padding in front "
    "(pad_sequences(padding='pre')); or return_sequences=True and a pooling layer"
)


def _exploding(times):
    for path, time in times.items():
        if time.first_to_last > np.log10(GROWN_GRADIENT):
            yield Finding(
                "network",
                path,
                f"the gradient grows 1e{time.first_to_last:.0f} times from the last of "
                f"{time.steps:.0f} time steps back to the first",
                "what comes first decides at random, and a small step changes the loss a lot",
                "recurrent_initializer='orthogonal', Keras' default, with activation='tanh'; "
                "clipnorm=1 in the optimizer (Pascanu et al. 2013); shorter sequences",
            )


def reach_in_time(times: dict[str, Time]) -> list[str]:
    """A line for each recurrent layer that learns from a part of the time steps alone."""
    return [
        f"gradient through time: at first, {path} learns from {time.reached:.0f} of "
        f"{time.steps:.0f} time steps"
        for path, time in times.items()
        if time.reached < time.steps and time.first_to_last < 0
    ]


def check_depth(model: keras.Model, steps: Steps) -> list[Finding]:
    """What is left of signal and gradient on the way through the network, at initialization.

    Of a stack of dense layers the finding says what mean-field theory expects, see `theory`.
    """
    signals = steps.signals
    first = [path for path in steps.first if path in signals]
    if len(signals) < 3 or not first:
        return []
    *_, last = signals
    found = [*_signal(steps, first, last), *_gradient(signals, first)][:1]
    return [replace(finding, why=finding.why + _theory(model)) for finding in found]


def _theory(model):
    """What mean-field theory expects of a stack of dense layers with one activation."""
    layers = [layer for layer in model._flatten_layers(include_self=False) if not layer._layers]
    hidden = [layer for layer in layers if isinstance(layer, keras.layers.Dense)][:-1]
    others = [layer for layer in layers if not isinstance(layer, LINEAR_WITHOUT_WEIGHTS + LINEAR)]
    activations = {layer.activation for layer in hidden}
    if len(hidden) < 2 or others or len(activations) > 1:
        return ""
    kernels = [keras.ops.convert_to_numpy(layer.kernel) for layer in hidden[1:]]
    variance = np.mean([len(kernel) * kernel.var() for kernel in kernels])
    factor = float(fixed_point(activations.pop(), variance).gradient_factor)
    return (
        f"; mean-field theory (Schoenholz et al. 2017) expects {factor:.2g} times the mean squared "
        "gradient at each layer further from the output"
    )


def _signal(steps, first, last):
    signals = steps.signals
    grown = signals[last].input_scale / max(signals[path].scale for path in first)
    before = max(signals[path].spread for path in first)
    after = signals[last].input_spread
    if grown > GROWN:
        yield Finding(
            "network",
            last,
            f"the signal grows {grown:.1g} times from {first[0]} to here",
            "the loss starts far too large, and the first steps with it",
            "smaller initial weights (glorot_uniform, he_normal), or a normalization",
        )
    elif grown < 1 / GROWN:
        yield Finding(
            "network",
            last,
            f"the signal shrinks to {grown:.1g} from {first[0]} to here",
            "too deep for its initial weights: the gradient shrinks as much on its way back",
            "larger initial weights (glorot_uniform, he_normal), or a normalization",
        )
    elif after < ALIKE and after < GROWN_ALIKE * before:
        for path in steps.times:
            if signals[path].spread < ALIKE:
                yield Finding(
                    "network",
                    path,
                    f"its outputs differ between examples by only {signals[path].spread:.1g} of "
                    f"their size (those of {first[0]}: by {before:.1g})",
                    "what differs comes too early: it is forgotten before the last time step, "
                    "and no gradient gets back to it",
                    _KEEP_IN_REACH,
                )
        yield Finding(
            "network",
            last,
            f"its inputs differ between examples by only {after:.1g} of their size (the outputs "
            f"of {first[0]}: by {before:.1g})",
            "too deep for its activation and initial weights: all examples become alike on the "
            "way, and the gradient vanishes on the way back",
            "an activation such as relu, fewer layers, a normalization, or skip connections",
        )


def _gradient(signals, first):
    known = {p: s.sensitivity for p, s in signals.items() if s.sensitivity > 0}
    if not known:
        return
    *_, last = known
    most = max(known, key=lambda path: known[path] if path in first else 0.0)
    grown = known[most] / known[last]
    if most in first and grown > GROWN_GRADIENT:
        yield Finding(
            "network",
            most,
            f"the gradient grows {grown:,.0f} times from {last} back to here",
            "the first layers are changed at random, and a small step changes the loss a lot",
            "smaller initial weights (glorot_uniform, lecun_normal), or a normalization",
        )
