"""Hooks in a Keras training step, which catch the gradients that the optimizer applies.

The hooks replace methods of the model and of its optimizer, some of them private. Each
stands at the one place where what is recorded passes by:

- `Model.compute_loss`: the loss;
- `Layer.call`: the activations;
- `Optimizer._backend_apply_gradients`: the variables;
- `Optimizer._clip_gradients`: the gradients, all together, averaged if they are accumulated
  and unscaled if the loss is scaled, before clipping and before the weights change. (`apply`
  would see micro-batches and scaled gradients, `update_step` only clipped ones.)
- `Optimizer.update_step`: how far the weights move.

The measures leave the compiled step through a small variable, one row per record, which is
read after the call. A variable works everywhere; a callback into Python does not work
inside a function that XLA compiles.
"""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from mnist_vg.errors import UsageError
from mnist_vg.recording.layers import activation_range, activations
from mnist_vg.recording.probe import Probe
from mnist_vg.recording.taps import replaced


class Caught(NamedTuple):
    """One record as it leaves the training step.

    Attributes:
        step: the optimizer update, counted from 0.
        loss: of the batch; None if the model's `train_step` does not call `compute_loss`.
        moved: norm of each layer's update, `[layers]`.
        measured: what `Probe.tables` takes.
    """

    step: int
    loss: float | None
    moved: np.ndarray
    measured: np.ndarray


class KerasHooks:
    """Measures the steps of a model that are due, inside its training function.

    The hooks are in place only while a training function runs that was made for them, so
    that nothing is left behind if it raises. Other calls run the model's own function, at
    its own speed. (Keras calls an *execution* what one call of the training function does:
    `steps_per_execution` steps.)

    Args:
        model: compiled.
        probe: takes the measures; a full one also those of activations and updates.
        every: steps between two records; None records only the step after `arm`.
    """

    def __init__(self, model: keras.Model, probe: Probe, every: int | None):
        self._model, self._probe, self._every = model, probe, every
        self._outer = model.optimizer
        # With loss scaling, the inner optimizer sees unscaled gradients, and only finite ones.
        self._optimizer = getattr(self._outer, "inner_optimizer", self._outer)
        self._scaled = self._optimizer is not self._outer
        # Updates per execution, as far as is known.
        self._updates = model.steps_per_execution
        one = self._updates == 1 and type(model).train_step is keras.Model.train_step
        # Whether an execution is certain to be one update. Then the measures need no branch
        # in the program. (Inside a branch, XLA on a CPU uses one core.)
        self._certain = one and not self._scaled
        # A custom train_step may update more than once.
        self._slots = (2 if one else 64) + self._updates // (every or self._updates)
        self._ring = None
        self._records, self._skipped = _counter(), _counter()
        self._armed = _plain_variable(False)
        self.applied = False
        """Whether the optimizer has applied gradients while the hooks were in place."""
        self._forget()
        self.begin()

    def begin(self) -> None:
        """Begin an epoch: take up what other code has done, or what a failed fit has left."""
        self._steps = self.steps
        self._drained = int(self._records.numpy())
        self.waiting = False

    @property
    def steps(self) -> int:
        """How many updates the optimizer has done."""
        return int(self._optimizer.iterations.numpy())

    def take_skipped(self) -> int:
        """How many steps loss scaling skipped since the last call, as gradients overflowed."""
        skipped = int(self._skipped.numpy()) if self._scaled else 0
        if skipped:
            self._skipped.assign(0)
        return skipped

    def arm(self) -> None:
        """Record the next step."""
        self._armed.assign(True)
        self.waiting = True

    def may_be_due(self) -> bool:
        """Whether the next execution may hold a step to record, or a skipped one to count.

        If so, it has to run inside `hooks`.
        """
        if self._every is None:
            return self.waiting or self._scaled
        return -self._steps % self._every < self._updates or self._scaled

    def executed(self, hooked: bool) -> list[Caught]:
        """Note that an execution is done, and return the records that it made."""
        if self._certain and not self._optimizer.gradient_accumulation_steps:
            self._steps += 1  # Reading it would take 2% of a small network's step.
        else:
            before, self._steps = self._steps, self.steps
            self._updates = max(self._updates, self._steps - before)
        return self._drain() if hooked else []

    def _drain(self):
        records = int(self._records.numpy())
        new = range(self._drained, records)
        if len(new) > self._slots:
            raise UsageError(
                f"model: its train_step made {len(new)} records in one execution, where "
                f"{self._slots} find room; record less often with every"
            )
        rows = [self._ring[record % self._slots].numpy() for record in new]
        self._drained = records
        self.waiting = self.waiting and not rows
        return [
            Caught(
                step=int(row[0]),
                loss=float(row[1]) if self._loss_seen else None,
                moved=np.sqrt(row[2 : 2 + self._layers]),
                measured=row[2 + self._layers :],
            )
            for row in rows
        ]

    @contextlib.contextmanager
    def hooks(self) -> Iterator[None]:
        """Within the context, catch what the optimizer applies."""
        self._forget()
        self._activations = (
            activations(self._model, self._probe.pattern) if self._probe.full else {}
        )
        with contextlib.ExitStack() as stack:

            def hook(owner, name, wrapper):
                original = getattr(owner, name)
                stack.enter_context(replaced(owner, name, wrapper(original)))

            hook(self._model, "compute_loss", self._see_loss)
            hook(self._optimizer, "_backend_apply_gradients", self._see_variables)
            hook(self._optimizer, "_clip_gradients", self._see_gradients)
            if self._scaled:
                hook(self._outer, "_stateful_handle_non_finite_grads", self._see_skip)
            if self._probe.full:
                hook(self._optimizer, "update_step", self._see_update)
                for path, layer in self._activations.items():
                    hook(layer, "call", self._see_output(path))
            yield

    def _forget(self):
        # A tf.distribute strategy traces each replica in a thread of its own.
        self._seen = threading.local()
        self._columns: dict[int, int] = {}

    def _see_loss(self, original):
        def compute_loss(*arguments, **options):
            loss = original(*arguments, **options)
            # With `reduction=None` it is one number per example.
            self._seen.loss = tf.reduce_mean(loss) if len(loss.shape) else loss
            return loss

        return compute_loss

    def _see_output(self, path):
        def wrapper(original):
            def call(*arguments, **options):
                output = original(*arguments, **options)
                outputs = vars(self._seen).setdefault("outputs", {})
                outputs.setdefault(path, []).append(keras.tree.flatten(output)[0])
                return output

            return call

        return wrapper

    def _see_variables(self, original):
        def apply_gradients(gradients, variables):
            self.applied = True
            self._seen.variables = variables
            return original(gradients, variables)

        return apply_gradients

    def _see_skip(self, original):
        def skip():
            self.applied = True
            self._skipped.assign_add(1)
            return original()

        return skip

    def _see_gradients(self, original):
        def clip(gradients):
            clipped = original(gradients)
            seen = vars(self._seen)
            self._catch(gradients, clipped, **seen)
            seen.clear()
            return clipped

        return clip

    def _catch(self, gradients, clipped, variables, loss=None, outputs=None):
        self._loss_seen = loss is not None and _reachable(loss)
        loss = loss if self._loss_seen else tf.constant(0.0)
        clipped = clipped if self._probe.full and clipped is not gradients else []
        replica = tf.distribute.get_replica_context()
        if replica is not None and replica.num_replicas_in_sync > 1:
            # Before the branch of a due step: TensorFlow allows no reduction inside it.
            dense = [tf.convert_to_tensor(gradient) for gradient in [*gradients, *clipped]]
            *dense, loss = replica.all_reduce(tf.distribute.ReduceOp.SUM, [*dense, loss])
            gradients, clipped = dense[: len(gradients)], dense[len(gradients) :]
            if tf.get_static_value(replica.replica_id_in_sync_group) != 0:
                return
        groups = list(self._probe.group(variables).values())
        self._layers = len(groups)
        self._columns = {
            self._optimizer._get_variable_index(variables[position]): column
            for column, group in enumerate(groups)
            for position in group
        }
        step = tf.convert_to_tensor(self._optimizer.iterations)
        self._due = self._armed.read_value() if self._every is None else step % self._every == 0

        def measure():
            measured = self._probe.measure(
                gradients, variables, clipped, self._activation_inputs(outputs or {})
            )
            head = [tf.cast(step, tf.float64), tf.cast(loss, tf.float64)]
            row = tf.concat([head, tf.zeros([self._layers], tf.float64), measured], axis=0)
            self._make_ring(row.shape[0])
            # The counter must wait for the row: when data of unknown length end, TensorFlow
            # still runs every operation that needs no data.
            with tf.control_dependencies([row]):
                slot = self._records % self._slots
                self._ring.scatter_update(tf.IndexedSlices(row[tf.newaxis], [slot]))
                self._records.assign_add(1)
                self._armed.assign(False)

        self._where_due(measure, lambda: None)

    def _where_due(self, branch, otherwise):
        return branch() if self._certain else tf.cond(self._due, branch, otherwise)

    def _make_ring(self, width):
        if self._ring is None:
            self._ring = _plain_variable(np.zeros([self._slots, width]))

    def _activation_inputs(self, outputs):
        measurable = {
            path: [call for call in outputs.get(path, []) if _has_units(call) and _reachable(call)]
            for path in self._activations
        }
        return {
            path: (calls, activation_range(self._activations[path]))
            for path, calls in measurable.items()
            if calls
        }

    def _see_update(self, original):
        def update(gradient, variable, learning_rate):
            # Every replica makes the same update, so the first one is enough.
            column = self._columns.pop(self._optimizer._get_variable_index(variable), None)
            if column is None:
                return original(gradient, variable, learning_rate)

            def measured():
                before = tf.identity(variable)
                original(gradient, variable, learning_rate)
                square = tf.reduce_sum(tf.square(tf.cast(variable - before, tf.float64)))
                slot = (self._records - 1) % self._slots
                self._ring.scatter_nd_add([[slot, 2 + column]], [square])

            return self._where_due(measured, lambda: original(gradient, variable, learning_rate))

        return update


def _counter():
    # 64 bits, like Keras' own: TensorFlow keeps int32 in host memory, which XLA on a GPU cannot
    # reach.
    return _plain_variable(np.int64(0))


def _plain_variable(value):
    """A variable outside any strategy, which may also be made while a function is traced.

    It is made in another thread, where no function is traced and no strategy is in force.
    """
    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(tf.Variable, value, trainable=False).result()


def _has_units(tensor):
    return (tensor.shape.rank or 0) > 1 and tensor.shape[-1] is not None


def _reachable(tensor):
    """Whether the code that runs now can use a tensor: the traced function, or the eager loop."""
    if not tf.is_symbolic_tensor(tensor):
        return True
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        if tensor.graph is graph:
            return True
        graph = getattr(graph, "outer_graph", None)
    return False
