"""The compiled block of steps, the loop over blocks, checkpoints."""

import contextlib
import functools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from mnist_vg.datasets import Split
from mnist_vg.errors import UsageError
from mnist_vg.measures import layer_measures
from mnist_vg.model import Model
from mnist_vg.packing import Packing
from mnist_vg.scenarios import Scenario

BLOCK_STEPS = 256
"""Steps in one call of the compiled function, at most: its indices have one shape."""

BLOCK_SECONDS = 0.25
"""How long a block may take: Python sees Ctrl-C between blocks only."""


EVALUATION_BATCH = 10_000
"""Examples scored at once: the MNIST test split in one go, larger sets in bounded memory."""


class Block(NamedTuple):
    """What a block of steps tells of its last step, `step`, and of that step's batch."""

    step: int
    loss: float
    accuracy: float
    measures: dict | None
    """`layer_measures` of the gradient applied at `step`, as arrays, where a record is due."""


@functools.lru_cache(maxsize=4)
def _shuffle(seed: int, epoch: int, examples: int) -> np.ndarray:
    # The spawn key keeps this stream apart from the layers' draws of the same seed.
    sequence = np.random.SeedSequence(seed, spawn_key=(epoch,))
    return np.random.default_rng(sequence).permutation(examples).astype(np.int32)


def batch_indices(seed: int, examples: int, batch_size: int, first: int, last: int) -> np.ndarray:
    """Which examples the steps `first` … `last` take, int32 `[steps, batch_size]`.

    Each epoch is a new shuffle without replacement, and epochs are joined: a batch
    at an epoch's end goes on into the next, so all are full and no example is left
    out. A function of its arguments alone: every scenario of one seed sees the same
    batches, and a resumed run those that it would have seen.
    """
    positions = np.arange(first * batch_size, (last + 1) * batch_size)
    epochs, offsets = np.divmod(positions, examples)
    indices = np.empty(len(positions), np.int32)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        indices[here] = _shuffle(seed, int(epoch), examples)[offsets[here]]
    return indices.reshape(-1, batch_size)


def make_optimizer(scenario: Scenario) -> keras.optimizers.Optimizer:
    """The scenario's Keras optimizer, at Keras' own defaults where it is silent."""
    config = {"learning_rate": scenario.learning_rate, "global_clipnorm": scenario.global_clipnorm}
    return keras.optimizers.deserialize(
        {
            "class_name": scenario.optimizer,
            "config": {name: value for name, value in config.items() if value is not None},
        }
    )


def _pixels(images):
    return tf.cast(images, tf.float32) / 255


def _loss_and_accuracy(logits, labels):
    """Mean softmax cross-entropy and share of right answers."""
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    right = tf.argmax(logits, axis=-1, output_type=labels.dtype) == labels
    return tf.reduce_mean(loss), tf.reduce_mean(tf.cast(right, tf.float32))


class Trainer:
    """A model in training: its optimizer, its examples and the steps done.

    Args:
        model: the network; its variables are updated in place, block by block.
        optimizer: a Keras optimizer, not built yet.
        examples: the training split.
        batch_size: examples a step.
        seed: decides the order of the examples.
    """

    def __init__(
        self,
        model: Model,
        optimizer: keras.optimizers.Optimizer,
        examples: Split,
        batch_size: int,
        seed: int,
    ):
        self.model = model
        self.optimizer = optimizer
        self.steps_done = 0
        self._batch_size = batch_size
        self._seed = seed
        self._images = tf.constant(examples.images)
        self._labels = tf.constant(examples.labels)
        variables = model.trainable_variables
        kernels = [layer.kernel for layer in model.dense_layers]
        elementwise = not isinstance(optimizer, (keras.optimizers.Muon, keras.optimizers.Adafactor))
        self._packing = Packing(variables, kernels[0], elementwise)
        optimizer.build(self._packing.variables)
        position = {id(variable): i for i, variable in enumerate(variables)}
        self._kernel_positions = [position[id(kernel)] for kernel in kernels]
        values = self._packing.unpack()
        specs = [tf.TensorSpec(values[i].shape, tf.float32) for i in self._kernel_positions]
        measure = tf.function(lambda *tensors: layer_measures(*tensors), autograph=False)
        self._measure = measure.get_concrete_function(specs, specs)
        self._trace()

    def _trace(self):
        # Traced by hand: TensorFlow would warn of a function that each trainer traces anew.
        def some(tensor):
            return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)

        block = tf.function(self._block, jit_compile=True, autograph=False)
        self._compiled_block = block.get_concrete_function(
            tf.TensorSpec.from_tensor(self._images),
            tf.TensorSpec.from_tensor(self._labels),
            tf.TensorSpec([BLOCK_STEPS, self._batch_size], tf.int32),
            tf.TensorSpec([], tf.int32),
            tf.TensorSpec([], tf.bool),
        )
        score = tf.function(self._score, autograph=False)
        self._traced_score = score.get_concrete_function(some(self._images), some(self._labels))

    def compile(self) -> None:
        """Compile the block, by running it for no step."""
        self._run(self._indices(0, -1), 0, record=False)

    def advance(self, steps: int, record: bool) -> Block:
        """Train `steps` (1 … `BLOCK_STEPS`) more; with `record`, measure the last one."""
        last = self.steps_done + steps - 1
        loss, accuracy, measures = self._run(self._indices(self.steps_done, last), steps, record)
        self.steps_done += steps
        measures = tf.nest.map_structure(lambda part: part.numpy(), measures) if record else None
        return Block(last, float(loss), float(accuracy), measures)

    def evaluate(self, examples: Split) -> tuple[float, float]:
        """Mean loss and accuracy over a whole split, the last partial batch included."""
        scores, sizes = [], []
        for start in range(0, len(examples.labels), EVALUATION_BATCH):
            batch = slice(start, start + EVALUATION_BATCH)
            score = self._traced_score(
                tf.constant(examples.images[batch]), tf.constant(examples.labels[batch])
            )
            scores.append([float(value) for value in score])
            sizes.append(len(examples.labels[batch]))
        loss, accuracy = np.average(scores, axis=0, weights=sizes)
        return float(loss), float(accuracy)

    def _score(self, images, labels):
        return _loss_and_accuracy(self.model(_pixels(images), training=False), labels)

    def _indices(self, first, last):
        indices = np.zeros((BLOCK_STEPS, self._batch_size), np.int32)
        indices[: last - first + 1] = batch_indices(
            self._seed, len(self._labels), self._batch_size, first, last
        )
        return tf.constant(indices)

    def _run(self, indices, steps, record):
        return self._compiled_block(
            self._images, self._labels, indices, tf.constant(steps), tf.constant(record)
        )

    def _block(self, images, labels, indices, steps, record):
        """`steps` steps in one compiled loop.

        Every step runs through the same loop body, whether measured or not, so that
        the numbers do not depend on where a block begins and ends.
        """
        self._packing.load()

        def body(i, loss, accuracy, measures):
            batch_images = _pixels(tf.gather(images, indices[i]))
            batch_labels = tf.gather(labels, indices[i])
            values, gradients, loss, accuracy = self._gradients(batch_images, batch_labels)
            measures = tf.cond(
                record & (i == steps - 1),
                lambda: self._measure(
                    [gradients[k] for k in self._kernel_positions],
                    [values[k] for k in self._kernel_positions],
                ),
                lambda: measures,
            )
            self.optimizer.apply(self._packing.pack(gradients), self._packing.variables)
            return i + 1, loss, accuracy, measures

        nothing = tf.nest.map_structure(
            lambda spec: tf.zeros(spec.shape, spec.dtype), self._measure.structured_outputs
        )
        _, loss, accuracy, measures = tf.while_loop(
            lambda i, *_: i < steps, body, (0, 0.0, 0.0, nothing)
        )
        self._packing.store()
        return loss, accuracy, measures

    def _gradients(self, images, labels):
        values = self._packing.unpack()
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            logits, updates = self.model.stateless_call(
                self._packing.model_values(values),
                self.model.non_trainable_variables,
                images,
                training=True,
            )
            loss, accuracy = _loss_and_accuracy(logits, labels)
        for variable, update in zip(self.model.non_trainable_variables, updates, strict=True):
            variable.assign(update)
        return values, tape.gradient(loss, values), loss, accuracy


def run_blocks(trainer: Trainer, iterations: int, log_every: int) -> Iterator[Block]:
    """Train up to `iterations` steps, yielding block by block.

    A block ends at each step that is to be recorded (0, `log_every`, … and the
    last), and earlier where the network is so slow that it would keep Ctrl-C waiting.
    """
    length = 1
    while trainer.steps_done < iterations:
        record_step = min(-(-trainer.steps_done // log_every) * log_every, iterations - 1)
        due = record_step + 1 - trainer.steps_done
        steps = min(due, length, BLOCK_STEPS)
        start = time.monotonic()
        block = trainer.advance(steps, record=steps == due)
        length = max(1, int(steps * BLOCK_SECONDS / (time.monotonic() - start)))
        yield block


class _Notes(tf.train.experimental.PythonState):
    """Plain values that are saved with the variables, in the same instant."""

    def __init__(self):
        self.values = {}

    def serialize(self):
        return json.dumps(self.values)

    def deserialize(self, string_value):
        self.values = json.loads(string_value)


class Checkpoint:
    """The trainer's state in a folder, written whole or not at all.

    Args:
        folder: holds the newest state; an older one is removed once it stands.
        trainer: what is saved, and what `restore` brings back.
    """

    def __init__(self, folder: Path, trainer: Trainer):
        self._trainer = trainer
        self._notes = _Notes()
        checkpoint = tf.train.Checkpoint(
            model=trainer.model, optimizer=trainer.optimizer, notes=self._notes
        )
        with _damage_reported(folder):
            self._manager = tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=1)

    def save(self, **notes) -> None:
        """Save the state together with `notes`, which JSON can hold."""
        self._notes.values = {"steps_done": self._trainer.steps_done, **notes}
        self._manager.save()

    def restore(self) -> dict | None:
        """Bring the newest state back and return its notes; None where there is none.

        Raises:
            UsageError: it is damaged or of another network.
        """
        newest = self._manager.latest_checkpoint
        # Files without a name in TensorFlow's list are of a first save that was cut short.
        if newest is None:
            return None
        with _damage_reported(Path(self._manager.directory)):
            self._manager.checkpoint.restore(newest).assert_consumed()
            self._trainer.steps_done = self._notes.values["steps_done"]
        return self._notes.values


@contextlib.contextmanager
def _damage_reported(folder):
    try:
        yield
    except (tf.errors.OpError, AssertionError, LookupError, ValueError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise UsageError(
            f"checkpoint: {folder} is damaged ({reason}); train this run anew with "
            "--overwrite, or elsewhere with --logdir"
        ) from error
