"""The optimizers that train a Keras model."""

from collections.abc import Iterator, Sequence

import keras
from keras.optimizers import Optimizer


def has_own_train_step(model: keras.Model) -> bool:
    """Whether a model's `train_step` is not Keras' own."""
    return getattr(model.train_step, "__func__", None) is not keras.Model.train_step


def optimizers_of(model: keras.Model) -> list[Optimizer]:
    """The optimizers that may train a model: the compiled one, then others that it holds.

    Only a `train_step` of the model's own can use others, as a GAN's does.
    """
    found = [model.optimizer]
    if has_own_train_step(model):
        for layer in [model, *model._flatten_layers(include_self=False)]:
            # A model inside that was compiled by itself has an optimizer that is not in use.
            # What begins with `_self_` is TensorFlow's.
            own = {key: value for key, value in vars(layer).items() if not key.startswith("_self_")}
            own.pop("optimizer", None)
            found += _held(own)
    return [*{id(optimizer): optimizer for optimizer in found if optimizer is not None}.values()]


def _held(value) -> Iterator[Optimizer]:
    if isinstance(value, Optimizer):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _held(inner)


def counting_optimizer(optimizers: Sequence[Optimizer]) -> Optimizer | None:
    """Of a model's optimizers the one that counts its steps.

    None if there are several, or one whose own `apply` need not count.
    """
    counting, *others = map(unscaled, optimizers)
    return None if others or overrides_apply(counting) else counting


def steps_done(optimizers: Sequence[Optimizer]) -> int:
    """How many steps a model has been trained, as its optimizers know it.

    With several optimizers, that is the smallest number of updates that one of them has
    done, of those that are in use.
    """
    done = [int(unscaled(optimizer).iterations.numpy()) for optimizer in optimizers]
    return min([count for count in done if count], default=0)


def unscaled(optimizer: Optimizer) -> Optimizer:
    """With loss scaling the inner optimizer, which sees unscaled and finite gradients only."""
    scales = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    return optimizer.inner_optimizer if scales else optimizer


def appliers(optimizer: Optimizer) -> list[Optimizer]:
    """The optimizers that update weights: the parts of a `MultiOptimizer`, or the one itself."""
    inner = unscaled(optimizer)
    # Older versions of Keras 3 have no MultiOptimizer.
    multiple = isinstance(inner, getattr(keras.optimizers, "MultiOptimizer", ()))
    return inner.optimizers if multiple else [inner]


def overrides_apply(optimizer: Optimizer) -> bool:
    """Whether an optimizer's class has an `apply` of its own, which may not call Keras'."""
    return type(optimizer).apply.__module__.split(".")[0] != "keras"
