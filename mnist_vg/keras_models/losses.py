"""The losses of a compiled model, called apart from it."""

from collections.abc import Callable

import keras
from keras.src.trainers.compile_utils import CompileLoss


class Losses(CompileLoss):
    """A copy of a compiled model's losses. The model's own note each call in its metrics.

    Args:
        model: compiled with a loss, see `has_losses`.
        wrap: makes from each `Loss` entry of Keras (`path`, `loss`, `loss_weight`, `name`) what
            is called in its place: a function of targets, outputs and sample weights.
    """

    def __init__(self, model: keras.Model, wrap: Callable):
        names = getattr(model, "output_names", None)
        super().__init__(model.loss, model._compile_loss._user_loss_weights, output_names=names)
        self._wrap = wrap

    def build(self, y_true, y_pred):
        """Match the losses with targets and outputs, as Keras does, and wrap them."""
        super().build(y_true, y_pred)
        # With several outputs, each loss would be noted in a metric.
        self._metrics = [None] * len(self._flat_losses)
        self._flat_losses = [entry._replace(loss=self._wrap(entry)) for entry in self._flat_losses]


def has_losses(model: keras.Model) -> bool:
    """Whether the model is compiled with a loss."""
    return bool(model.compiled) and model.loss is not None
