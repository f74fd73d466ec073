"""`GradientLogger`: records what every layer's gradient does in a plain `model.fit()`."""

import contextlib
import math
import os
import shlex
import weakref
from pathlib import Path

import keras
import tensorflow as tf

from mnist_vg.checks.run_checks import check_fit
from mnist_vg.checks.weights import check_weights
from mnist_vg.errors import RunFailed, UsageError, first_line
from mnist_vg.keras_models.first_step import build_before_first_step
from mnist_vg.keras_models.layers import averages_are_new, largest_momentum, traits
from mnist_vg.keras_models.optimizers import has_own_train_step, optimizers_of, steps_done, unscaled
from mnist_vg.recording.keras_hooks import KerasHooks
from mnist_vg.recording.mean_loss import MeanLoss
from mnist_vg.recording.recorder import Recorder, check_every, run_folder
from mnist_vg.runs.tags import (
    GRADIENT_FLOW,
    KERNELS,
    LAYER_MEASURES,
    LEARNING_RATE,
    LOSS_TRAIN,
    LOSS_TRAIN_MEAN,
    MOVING_AVERAGE,
    SKIPPED_STEPS,
    STOPPED,
)

EVERY = 200
"""Steps between two records where the length of a training is not known."""

RECORDS = 100
"""Records of a training whose length is known, at least, if it has as many steps."""


_earlier_steps = weakref.WeakKeyDictionary()
"""Of an optimizer that a callback has put in place during a `fit`: the steps done before."""


class GradientLogger(keras.callbacks.Callback):
    """Records the gradients that the optimizer applies in `fit`, and the weights.

    ```python
    model.fit(x, y, callbacks=[GradientLogger("logdir/my_run")])
    ```

    It measures inside the training step, on the training batch, and only in the steps that
    are recorded; there is no second forward or backward pass. A step is one update of the
    weights, counted from 0 by the optimizer. Gradients are those before clipping. They are
    averaged if they are accumulated, unscaled if the loss is scaled, and summed over the
    replicas of a strategy. The loss is that of the step's batch (the last one of an
    accumulated step), as the model computes it with `compute_loss`, or else what its own
    `train_step` returns as `loss`. The metrics that Keras
    computes are recorded under their own names, those of validation too.

    With several optimizers, as in a GAN, a step is one call of `train_step`, and its record
    holds the last update by each optimizer.

    A second `fit` resumes the same run. So does a new logger, if the model's optimizer has
    done steps before. Records from the next step on are then removed. If the folder holds
    any other run, the new run goes to a folder beside it: `my_run-2`.

    Args:
        folder: the run folder; made if it is missing. It may be remote, see `Recorder`.
        every: steps between two records, or "epoch" for the first step of every epoch. The
            first record shows the untrained network. Default: 1, 2 or 5 times a power of
            ten, so that the training has 100 to 250 records, or as many as it has steps;
            200 if its length is not known.
        layers: a regular expression; only layers whose path contains it are recorded.
        histograms: whether to record histograms.
        measures: "default", or "full" to add norms, spreads and shares of gradients and
            weights, the size of the update (without weight decay) over that of the weights,
            the gradient after clipping, and activations.
        overwrite: replace a run that the folder holds.
        strict: whether `fit` ends with an error if the log cannot be written (the disk is
            full, say). By default a line says so, and `fit` goes on without the log.
        check: whether to look at data, model and optimizer before the first step, as
            `mnist_vg.check` does. What it finds is printed, and part of the diagnosis.
        yardstick: whether the loss says how much is learned, see `Yardstick`. With False, only
            gradients and updates are judged, as with a loss that two networks fight over.

    Raises:
        UsageError: when `fit` starts: an argument is not allowed, the model cannot be
            recorded, or the folder cannot be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        every: int | str | None = None,
        *,
        layers: str = "",
        histograms: bool = True,
        measures: str = "default",
        overwrite: bool = False,
        strict: bool = False,
        check: bool = True,
        yardstick: bool = True,
    ):
        super().__init__()
        self._folder, self._given_every, self._overwrite = folder, every, overwrite
        self._options = {"layers": layers, "histograms": histograms, "measures": measures}
        self._strict, self._to_check, self._yardstick = strict, check, yardstick
        self._recorder = None
        self._original = None
        self._begun = self._lost = self._told_unlike = False
        self._skipped = 0
        self._earlier_steps = 0

    @property
    def folder(self) -> Path:
        """The run folder: the one that was named, or one beside it if that held a run."""
        return self._recorder.folder if self._recorder else run_folder(self._folder)

    def set_model(self, model):
        """Take the model that `fit` trains.

        Raises:
            UsageError: it is not a Keras 3 model.
        """
        if not isinstance(model, keras.Model):
            raise UsageError(
                f"model: {type(model).__module__}.{type(model).__name__} is not a Keras 3 model; "
                "build it with keras 3 (not tf_keras, and without TF_USE_LEGACY_KERAS=1)"
            )
        super().set_model(model)

    def on_train_begin(self, logs=None):
        """Check that this fit can be recorded."""
        self._check()
        if self._lost:
            self._recorder = self._original = None
        self._begun = self._lost = False
        self._fit = self._current_fit()

    def _current_fit(self):
        # Keras makes a History for every fit.
        return getattr(self.model, "history", None)

    def on_epoch_begin(self, epoch, logs=None):
        """Open the run before the first epoch, and with `every="epoch"` record its first step."""
        # Not earlier: callbacks that restore a model do so in on_train_begin.
        if not self._begun:
            self._begin(epoch)
            self._begun = True
        elif self.model.train_function is not self._original:
            self._hook_again()
        self._hooks.begin()
        self._mean_loss.begin_epoch()
        if self._every == "epoch":
            self._hooks.arm()

    def _begin(self, epoch):
        model = self.model
        if model.train_function is None:  # Before the first `train_on_batch`.
            model.make_train_function()
        # The model keeps its own function, which has no hooks. If an earlier fit has failed
        # between on_train_batch_begin and its end, our function is still in its place.
        model.train_function = getattr(model.train_function, "replaces", model.train_function)
        try:
            self._open(epoch)
        except (OSError, tf.errors.OpError) as error:
            raise UsageError(
                f"folder: {self.folder} cannot be written ({first_line(error)}); name another"
            ) from None
        print(self._announcement())

    def _open(self, epoch):
        model = self.model
        if self._recorder is not None and model.train_function is self._original:
            self._recorder.open(self._earlier_steps + self._hooks.steps)
            return
        earlier = model.optimizer and _earlier_steps.get(model.optimizer)
        self._earlier_steps = earlier or 0
        first_step = self._earlier_steps + steps_done(optimizers_of(model))
        self._averages_are_new, self._batches = averages_are_new(model), 0
        self._recorder = self._new_recorder(first_step, epoch)
        self._hook()

    def _new_recorder(self, first_step, epoch):
        self._every = self._given_every or self._chosen_every(epoch)
        return Recorder(
            self._folder,
            self.model,
            initial_step=first_step,
            overwrite=self._overwrite,
            settings={"every": self._every, **_settings(self.model)},
            steps_per_epoch=self._steps_per_epoch(),
            **self._options,
        )

    def _hook(self):
        """Let Keras make a second training function, which is traced with hooks in place."""
        model = self.model
        self._original = model.train_function
        every = None if self._every == "epoch" else self._every
        self._hooks = KerasHooks(model, self._recorder.probe, every, self._yardstick)
        with self._hooks.making():
            model.make_train_function(force=True)
        self._train_function = model.train_function
        model.train_function = self._original
        self._mean_loss = MeanLoss(self._loss_tracker())

    def _loss_tracker(self):
        """The metric that averages the loss of an epoch, if there is one."""
        if not (self.params or {}).get("epochs"):
            return None  # Outside `fit`, Keras begins anew with each batch.
        named = [metric for metric in self.model.metrics if metric.name == "loss"]
        means = [metric for metric in named if isinstance(metric, keras.metrics.Mean)]
        # A train_step of the model's own may have its own.
        return means[-1] if means else None

    def _hook_again(self):
        """Follow a callback that has compiled the model again, perhaps to thaw a layer.

        The optimizer is a new one then, which counts from 0, and other layers may train.
        """
        before = self._hooks
        self._hook()
        self._earlier_steps += before.steps - self._hooks.steps
        if self.model.optimizer is not None:
            _earlier_steps[self.model.optimizer] = self._earlier_steps
        self._mean_loss.begin_epoch()
        if before.waiting:
            self._hooks.arm()

    def _steps_per_epoch(self):
        """Updates of the weights in an epoch, where that is certain."""
        batches = (self.params or {}).get("steps")
        if batches is None or has_own_train_step(self.model):
            return None
        return batches / (unscaled(self.model.optimizer).gradient_accumulation_steps or 1)

    def _chosen_every(self, epoch):
        batches = (self.params or {}).get("steps")
        if batches is None:
            return EVERY
        steps = self._steps_per_epoch() or batches
        most = steps * (self.params.get("epochs", 1) - epoch) / RECORDS
        power = 10 ** math.floor(math.log10(max(most, 1)))
        return max(power * factor for factor in (1, 2, 5) if power * factor <= max(most, 1))

    def _announcement(self):
        folder, every = self._recorder.folder, self._every
        count = len(self._recorder.probe.group(self.model.trainable_variables))
        layers = f"{count} layer{'s' if count > 1 else ''}" if count else "its layers"
        when = {"epoch": "at the first step of every epoch", 1: "at every step"}
        when = when.get(every, f"every {every} steps")
        line = (
            f"{folder.name}: gradients and weights of {layers} are recorded {when} in {folder} "
            f"(mnist-vg board --logdir {shlex.quote(str(folder.parent))})"
        )
        if not self._recorder.probe.full:
            line += "; dead and saturated units are not looked for (measures='full' does)"
        if self.model.jit_compile:
            line += "; with XLA, the last bits of the weights may differ from those without it"
        return line

    def _check(self):
        if keras.backend.backend() != "tensorflow":
            raise UsageError(
                f"backend: {keras.backend.backend()!r} must be 'tensorflow'; set KERAS_BACKEND"
            )
        if self._given_every not in (None, "epoch"):
            self._given_every = check_every(self._given_every, ', or "epoch"')
        if not optimizers_of(self.model):
            raise UsageError(f"model: it has no Keras optimizer; compile it with one, or {_LOOP}")
        if self.model.built and not self.model.weights:
            raise UsageError("model: it has no weights to train, so there is no gradient")
        if self.model.built and not self.model.trainable_variables:
            self._note_frozen()
            raise UsageError(
                "model: all of its layers are frozen, so nothing can be learned and there is no "
                "gradient; set trainable=True on those that are to learn, and compile it again"
            )

    def _note_frozen(self):
        """Leave a run that says why there is no gradient, for `mnist-vg diagnose`."""
        settings = _settings(self.model)
        recorder = Recorder(self._folder, None, settings=settings, overwrite=self._overwrite)
        with contextlib.closing(recorder):
            recorder.note_findings(check_weights(self.model))

    def on_train_batch_begin(self, batch, logs=None):
        """Replace the model's training function by the hooked one, for one execution."""
        if not self._begun:  # A loop of one's own may know no epochs.
            self.on_epoch_begin(0)
        model = self.model
        original = model.train_function
        if original is not self._original and not hasattr(original, "replaces"):
            self._hook_again()
        self._first_batch = batch
        self._hooked = self._hooks.must_run()
        if not self._hooked:
            return
        if hasattr(original, "replaces"):
            vars(model)["train_function"] = original.replaces
            raise UsageError(
                "callbacks: another GradientLogger records this fit already; one with "
                "measures and layers for both is enough"
            )

        def train_function(iterator):
            vars(model)["train_function"] = original
            if self._current_fit() is not self._fit:  # A callback has ended that fit in between.
                return original(iterator)
            self._check_before(iterator)
            build_before_first_step(self.model, iterator)
            with self._hooks.hooks():
                return self._train_function(iterator)

        train_function.replaces = original
        vars(model)["train_function"] = train_function

    def _check_before(self, iterator):
        """Check data, model and optimizer, once, before an untrained model's first step."""
        if self._to_check and not self._earlier_steps + self._hooks.steps:
            self._try(self._recorder.note_findings, check_fit(self.model, iterator).findings)
        self._to_check = False

    def on_train_batch_end(self, batch, logs=None):
        """Write the records of the steps that were done."""
        # Keras names the last batch of a whole execution, also where the data end before.
        last = min(batch, ((self.params or {}).get("steps") or batch + 1) - 1)
        batches = last - self._first_batch + 1
        self._batches += batches
        caught = self._hooks.executed(self._hooked, batches)
        if self._hooked and not self._hooks.applied:
            raise UsageError(
                f"model: its train_step does not apply gradients with a Keras optimizer; {_LOOP}"
            )
        for record in caught:
            # Keras' logs are those of the newest step.
            scalars = self._scalars(record.scalars, logs) if record is caught[-1] else {}
            if len(optimizers_of(self.model)) > 1:
                scalars[GRADIENT_FLOW] = None  # Between two networks no gradient flows.
            self._write(record.step, record.tables, record.scalars | scalars)
        if self._hooks.unlike and not self._told_unlike:
            self._told_unlike = True
            print(
                f"\n{self._recorder.folder.name}: this model draws with tf.random, and may draw "
                "other numbers than without the logger"
            )
        if skipped := self._hooks.take_skipped():
            self._skipped += skipped
            self._note(self._hooks.steps, {SKIPPED_STEPS: self._skipped})

    def _scalars(self, caught, logs):
        scalars = _numbers(logs)
        returned = scalars.pop("loss", None)
        if not caught and has_own_train_step(self.model):
            scalars[LOSS_TRAIN] = returned
        if (rate := _learning_rate(self.model)) is not None:
            scalars[LEARNING_RATE] = rate
        return scalars | {LOSS_TRAIN_MEAN: self._mean_loss.take()}

    def on_test_begin(self, logs=None):
        """Keep the training's loss before Keras clears it for validation."""
        if self._begun:
            self._mean_loss.end_epoch()

    def on_epoch_end(self, epoch, logs=None):
        """Write the epoch's metrics, at its last step."""
        self._mean_loss.end_epoch()
        metrics = _numbers(logs)
        metrics.pop("loss", None)
        momentum = largest_momentum(self.model) if self._averages_are_new else 0
        if "val_loss" in metrics and momentum:
            metrics[MOVING_AVERAGE] = momentum**self._batches
        if metrics:
            self._note(max(self._hooks.steps - 1, 0), metrics)

    def _write(self, step, tables, scalars):
        step += self._earlier_steps
        self._try(self._recorder.write_tables, step, tables, scalars)

    def _note(self, step, scalars):
        self._try(self._recorder.note, self._earlier_steps + step, scalars)

    def on_train_end(self, logs=None):
        """Mark the run as finished, with the last logs as its results."""
        if self._begun:
            if self.model.stop_training:
                self._note(max(self._hooks.steps - 1, 0), {STOPPED: 1})
            self._try(self._recorder.finish, _numbers(logs))

    def _try(self, write, *arguments):
        """Write to the log. If that fails, the log ends, but not the training."""
        if self._lost:
            return
        try:
            write(*arguments)
        except OSError as error:
            self._lost = True
            self._hooks.stop()
            self._recorder.break_off()
            why = f"{self._recorder.folder.name}: its log cannot be written: {first_line(error)}"
            if self._strict:
                raise RunFailed(why) from error
            print(f"\n{why}; fit goes on without it")


_LOOP = "use mnist_vg.Recorder in its train_step, and compile it with jit_compile=False"


def _numbers(logs):
    """The numbers among Keras' logs, by tags that are none of ours."""
    ours = {"step", "layers", "activation_layers", KERNELS, *LAYER_MEASURES}
    return {
        f"metrics/{name}" if name.partition("/")[0] in ours else name: value
        for name, value in (logs or {}).items()
        if isinstance(value, (int, float))
    }


def _learning_rate(model):
    """The present learning rate; None if there are several, or none."""
    optimizers = [unscaled(optimizer) for optimizer in optimizers_of(model)]
    with contextlib.suppress(AttributeError, ValueError):  # a MultiOptimizer, several optimizers
        [optimizer] = optimizers
        return float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    return None


def _settings(model):
    optimizers = [unscaled(optimizer) for optimizer in optimizers_of(model)]
    settings = {"model": type(model).__name__, **traits(model)}
    if len(optimizers) == 1:
        settings["optimizer"] = type(optimizers[0]).__name__
        with contextlib.suppress(AttributeError):  # a MultiOptimizer
            clipping = [optimizers[0].clipnorm, optimizers[0].clipvalue]
            settings["clipping"] = any([*clipping, optimizers[0].global_clipnorm])
    if (rate := _learning_rate(model)) is not None:
        settings["learning_rate"] = float(f"{rate:.6g}")  # a schedule's present value
    return settings
