"""`Ring`: rows of numbers that leave a compiled step."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf


class Ring:
    """The newest rows that a compiled step has written, in a small variable.

    A variable works everywhere. A callback into Python does not work inside a function
    that XLA compiles.

    Args:
        slots: how many rows it holds.
    """

    def __init__(self, slots: int):
        self._slots = slots
        self._rows = None
        self._written = counter()
        self._taken = 0

    def append(self, row: tf.Tensor) -> None:
        """Write a row, float64 `[width]`, the same width every time; eagerly or in a graph."""
        if self._rows is None:
            self._rows = plain_variable(np.zeros([self._slots, row.shape[0]]))
        # The counter must wait for the row: when data of unknown length end, TensorFlow
        # still runs every operation that needs no data.
        with tf.control_dependencies([row]):
            slot = self._written % self._slots
            self._rows.scatter_update(tf.IndexedSlices(row[tf.newaxis], [slot]))
            self._written.assign_add(1)

    def add(self, column: int, number: tf.Tensor) -> None:
        """Add to one number of the newest row; eagerly or in a graph."""
        slot = (self._written - 1) % self._slots
        self._rows.scatter_nd_add([[slot, column]], [number])

    def skip(self) -> None:
        """Leave out the rows that are there now."""
        self._taken = int(self._written.numpy())

    def take(self) -> list[np.ndarray]:
        """The rows since the last call; of more than there are slots, the newest."""
        first = self._taken
        self.skip()
        new = range(max(first, self._taken - self._slots), self._taken)
        return [self._rows[row % self._slots].numpy() for row in new]


def counter() -> tf.Variable:
    """A variable that counts from 0."""
    # 64 bits, like Keras' own: TensorFlow keeps int32 in host memory, which XLA on a GPU cannot
    # reach.
    return plain_variable(np.int64(0))


def plain_variable(value) -> tf.Variable:
    """A variable outside any strategy, which may also be made while a function is traced.

    It is made in another thread, where no function is traced and no strategy is in force.
    """
    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(tf.Variable, value, trainable=False).result()
