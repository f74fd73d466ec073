"""Checks of the layers before anything passes through them: what is frozen, linear or one-sided."""

import keras
import numpy as np

from mnist_vg.checks.findings import Finding, and_others
from mnist_vg.keras_models.layer_names import layer_paths
from mnist_vg.keras_models.layers import layer_weights
from mnist_vg.keras_models.optimizers import unscaled

UNBOUNDED = 100.0
"""An activation that gives more than this at 1,000 has no upper bound. A cell passes its output on
from step to step, and Keras' default is tanh (Hochreiter and Schmidhuber 1997 need one, too)."""

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
LINEAR = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
LINEAR_WITHOUT_WEIGHTS = (
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
            f"none of its initial weights is negative{and_others([*found])}",
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
            f"it computes in float16{and_others(half)}, and the loss is not scaled",
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
    weighted = [layer for layer in layers if isinstance(layer, LINEAR)]
    known = all(isinstance(layer, LINEAR + LINEAR_WITHOUT_WEIGHTS) for layer in layers)
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
