"""`Part`: what is caught of one optimizer in a training step of Keras."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np

from mnist_vg.recording.probe import Probe
from mnist_vg.recording.ring import Ring
from mnist_vg.recording.yardstick import Yardstick
from mnist_vg.runs.tags import EXAMPLE_WEIGHT, LOSS_TRAIN, NONFINITE_BATCH

HEAD = 2 + len(Yardstick.tags)
"""How many numbers of a row come before those of the layers: the step and its losses."""


class Caught(NamedTuple):
    """One record as it leaves the training step.

    Attributes:
        step: the update of the weights, counted from 0.
        scalars: tag to value: the loss of the batch, and what `Yardstick` measures of it; empty
            if the model's `train_step` does not call `compute_loss`.
        tables: what `RunWriter.record` takes.
    """

    step: int
    scalars: dict[str, float]
    tables: Sequence


class Part:
    """What is caught of one optimizer.

    Attributes:
        optimizer: it updates weights.
        probe: takes the measures.
        ring: rows of step, loss, yardstick, squared norm of each layer's update, and measures.
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
            [step], losses, moved, measured = np.split(row, [1, HEAD, HEAD + self.layers])
            scalars = dict(zip((LOSS_TRAIN, *Yardstick.tags), losses.tolist(), strict=True))
            # Most batches have no value that is not finite, and most charts would be empty.
            for tag in (EXAMPLE_WEIGHT, *NONFINITE_BATCH):
                if not scalars[tag] or math.isnan(scalars[tag]):
                    del scalars[tag]
            tables = self.probe.tables(measured, np.sqrt(moved))
            yield Caught(int(step), scalars if self.loss_seen else {}, tables)
