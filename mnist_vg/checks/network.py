"""Checks of the network: what is frozen, what is constant, and what passes through its layers."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import keras
import numpy as np

from mnist_vg.checks.findings import Finding
from mnist_vg.checks.look import Gradient, Steps, Time
from mnist_vg.keras_models.layer_names import layer_paths
from mnist_vg.keras_models.layers import layer_weights
from mnist_vg.keras_models.optimizers import unscaled
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

UNBOUNDED = 100.0
"""An activation that gives more than this at 1,000 has no upper bound. A cell passes its output on
from step to step, and Keras' default is tanh (Hochreiter and Schmidhuber 1997 need one, too)."""

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


DROPPED = 0.8
"""Rate of dropout from which on a layer drops nearly all: in Srivastava et al. (2014, section 7.3)
errors rise above a rate of 0.6."""

FEWEST_INPUTS = 8
"""Inputs of a unit from which on weights that are all positive are no chance: one in 256 units has
them if signs are drawn."""

ONE_SIDED = 2.0
"""How many times the mean of its inputs a unit with positive weights may give. A mean, as in pools,
gives 1."""

_DROPOUTS = (
    *(keras.layers.Dropout, keras.layers.AlphaDropout, keras.layers.GaussianDropout),
    *(keras.layers.SpatialDropout1D, keras.layers.SpatialDropout2D, keras.layers.SpatialDropout3D),
)
_LINEAR = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_LINEAR_WITHOUT_WEIGHTS = (
    *(keras.layers.InputLayer, keras.layers.Flatten, keras.layers.Reshape, keras.layers.Rescaling),
    *(keras.layers.Normalization, keras.layers.AveragePooling2D, keras.layers.ZeroPadding2D),
    *(keras.layers.GlobalAveragePooling2D, *_DROPOUTS),
)


def check_weights(model: keras.Model) -> list[Finding]:
    """What the weights say before anything passes through them."""
    weights = layer_weights(model, [])
    trained = {path: layer.variables for path, layer in weights.items() if not layer.frozen}
    return [
        *_frozen(weights, trained),
        *_float16(model),
        *(() if _clips(model) else _unbounded_recurrence(model)),
        *_one_sided(trained),
        *_drops_nearly_all(model),
        *_is_linear(model),
    ]


def share_frozen(model: keras.Model) -> float:
    """The share of a model's weights that are frozen."""
    weights = layer_weights(model, []).values()
    count = sum(_size(v) for layer in weights for v in layer.variables)
    return sum(_size(v) for layer in weights if layer.frozen for v in layer.variables) / (
        count or 1
    )


def _size(variable):
    return int(np.prod(variable.shape))


def _frozen(weights, trained):
    if weights and not trained:
        count = sum(_size(v) for layer in weights.values() for v in layer.variables)
        yield Finding(
            "network",
            None,
            f"all layers are frozen: none of {count:,} weights is trained",
            "the weights stay what they are, whatever the loss is",
            "layer.trainable = True for those to train, before compile; look at the names of the "
            "layers in model.summary()",
        )


def _one_sided(trained):
    """Kernels without a negative value, as from a uniform distribution from 0 to 1."""
    found = {}
    for path, variables in trained.items():
        for variable in variables:
            inputs = int(np.prod(variable.shape[:-1]))
            if len(variable.shape) < 2 or inputs < FEWEST_INPUTS or variable.constraint is not None:
                continue
            values = keras.ops.convert_to_numpy(variable)
            if values.min() >= 0 and inputs * values.mean() >= ONE_SIDED and values.std() > 0:
                found[path] = inputs * values.mean()
    if found:
        path = next(iter(found))
        yield Finding(
            "network",
            path,
            f"none of its initial weights is negative{_and_others([*found])}",
            f"nothing cancels: each unit gives {found[path]:.0f} times the mean of its inputs, and "
            "all units of a layer give nearly the same",
            "weights around 0, such as Keras' default glorot_uniform",
        )


def _float16(model):
    half = [p for p, layer in layer_paths(model).items() if layer.compute_dtype == "float16"]
    if half and model.compiled and unscaled(model.optimizer) is model.optimizer:
        yield Finding(
            "network",
            half[0],
            f"it computes in float16{_and_others(half)}, and the loss is not scaled",
            "gradients below 6e-8, the smallest float16, become 0 (Micikevicius et al. 2018)",
            "the policy mixed_float16 with keras.optimizers.LossScaleOptimizer, or bfloat16",
        )


def _drops_nearly_all(model):
    for path, layer in layer_paths(model).items():
        rate = getattr(layer, "rate", None) if isinstance(layer, _DROPOUTS) else None
        if rate is not None and rate >= DROPPED:
            yield Finding(
                "network",
                path,
                f"it drops {rate:.0%} of the values",
                "hardly anything of an example reaches the next layer in training",
                "rate=0.5 or less; the rate is the share that is dropped, not kept",
            )


def _is_linear(model):
    """A model of several layers with weights and no activation before the last one."""
    layers = [layer for layer in model._flatten_layers(include_self=False) if not layer._layers]
    weighted = [layer for layer in layers if isinstance(layer, _LINEAR)]
    known = all(isinstance(layer, _LINEAR + _LINEAR_WITHOUT_WEIGHTS) for layer in layers)
    sequential = isinstance(model, keras.Sequential)
    if not (sequential and known and len(weighted) > 1 and layers[-1] in weighted):
        return
    if all(layer.activation is keras.activations.linear for layer in weighted[:-1]):
        widths = [layer.kernel.shape[-1] for layer in weighted]
        if min(widths[:-1]) < widths[-1]:  # A bottleneck, as in a factorization.
            return
        yield Finding(
            "network",
            None,
            f"no layer before the last has an activation: {len(weighted)} layers in a row are "
            "linear",
            "together they compute what a single layer could, so the model can learn no more "
            "than a linear one",
            "an activation such as relu in every layer before the last",
        )


def _clips(model):
    """Whether the optimizer clips gradients, which keeps a recurrent layer from exploding."""
    optimizer = unscaled(model.optimizer) if model.compiled else None
    names = "clipnorm", "global_clipnorm", "clipvalue"
    return any(getattr(optimizer, name, None) for name in names)


def _unbounded_recurrence(model):
    for path, layer in layer_paths(model).items():
        for cell in _cells(layer):
            activation = getattr(cell, "activation", None)
            if activation is None or _identity(cell):
                continue
            if float(activation(keras.ops.convert_to_tensor([[1000.0]]))[0, 0]) > UNBOUNDED:
                yield Finding(
                    "network",
                    path,
                    f"its activation, {activation.__name__}, has no upper bound, in a recurrent "
                    "layer",
                    "the state is passed from step to step and can grow with each of them, and "
                    "the gradient with it",
                    "activation='tanh', the default",
                )


def _cells(layer):
    if isinstance(layer, keras.layers.Bidirectional):
        return [*_cells(layer.forward_layer), *_cells(layer.backward_layer)]
    cell = getattr(layer, "cell", None) if isinstance(layer, keras.layers.RNN) else None
    return getattr(cell, "cells", [cell] if cell is not None else [])


def _identity(cell):
    """Whether a state is passed on as it is: ReLUs are made for that (Le et al. 2015)."""
    kernel = getattr(cell, "recurrent_kernel", None)
    square = kernel is not None and kernel.shape[0] == kernel.shape[1]
    return square and np.array_equal(keras.ops.convert_to_numpy(kernel), np.eye(kernel.shape[0]))


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
            + _and_others([path for path, _ in alike]),
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
                f"no gradient comes back through {operation}{_and_others(paths[::-1])}",
                f"{operation} has no derivative, so what is before it is never trained",
                "an operation with a gradient (softmax for argmax), or trainable=False if it is "
                "meant",
            )
        else:
            yield Finding(
                "network",
                paths[0],
                f"it gets no gradient{_and_others(paths)}: the loss does not use its output",
                "its weights stay what they are",
                "use its output, leave the layer out, or set trainable=False",
            )


def _zero(model, steps, steps_later):
    zero = _zero_paths(steps)
    if not zero:
        return
    later = _zero_paths(steps_later(NUDGES))
    zero = [path for path in zero if path in later]
    variables = {path: layer.variables for path, layer in layer_weights(model, []).items()}
    zeros = [
        path
        for path in zero
        if all(not np.any(keras.ops.convert_to_numpy(v)) for v in variables[path])
    ]
    dead = [path for path, signal in steps.signals.items() if signal.scale == 0]
    if zeros:
        yield Finding(
            "network",
            zeros[0],
            f"all weights are 0{_and_others(zeros)}, and so is their gradient",
            "behind weights of 0 all units are 0, so nothing tells them apart and none is trained",
            "a random initializer, such as Keras' default glorot_uniform",
        )
    elif zero and dead:
        yield Finding(
            "network",
            dead[0],
            f"it gives 0 for all examples{_and_others(dead)}: its units are dead",
            "where a ReLU gives 0 no gradient passes, so nothing before it is ever trained",
            "initial weights and biases around 0, inputs of unit scale, or leaky_relu",
        )
    elif zero:
        yield Finding(
            "network",
            zero[0],
            f"its gradient is exactly 0 in all {len(steps.losses)} batches{_and_others(zero)}",
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
    others = [layer for layer in layers if not isinstance(layer, _LINEAR_WITHOUT_WEIGHTS + _LINEAR)]
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


def _and_others(paths):
    others = list(dict.fromkeys(paths))[1:]
    if not others:
        return ""
    more = f" and {len(others) - 3} more" if others[3:] else ""
    return f" (the same in {', '.join(others[:3])}{more})"
