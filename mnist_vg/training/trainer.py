"""`Trainer`: the compiled block of steps."""

import contextlib
import functools
from collections.abc import Iterator
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from mnist_vg.datasets import Split
from mnist_vg.keras_models.layers import activation_range
from mnist_vg.keras_models.taps import tapped
from mnist_vg.model import Model
from mnist_vg.recording.measures import (
    layer_measures,
    measure_each,
    norm,
    rms,
    signal_measures,
    unit_shares,
)
from mnist_vg.runs.tags import BACKPROPAGATED, UPDATE_RATIO
from mnist_vg.scenarios.scenario import MIXING_OPTIMIZERS
from mnist_vg.training.batches import batch_indices
from mnist_vg.training.objective import loss_and_accuracy, scaled_inputs
from mnist_vg.training.packing import Packing

BLOCK_STEPS = 256
"""Most steps in one call of the compiled function, whose indices have a fixed shape."""


TINY = 2**8
"""A full record holds all values of a kernel with at most this many weights."""

EVALUATION_BATCH = 10_000
"""Examples that are scored at once: all of MNIST's test split, and no more memory than that."""


class Block(NamedTuple):
    """What a block of steps reports of its last step.

    Attributes:
        step: the block's last step.
        loss: of that step's batch.
        accuracy: of that step's batch.
        tables: if a record is due, names of layers with their measures, name to array: of
            the gradients that were applied at `step`, and, in a full record, of the hidden
            layers' signals. Otherwise None.
        kernels: in a full record, each kernel of at most `TINY` weights, at `step`.
    """

    step: int
    loss: float
    accuracy: float
    tables: list[tuple[list[str], dict]] | None
    kernels: dict[str, np.ndarray]


def _where(due, measured, otherwise):
    """A branch in the program, or none if it is known while tracing which way it goes."""
    if isinstance(due, bool):
        return measured() if due else otherwise()
    return tf.cond(due, measured, otherwise)


class Trainer:
    """A model in training: its optimizer, its examples and the steps done.

    Up to `BLOCK_STEPS` steps are one call of one XLA-compiled function. `tf.summary` does
    not work inside it, so it computes the measures and returns them.

    Args:
        model: the network; its variables are updated in place after each block.
        optimizer: a Keras optimizer, not built yet.
        examples: the training split.
        batch_size: examples per step.
        seed: decides the order of the examples.
        partial_batches: see `batch_indices`.
        full: whether to take full records.
    """

    _networks: tuple[int, ...] = ()
    """Shape of what a network has one of; `(replicas,)` in `GroupTrainer`."""
    _evaluation_batch = EVALUATION_BATCH
    jit_compile = True
    """Whether XLA compiles the block."""

    def __init__(
        self,
        model: Model,
        optimizer: keras.optimizers.Optimizer,
        examples: Split,
        batch_size: int,
        seed: int,
        *,
        partial_batches: bool = False,
        full: bool = False,
    ):
        self.model = model
        self.optimizer = optimizer
        self.steps_done = 0
        self._batch_size = batch_size
        self._partial = partial_batches
        self._full = full
        self._seed = seed
        self._inputs = tf.constant(examples.inputs)
        self._labels = tf.constant(examples.labels)
        variables = model.trainable_variables
        kernels = [layer.kernel for layer in model.dense_layers]
        self._packing = self._pack(variables, kernels[0])
        optimizer.build(self._packing.variables)
        position = {id(variable): i for i, variable in enumerate(variables)}
        self._kernel_positions = [position[id(kernel)] for kernel in kernels]
        self._names = model.layer_names
        self._trace()

    def _pack(self, variables, first_kernel):
        elementwise = type(self.optimizer).__name__.lower() not in MIXING_OPTIMIZERS
        return Packing(variables, first_kernel, elementwise)

    def restart(self, model: Model, optimizer: keras.optimizers.Optimizer, seed: int) -> None:
        """Begin again, bit for bit as a new trainer would, without compiling anything.

        Args:
            model: gives the initial values; of the same structure.
            optimizer: not built yet; its settings are the same but for the learning rate.
            seed: decides the order of the examples.
        """
        self.model.set_weights(model.get_weights())
        self._begin(optimizer, seed)

    def _begin(self, optimizer, seed):
        """Begin again from the model's present values, with the state of a fresh optimizer."""
        self._packing.load()
        optimizer.build(self._packing.variables)
        for variable, fresh in zip(self.optimizer.variables, optimizer.variables, strict=True):
            variable.assign(fresh)
        self._seed = seed
        self.steps_done = 0

    def _trace(self):
        # Traced explicitly: TensorFlow would warn that each trainer traces the function again.
        def some(tensor):
            return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)

        self._batch_sizes = [self._batch_size]
        left = len(self._labels) % self._batch_size
        if self._partial and left:
            self._batch_sizes.append(left)
        self._measures = {size: self._traced_measures(size) for size in self._batch_sizes}
        score = tf.function(self._score, autograph=False)
        self._traced_score = score.get_concrete_function(some(self._inputs), some(self._labels))

    @functools.cached_property
    def _compiled_block(self):
        return self._traced_block(self._block, tf.TensorSpec([], tf.bool))

    def _traced_block(self, block, *record):
        traced = tf.function(block, jit_compile=self.jit_compile, autograph=False)
        return traced.get_concrete_function(
            tf.TensorSpec.from_tensor(self._inputs),
            tf.TensorSpec.from_tensor(self._labels),
            tf.TensorSpec([BLOCK_STEPS, self._batch_size], tf.int32),
            tf.TensorSpec([BLOCK_STEPS], tf.bool),
            tf.TensorSpec([], tf.int32),
            *record,
        )

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Within the context, all processes that train this model take part."""
        yield

    def compile(self) -> None:
        """Compile the block, by running it for zero steps."""
        self._run(0, -1, record=False)

    def advance(self, steps: int, record: bool) -> Block:
        """Train `steps` more (1 to `BLOCK_STEPS`); with `record`, measure the last one."""
        last = self.steps_done + steps - 1
        loss, accuracy, measured = self._run(self.steps_done, last, record)
        self.steps_done += steps
        tables, kernels = self._tables(measured) if record else (None, {})
        return Block(last, loss.numpy().tolist(), accuracy.numpy().tolist(), tables, kernels)

    def probability(self, inputs: np.ndarray) -> np.ndarray:
        """Probability of the second of two classes, `[examples]`."""
        logits = self.model(scaled_inputs(tf.constant(inputs)), training=False)
        if logits.shape[-1] == 1:
            return tf.sigmoid(logits)[:, 0].numpy()
        return tf.nn.softmax(logits)[:, 1].numpy()

    def weights(self) -> tuple[list[tuple[list[str], dict]], dict[str, np.ndarray]]:
        """What a full record holds of the present weights: tables, and the small kernels."""
        kernels = [layer.kernel.value for layer in self.model.dense_layers]
        measured = layer_measures(kernels, kernels, full=True)
        measured = {key: part for key, part in measured.items() if key.startswith("weight")}
        return self._tables({"layers": measured, "kernels": self._tiny(kernels)})

    def _tiny(self, kernels):
        named = zip(self._names, kernels, strict=True)
        return {name: kernel for name, kernel in named if kernel.shape.num_elements() <= TINY}

    def _tables(self, measured):
        """What a record holds: the tables, and the small kernels."""
        measured = tf.nest.map_structure(lambda part: part.numpy(), measured)
        tables = [(self._names, measured["layers"])]
        if "signals" in measured:
            tables.append((self._names[:-1], measured["signals"]))
        return tables, measured.get("kernels", {})

    def evaluate(self, examples: Split) -> tuple[float, float]:
        """Mean loss and accuracy over a whole split."""
        scores, sizes = [], []
        for start in range(0, len(examples.labels), self._evaluation_batch):
            batch = slice(start, start + self._evaluation_batch)
            score = self._traced_score(
                tf.constant(examples.inputs[batch]), tf.constant(examples.labels[batch])
            )
            scores.append([value.numpy().astype(float) for value in score])
            sizes.append(len(examples.labels[batch]))
        loss, accuracy = np.average(scores, axis=0, weights=sizes)
        return loss.tolist(), accuracy.tolist()

    def _score(self, inputs, labels):
        return self._judge(self.model(scaled_inputs(inputs), training=False), labels)

    def _judge(self, logits, labels):
        return loss_and_accuracy(logits, labels)

    def _run(self, first, last, record):
        steps = last - first + 1
        indices = np.zeros((BLOCK_STEPS, self._batch_size), np.int32)
        indices[:steps] = batch_indices(
            self._seed, len(self._labels), self._batch_size, first, last, self._partial
        )
        steps_of_epoch = -(-len(self._labels) // self._batch_size)
        ends_epoch = (first + np.arange(BLOCK_STEPS) + 1) % steps_of_epoch == 0
        batches = tf.constant(indices), tf.constant(ends_epoch), tf.constant(steps)
        return self._call_block(record, self._inputs, self._labels, *batches)

    def _call_block(self, record, *arguments):
        return self._compiled_block(*arguments, tf.constant(record))

    def _block(self, inputs, labels, indices, ends_epoch, steps, record):
        """Train `steps` steps in one compiled loop; with `record`, measure the last one.

        Every step runs through the same loop body, whether it is measured or not. So the
        numbers do not depend on where a block begins and ends.

        If `record` is a bool and not a tensor, it holds for all steps.
        """
        self._packing.load()

        def body(i, loss, accuracy, measured, update_ratio):
            values = self._packing.unpack()
            due = record if isinstance(record, bool) else record & (i == steps - 1)

            def step(batch_size):
                batch = indices[i][:batch_size]
                examples = scaled_inputs(tf.gather(inputs, batch)), tf.gather(labels, batch)
                return self._step(values, *examples, due, measured)

            whole, *left = self._batch_sizes
            if left:
                gradients, loss, accuracy, measured = tf.cond(
                    ends_epoch[i], lambda: step(*left), lambda: step(whole)
                )
            else:
                gradients, loss, accuracy, measured = step(whole)
            self._apply(self._packing.pack(gradients))
            update_ratio = _where(due, lambda: self._update_ratio(values), lambda: update_ratio)
            return i + 1, loss, accuracy, measured, update_ratio

        nothing = tf.nest.map_structure(
            lambda spec: tf.zeros(spec.shape, spec.dtype),
            self._measures[self._batch_size].structured_outputs,
        )
        one = tf.zeros(self._networks)
        still = tf.zeros([len(self._names) * one.shape.num_elements()])
        _, loss, accuracy, measured, update_ratio = tf.while_loop(
            lambda i, *_: i < steps, body, (0, one, one, nothing, still)
        )
        self._packing.store()
        measured["layers"][UPDATE_RATIO] = update_ratio
        return loss, accuracy, measured

    def _apply(self, gradients):
        """Update the packed variables."""
        self.optimizer.apply(gradients, self._packing.variables)

    def _update_ratio(self, before):
        """Norm of each layer's update over the norm of its weights, `[layers]`."""
        after = self._packing.unpack()
        weights = [before[k] for k in self._kernel_positions]
        moved = [after[k] - before[k] for k in self._kernel_positions]
        norms = measure_each(norm, [*moved, *weights], stacked=bool(self._networks))
        return tf.divide(*tf.split(norms, 2))

    def _step(self, values, inputs, labels, due, measured):
        """Gradients, loss and accuracy of a batch, and the measures: new ones if they are due."""
        with tapped(self.model) as taps:
            gradients, loss, accuracy, state, signals = self._backpropagate(
                values, inputs, labels, taps
            )
        for variable, value in zip(self.model.non_trainable_variables, state, strict=True):
            variable.assign(value)
        measured = _where(
            due,
            lambda: self._measures[inputs.shape[0]](values, gradients, self._whole(signals)),
            lambda: measured,
        )
        return gradients, loss, accuracy, measured

    def _backpropagate(self, values, inputs, labels, taps):
        """Gradients, loss, accuracy, values of non-trainable variables, and signals of a batch."""
        with tf.GradientTape(persistent=self._full, watch_accessed_variables=False) as tape:
            tape.watch(values)
            logits, state = self.model.stateless_call(
                self._packing.model_values(values),
                self.model.non_trainable_variables,
                inputs,
                training=True,
            )
            loss, accuracy = self._judge(logits, labels)
        gradients = tape.gradient(loss, values)
        return gradients, loss, accuracy, state, self._signals(tape, loss, logits, taps.pairs)

    def _whole(self, signals):
        """The signals of the whole batch, if `_backpropagate` returns them in parts."""
        return signals

    def _signals(self, tape, loss, logits, taps):
        """The outputs of the activations; in a full record also inputs, slopes and gradients.

        Backpropagation computes all of these anyway. The tape has them, since `tapped` has
        caught the tensors while the step was traced.
        """
        outputs = [outputs for _, outputs in taps]
        if not self._full:
            return [outputs]
        batch_size = float(
            logits.shape[0]
        )  # For the gradient of one example's loss, not of the batch's mean.
        sums = [inputs for inputs, _ in taps]
        slopes = [tape.gradient(outputs, inputs) for inputs, outputs in taps]
        back = [batch_size * g for g in tape.gradient(loss, [*sums, *outputs, logits])]
        return [outputs, sums, slopes, back]

    def _traced_measures(self, batch_size):
        """The measures of a record, traced for one batch size."""
        values = [tf.TensorSpec(value.shape, tf.float32) for value in self._packing.unpack()]
        hidden = [tf.TensorSpec(shape, tf.float32) for shape in self._signal_shapes(batch_size)]
        signals = [hidden]
        if self._full:
            logits = tf.TensorSpec([batch_size, self.model.output_shape[-1]], tf.float32)
            signals = [hidden, hidden, hidden, [*hidden, *hidden, logits]]
        traced = tf.function(self._measure, autograph=False)
        return traced.get_concrete_function(values, values, signals)

    def _signal_shapes(self, batch_size):
        return [(batch_size, *layer.output.shape[1:]) for layer in self.model.activation_layers]

    def _measure(self, values, gradients, signals):
        kernel_gradients = [gradients[k] for k in self._kernel_positions]
        clipnorm = self.optimizer.global_clipnorm
        clipped = None
        if self._full and clipnorm:
            clipped = tf.clip_by_global_norm(gradients, clipnorm)[0]
            clipped = [clipped[k] for k in self._kernel_positions]
        weights = [values[k] for k in self._kernel_positions]
        measured = {"layers": layer_measures(kernel_gradients, weights, clipped, full=self._full)}
        outputs, *more = signals
        ranges = [activation_range(layer) for layer in self.model.activation_layers]
        if ranges and not self._full:
            measured["signals"] = unit_shares(outputs, ranges)
        if self._full:
            inputs, slopes, back = more
            to_inputs, to_outputs = back[: len(inputs)], back[len(inputs) : -1]
            measured["layers"][BACKPROPAGATED] = measure_each(rms, [*to_inputs, back[-1]])
            if ranges:
                measured["signals"] = signal_measures(outputs, ranges, inputs, slopes, to_outputs)
            as_in_model = self._packing.model_values(values)
            measured["kernels"] = self._tiny([as_in_model[k] for k in self._kernel_positions])
        return measured
