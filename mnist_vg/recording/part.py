"""`Part`: what is caught of one optimizer in a training step of Keras."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np

from mnist_vg.recording.probe import Probe
from mnist_vg.recording.ring import Ring


class Caught(NamedTuple):
    """One record as it leaves the training step.

    Attributes:
        step: the update of the weights, counted from 0.
        loss: of the batch; None if the model's `train_step` does not call `compute_loss`.
        tables: what `RunWriter.record` takes.
    """

    step: int
    loss: float | None
    tables: Sequence


class Part:
    """What is caught of one optimizer.

    Attributes:
        optimizer: it updates weights.
        probe: takes the measures.
        ring: rows of step, loss, squared norm of each layer's update, and measures.
        layers: how many layers it measures.
        columns: of the squared norms, by the optimizer's index of a variable.
        where_due: runs one of two branches: at a due step the first, else the second.
        loss_seen: whether the rows hold a loss.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, probe: Probe, slots: int):
        self.optimizer, self.probe, self.ring = optimizer, probe, Ring(slots)
        self.layers, self.loss_seen = 0, False
        self.columns: dict[int, int] = {}
        self.where_due: Callable | None = None

    def take(self) -> Iterator[Caught]:
        """The new records."""
        for row in self.ring.take():
            [step, loss], moved, measured = np.split(row, [2, 2 + self.layers])
            moved = np.sqrt(moved) if self.probe.full else None
            tables = self.probe.tables(measured, moved)
            yield Caught(int(step), float(loss) if self.loss_seen else None, tables)
