"""`Trainer`: the compiled block of steps."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from mnist_vg.datasets import Split
from mnist_vg.keras_models.taps import replaced, tapped
from mnist_vg.model import Model
from mnist_vg.scenarios.scenario import MIXING_OPTIMIZERS
from mnist_vg.training.batches import batch_indices
from mnist_vg.training.chosen_activation import ChosenActivation
from mnist_vg.training.objective import loss_and_accuracy, on_device, scaled_inputs
from mnist_vg.training.packing import Packing
from mnist_vg.training.step_measures import StepMeasures

BLOCK_STEPS = 256
"""Most steps in one call of the compiled function, whose indices have a fixed shape."""


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
        kernels: in a full record, each kernel of at most 256 weights, at `step`.
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
        activations: those that the hidden layers of `model`, and of the models that `restart` is
            given, may have; empty: that of `model` alone. The first is that of `model`.
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
        activations: Sequence[Callable] = (),
    ):
        self.model = model
        self.optimizer = optimizer
        self.steps_done = 0
        self._batch_size = batch_size
        self._partial = partial_batches
        self._full = full
        self._seed = seed
        self.examples = on_device(examples)
        self._packing = self._pack(model.trainable_variables, model.dense_layers[0].kernel)
        optimizer.build(self._packing.variables)
        self._choice = ChosenActivation(activations) if activations else None
        self._scores = {}
        left = len(examples.labels) % batch_size
        self._batch_sizes = [batch_size, *([left] if partial_batches and left else [])]
        self.measures = self._make_measures()

    def _pack(self, variables, first_kernel):
        elementwise = type(self.optimizer).__name__.lower() not in MIXING_OPTIMIZERS
        return Packing(variables, first_kernel, elementwise)

    def restart(self, model: Model, optimizer: keras.optimizers.Optimizer, seed: int) -> None:
        """Begin again, bit for bit as a new trainer would, without compiling anything.

        Args:
            model: gives the initial values and the activation; else of the same structure.
            optimizer: not built yet; its settings are the same but for the learning rate.
            seed: decides the order of the examples.
        """
        self.model.set_weights(model.get_weights())
        if self._choice:
            for layer, given in zip(self.model.hidden_layers, model.hidden_layers, strict=True):
                layer.activation = given.activation
                self._choice.choose(given.activation)
        self._begin(optimizer, seed)

    def _begin(self, optimizer, seed):
        """Begin again from the model's present values, with the state of a fresh optimizer."""
        self._packing.load()
        optimizer.build(self._packing.variables)
        for variable, fresh in zip(self.optimizer.variables, optimizer.variables, strict=True):
            variable.assign(fresh)
        self._seed = seed
        self.steps_done = 0

    def _make_measures(self):
        return StepMeasures(
            self.model,
            self._packing,
            self._batch_sizes,
            clipnorm=self.optimizer.global_clipnorm,
            full=self._full,
            choice=self._choice,
        )

    @functools.cached_property
    def _compiled_block(self):
        return self._traced_block(self._block, tf.TensorSpec([], tf.bool))

    def _traced_block(self, block, *record):
        traced = tf.function(block, jit_compile=self.jit_compile, autograph=False)
        return traced.get_concrete_function(
            tf.TensorSpec.from_tensor(self.examples.inputs),
            tf.TensorSpec.from_tensor(self.examples.labels),
            tf.TensorSpec([BLOCK_STEPS, self._batch_size], tf.int32),
            tf.TensorSpec([BLOCK_STEPS], tf.bool),
            tf.TensorSpec([], tf.int32),
            *record,
        )

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Within the context, all processes that train this model take part."""
        yield

    def trace(self) -> None:
        """Trace the block, which `compile` does otherwise."""
        _ = self._compiled_block

    def compile(self) -> None:
        """Compile the block, by running it for zero steps."""
        self._run(0, -1, record=False)

    def advance(self, steps: int, record: bool) -> Block:
        """Train `steps` more (1 to `BLOCK_STEPS`); with `record`, measure the last one."""
        last = self.steps_done + steps - 1
        loss, accuracy, measured = self._run(self.steps_done, last, record)
        self.steps_done += steps
        tables, kernels = self.measures.tables(measured) if record else (None, {})
        return Block(last, loss.numpy().tolist(), accuracy.numpy().tolist(), tables, kernels)

    def probability(self, inputs: np.ndarray) -> np.ndarray:
        """Probability of the second of two classes, `[examples]`."""
        logits = self.model(scaled_inputs(tf.constant(inputs)), training=False)
        if logits.shape[-1] == 1:
            return tf.sigmoid(logits)[:, 0].numpy()
        return tf.nn.softmax(logits)[:, 1].numpy()

    def evaluate(self, examples: Split) -> tuple[float, float]:
        """Mean loss and accuracy over a whole split."""
        scores, sizes = [], []
        for start in range(0, len(examples.labels), self._evaluation_batch):
            batch = slice(start, start + self._evaluation_batch)
            score = self._traced_score(
                tf.convert_to_tensor(examples.inputs[batch]),
                tf.convert_to_tensor(examples.labels[batch]),
            )
            scores.append([value.numpy().astype(float) for value in score])
            sizes.append(len(examples.labels[batch]))
        loss, accuracy = np.average(scores, axis=0, weights=sizes)
        return loss.tolist(), accuracy.tolist()

    @property
    def _traced_score(self):
        """`_score`, traced once for each activation."""
        hidden = self.model.activation_layers[:1]
        activation = hidden[0].activation if self._choice and hidden else None
        if activation not in self._scores:
            inputs = tf.TensorSpec(self.model.input_shape, self.examples.inputs.dtype)
            labels = tf.TensorSpec([None], self.examples.labels.dtype)
            # Traced explicitly: TensorFlow would warn that each trainer traces the function again.
            score = tf.function(self._score, autograph=False)
            self._scores[activation] = score.get_concrete_function(inputs, labels)
        return self._scores[activation]

    def _score(self, inputs, labels):
        return self._judge(self.model(scaled_inputs(inputs), training=False), labels)

    def _judge(self, logits, labels):
        return loss_and_accuracy(logits, labels)

    def _run(self, first, last, record):
        steps = last - first + 1
        indices = np.zeros((BLOCK_STEPS, self._batch_size), np.int32)
        indices[:steps] = batch_indices(
            self._seed, len(self.examples.labels), self._batch_size, first, last, self._partial
        )
        steps_of_epoch = -(-len(self.examples.labels) // self._batch_size)
        ends_epoch = (first + np.arange(BLOCK_STEPS) + 1) % steps_of_epoch == 0
        batches = tf.constant(indices), tf.constant(ends_epoch), tf.constant(steps)
        return self._call_block(record, self.examples.inputs, self.examples.labels, *batches)

    def _call_block(self, record, *arguments):
        return self._compiled_block(*arguments, tf.constant(record))

    def _block(self, inputs, labels, indices, ends_epoch, steps, record):
        """Train `steps` steps in one compiled loop; with `record`, measure the last one.

        Every step runs through the same loop body, whether it is measured or not. So the
        numbers do not depend on where a block begins and ends.

        If `record` is a bool and not a tensor, it holds for all steps.
        """
        self._packing.load()

        def body(i, loss, accuracy, measured):
            values = self._packing.unpack()
            due = record if isinstance(record, bool) else record & (i == steps - 1)

            def step(batch_size):
                batch = indices[i][:batch_size]
                examples = scaled_inputs(tf.gather(inputs, batch)), tf.gather(labels, batch)
                return self._step(values, *examples, due, measured)

            whole, *left = self._batch_sizes
            if left:
                told = tf.cond(ends_epoch[i], lambda: step(*left), lambda: step(whole))
            else:
                told = step(whole)
            gradients, loss, accuracy, measured = told
            self._apply(self._packing.pack(gradients))
            with_update = self.measures.with_update
            measured = _where(due, lambda: with_update(values, measured), lambda: measured)
            return i + 1, loss, accuracy, measured

        one = tf.zeros(self._networks)
        state = 0, one, one, self.measures.nothing()
        _, *told = tf.while_loop(lambda i, *_: i < steps, body, state)
        self._packing.store()
        return told

    def _apply(self, gradients):
        """Update the packed variables."""
        self.optimizer.apply(gradients, self._packing.variables)

    def _step(self, values, inputs, labels, due, measured):
        """Gradients, loss and accuracy of a batch, and the measures: new ones if they are due."""
        with self._chosen_activation(), tapped(self.model) as taps:
            gradients, loss, accuracy, state, signals = self._backpropagate(
                values, inputs, labels, taps
            )
        for variable, value in zip(self.model.non_trainable_variables, state, strict=True):
            variable.assign(value)

        def measure():
            whole = self._whole(signals)
            return self.measures.of_step(values, gradients, whole, inputs.shape[0], measured)

        return gradients, loss, accuracy, _where(due, measure, lambda: measured)

    @contextlib.contextmanager
    def _chosen_activation(self):
        """Within the context, the model applies the chosen activation, if there are several."""
        with contextlib.ExitStack() as stack:
            for layer in self.model.hidden_layers if self._choice else ():
                stack.enter_context(replaced(layer, "activation", self._choice))
            yield

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
