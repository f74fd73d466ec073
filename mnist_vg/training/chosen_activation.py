"""`ChosenActivation`: one of several activations, chosen by a number that a program is given."""

from collections.abc import Callable, Sequence

import tensorflow as tf

from mnist_vg.keras_models.layers import range_of


class ChosenActivation:
    """Applies the chosen one of several activations, so that one compiled program has them all.

    The others do not run: the choice is a branch in the program, and XLA fuses nothing across it.
    So no number depends on what the others are (`tests/test_chosen_activation.py`).

    Args:
        activations: functions from and to float `[batch, units]`.
    """

    def __init__(self, activations: Sequence[Callable]):
        self._activations = list(activations)
        self._chosen = tf.Variable(0, trainable=False)

    def choose(self, activation: Callable) -> None:
        """Apply this one from now on.

        Raises:
            ValueError: it is not one of the activations.
        """
        self._chosen.assign(self._activations.index(activation))

    def __call__(self, values):
        """The activations of `values`, in their shape."""
        return self._switch([lambda f=f: f(values) for f in self._activations])

    @property
    def range(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The ends of the chosen one's range as `activation_range` gives them; NaN for None."""
        ranges = [range_of(f) or (float("nan"),) * 2 for f in self._activations]
        return self._switch([lambda r=r: tuple(map(tf.constant, r)) for r in ranges])

    def _switch(self, branches):
        return tf.switch_case(tf.convert_to_tensor(self._chosen), branches)
