"""Hooks in a Keras training step, which catch the gradients that the optimizer applies.

The hooks replace methods of the model and of its optimizers, some of them private. Each
stands at the one place where what is recorded passes by:

- `Model.compute_loss`: the loss, with targets and outputs;
- `Layer.call`: the activations, and the gradients that come back to recurrent layers' inputs;
- `Optimizer._backend_apply_gradients`: the variables;
- `Optimizer._clip_gradients`: the gradients, all together, averaged if they are accumulated
  and unscaled if the loss is scaled, before clipping and before the weights change. (`apply`
  would see micro-batches and scaled gradients, `update_step` only clipped ones.)
- `Optimizer.apply`, of a class that has its own and does not call Keras';
- `Optimizer.update_step`: how far the weights move;
- `LossScaleOptimizer._stateful_handle_non_finite_grads`: steps that it skips;
- `Model.train_step`, while Keras makes the hooked function: where a step ends.

What is measured leaves the compiled step through a `Ring`.
"""

import contextlib
import inspect
import threading
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from mnist_vg.keras_models.graphs import draws_numbers, multiplied_apart
from mnist_vg.keras_models.layers import layer_paths
from mnist_vg.keras_models.optimizers import (
    appliers,
    counting_optimizer,
    has_own_train_step,
    optimizers_of,
    overrides_apply,
    steps_done,
    unscaled,
)
from mnist_vg.keras_models.taps import reachable, replaced, tapped_layers
from mnist_vg.keras_models.through_time import tapped_recurrence
from mnist_vg.recording.measures import squared_distance
from mnist_vg.recording.part import HEAD, Caught, Part
from mnist_vg.recording.probe import Probe, joined
from mnist_vg.recording.ring import counter, plain_variable
from mnist_vg.recording.yardstick import Yardstick


class KerasHooks:
    """Measures the steps of a model that are due, inside its training function.

    The hooks are in place only while a training function runs that was made for them, so
    that nothing is left behind if it raises. Other calls run the model's own function, at
    its own speed. (Keras calls an *execution* what one call of the training function does:
    `steps_per_execution` steps.)

    A model that draws random numbers with operations that keep a state, such as
    `tf.random.normal`, runs the hooked function at every step: in two functions, such
    operations draw two sequences of numbers.

    A step is one update of the weights. With several optimizers it is one call of
    `train_step`, and its record holds the last update by each of them.

    Args:
        model: compiled.
        probe: gives the settings of the measures; a full one also takes those of
            activations.
        every: steps between two records; None records only the step after `arm`.
        yardstick: whether the loss says how much is learned, see `Yardstick`.
    """

    def __init__(self, model: keras.Model, probe: Probe, every: int | None, yardstick: bool = True):
        self._model, self._every = model, every
        self._pattern, self._full = probe.pattern, probe.full
        self._yardstick = Yardstick(model, known=yardstick)
        self._optimizers = optimizers_of(model)
        self._counting = counting_optimizer(self._optimizers)
        self._scaling = [outer for outer in self._optimizers if unscaled(outer) is not outer]
        # Updates per execution, as far as is known.
        self._updates = model.steps_per_execution
        self._own_train_step = has_own_train_step(model)
        self._one = self._updates == 1 and not self._own_train_step
        # A train_step of the model's own may update more than once.
        slots = (2 if self._one else 64) + self._updates // (every or self._updates)
        self._parts = [
            Part(applier, probe.renewed(), slots)
            for optimizer in self._optimizers
            for applier in appliers(optimizer)
        ]
        # Where train steps are counted, an update of accumulated gradients comes at the last of
        # these steps from a due one on.
        accumulated = [part.optimizer.gradient_accumulation_steps or 1 for part in self._parts]
        self._window = 1 if len(self._parts) == 1 and self._counting else max(accumulated)
        self._steps = steps_done(self._optimizers)
        self._train_steps = plain_variable(np.int64(self._steps))
        self._wanted = plain_variable(np.int64(-1))
        self._skipped = counter()
        self.applied = False
        """Whether an optimizer has applied gradients while the hooks were in place."""
        self.unlike = False
        """Whether the model may draw other random numbers than without the hooks."""
        self._branched, self._began_at = True, self._steps
        self._tried = self._draws = self._due = self._stopped = False
        self._forget()
        self.begin()

    def begin(self) -> None:
        """Begin an epoch: take up what other code has done, or what a failed fit has left."""
        self._steps = self.steps
        for part in self._parts:
            part.ring.skip()
        self.waiting = False
        """Whether the step after `arm` is still to come."""

    @property
    def steps(self) -> int:
        """How many steps are done."""
        return steps_done(self._optimizers) if self._counting else self._steps

    def take_skipped(self) -> int:
        """How many steps loss scaling skipped since the last call, as gradients overflowed."""
        skipped = int(self._skipped.numpy()) if self._scaling else 0
        if skipped:
            self._skipped.assign(0)
        return skipped

    def arm(self) -> None:
        """Record the next step."""
        self._armed_at = self.steps
        self._wanted.assign(self._armed_at)
        self.waiting = True

    def stop(self) -> None:
        """Record no more."""
        self._stopped = True

    def must_run(self) -> bool:
        """Whether the next execution has to run inside `hooks`.

        That is if it may hold a step to record or a skipped one to count, if the model
        draws random numbers, and the first time, when that is not known.
        """
        self._due = self._is_due() and not self._stopped
        counts = bool(self._scaling) and not self._stopped
        return self._due or counts or self._draws or not self._tried

    def _is_due(self):
        if self._every is None:
            return self.waiting and self._steps < self._armed_at + self._window
        to_come = -self._steps % self._every
        return to_come < self._updates or self._steps % self._every < self._window

    def executed(self, hooked: bool, batches: int) -> list[Caught]:
        """Note that an execution is done, and return the records that it made.

        Args:
            hooked: whether it ran inside `hooks`.
            batches: how many batches it took.
        """
        self._tried = self._tried or hooked
        self._count_steps(hooked, batches)
        if not (hooked and self._due):
            return []
        # Of several updates by one optimizer in one step, the last.
        taken = [{record.step: record for record in part.take()} for part in self._parts]
        caught = [record for records in taken for record in records.values()]
        self.waiting = self._every is None and self._is_due()
        return list(self._by_step(caught))

    def _count_steps(self, hooked, batches):
        if self._counting is None:
            self._steps = int(self._train_steps.numpy()) if hooked else self._steps + batches
        elif self._one and not self._scaling and not self._counting.gradient_accumulation_steps:
            self._steps += 1  # Reading it would take 2% of a small network's step.
        else:
            before, self._steps = self._steps, self.steps
            self._updates = max(self._updates, self._steps - before)

    def _by_step(self, caught):
        """One record a step, of all optimizers."""
        order = list(layer_paths(self._model)) if len(self._parts) > 1 else []
        for step in sorted({record.step for record in caught}):
            parts = [record for record in caught if record.step == step]
            scalars = next((record.scalars for record in parts if record.scalars), {})
            yield Caught(step, scalars, joined([record.tables for record in parts], order))

    @contextlib.contextmanager
    def making(self) -> Iterator[None]:
        """Within the context, Keras makes the training function that `hooks` is for."""
        # A `tf.function` would keep the hooks after its first call.
        train_step = getattr(self._model.train_step, "python_function", self._model.train_step)

        def watched(data):
            results = train_step(data)
            self._note_draws()
            if self._counting is None and _is_first_replica():
                self._train_steps.assign_add(1)
            return results

        with replaced(self._model, "train_step", watched):
            yield

    @contextlib.contextmanager
    def hooks(self) -> Iterator[None]:
        """Within the context, catch what the optimizers apply."""
        self._forget()
        if self._counting is None:
            self._train_steps.assign(self._steps)
        with contextlib.ExitStack() as stack:

            def hook(owner, name, wrapper):
                original = getattr(owner, name)
                stack.enter_context(replaced(owner, name, wrapper(original)))

            hook(self._model, "compute_loss", self._see_loss)
            for part in self._parts:
                hook(part.optimizer, "_backend_apply_gradients", self._see_variables)
                hook(part.optimizer, "_clip_gradients", self._see_gradients(part))
                if overrides_apply(part.optimizer):
                    hook(part.optimizer, "apply", self._see_apply(part))
                hook(part.optimizer, "update_step", self._see_update(part))
            for outer in self._scaling:
                hook(outer, "_stateful_handle_non_finite_grads", self._see_skip)
            tapped = self._model if self._full else None
            self._taps = stack.enter_context(tapped_layers(tapped, self._pattern))
            self._time_taps = stack.enter_context(tapped_recurrence(tapped))
            yield

    def _forget(self):
        # A tf.distribute strategy traces each replica in a thread of its own.
        self._seen = threading.local()
        for part in self._parts:
            part.columns = {}

    def _see_loss(self, original):
        signature = inspect.signature(original)

        def compute_loss(*arguments, **options):
            loss = original(*arguments, **options)
            # With `reduction=None` it is one number per example.
            self._seen.loss = tf.reduce_mean(loss) if len(loss.shape) else loss
            given = signature.bind(*arguments, **options).arguments
            self._seen.batch = [given.get(name) for name in ("x", "y", "y_pred", "sample_weight")]
            return loss

        return compute_loss

    def _see_variables(self, original):
        def apply_gradients(gradients, variables):
            self.applied = self._seen.caught = True
            self._seen.variables = variables
            return original(gradients, variables)

        return apply_gradients

    def _see_skip(self, original):
        def skip():
            self.applied = True
            self._skipped.assign_add(1)
            return original()

        return skip

    def _see_gradients(self, part):
        def wrapper(original):
            def clip(gradients):
                clipped = original(gradients)
                self._catch(part, gradients, clipped, self._seen.variables)
                return clipped

            return clip

        return wrapper

    def _see_apply(self, part):
        """Catch what an `apply` of the user's own gets, if it does not call Keras'."""

        def wrapper(original):
            def apply(grads, trainable_variables=None, **options):
                optimizer, gradients = part.optimizer, list(grads)
                variables = list(trainable_variables or optimizer._trainable_variables)
                step, before = self._step(), [tf.identity(variable) for variable in variables]
                self._seen.caught = False
                result = original(gradients, trainable_variables, **options)
                if not self._seen.caught:
                    if scale := optimizer.loss_scale_factor:
                        gradients = [g if g is None else g / scale for g in gradients]
                    self._catch(part, gradients, [], variables, step, before)
                return result

            return apply

        return wrapper

    def _step(self):
        counted = self._train_steps if self._counting is None else self._counting.iterations
        return tf.identity(tf.convert_to_tensor(counted))

    def _catch(self, part, gradients, clipped, variables, step=None, before=None):
        self.applied = True
        step = self._step() if step is None else step
        loss = vars(self._seen).pop("loss", None)
        part.loss_seen = loss is not None and reachable(loss)
        loss = loss if part.loss_seen else tf.constant(0.0)
        batch = self._seen.batch if part.loss_seen else [None] * 4
        activations = self._taps.take()
        through_time = self._time_taps.take()
        clipped = clipped if self._full and clipped is not gradients else []
        replica = tf.distribute.get_replica_context()
        if replica is not None and replica.num_replicas_in_sync > 1:
            # Before the branch of a due step: TensorFlow allows no reduction inside it.
            ours = [*gradients, *clipped, loss]
            *reduced, loss = replica.all_reduce(tf.distribute.ReduceOp.SUM, ours)
            gradients, clipped = reduced[: len(gradients)], reduced[len(gradients) :]
            if not _is_first_replica():
                return
        self._branched = True
        self._note_draws()
        gradients, clipped = multiplied_apart(gradients), multiplied_apart(clipped)
        groups = list(part.probe.group(variables).values())
        if not groups and len(self._parts) > 1:
            return  # None of this part's layers is to be recorded.
        part.layers, part.where_due = len(groups), self._where_due(step)
        part.columns = {}
        for column, group in enumerate(groups if before is None else []):
            for position in group:
                part.columns[part.optimizer._get_variable_index(variables[position])] = column

        def measure():
            # Keras leaves out the variables that have no gradient before it applies the others.
            without = _others(part.optimizer._trainable_variables, variables)
            measured = part.probe.measure(
                [*gradients, *[None] * len(without)],
                [*variables, *without],
                clipped,
                activations,
                before and [*before, *without],
                through_time,
            )
            head = [tf.cast(step, tf.float64)], [tf.cast(loss, tf.float64)]
            if before:
                moved = tf.square(part.probe.distances(variables, before))
                part.layers = moved.shape[0]
            else:
                moved = tf.zeros([part.layers], tf.float64)  # `update_step` adds it.
            losses = self._yardstick.measure(*batch)
            part.ring.append(tf.concat([*head, losses, moved, measured], axis=0))

        part.where_due(measure, lambda: None)

    def _note_draws(self):
        """Note whether the step draws random numbers; see `draws_numbers`."""
        if not self._draws and draws_numbers():
            # A function without a branch serves only due steps, so it cannot run at all.
            self._draws = self._branched
            self.unlike = self.unlike or not self._branched or self._began_at > 0

    def _where_due(self, step):
        # Where a function is certain to be due, it needs no branch. (Inside a branch, XLA on a
        # CPU uses one core.)
        if self._one and self._due and not self._scaling and not self._draws:
            self._branched = False
            return lambda branch, otherwise: branch()
        since = step - self._wanted if self._every is None else step % self._every
        due = (since >= 0) & (since < self._window)
        return lambda branch, otherwise: tf.cond(due, branch, otherwise)

    def _see_update(self, part):
        def wrapper(original):
            def update(gradient, variable, learning_rate):
                # Every replica makes the same update, so the first one is enough.
                column = part.columns.pop(part.optimizer._get_variable_index(variable), None)
                if column is None:
                    return original(gradient, variable, learning_rate)

                def measured():
                    before = tf.identity(variable)
                    original(gradient, variable, learning_rate)
                    square = squared_distance(tf.convert_to_tensor(variable), before)
                    part.ring.add(HEAD + column, square)

                return part.where_due(measured, lambda: original(gradient, variable, learning_rate))

            return update

        return wrapper


def _is_first_replica():
    replica = tf.distribute.get_replica_context()
    return replica is None or tf.get_static_value(replica.replica_id_in_sync_group) in (0, None)


def _others(variables, known):
    known = {id(variable) for variable in known}
    return [v for v in variables if v.trainable and id(v) not in known]
