"""`GradientLogger`: records what every layer's gradient does in a plain `model.fit()`."""

import os

import keras
import numpy as np

from mnist_vg.errors import UsageError
from mnist_vg.recording.keras_hooks import KerasHooks
from mnist_vg.recording.recorder import Recorder, check_every
from mnist_vg.runs.tags import LOSS_TRAIN, SKIPPED_STEPS


class GradientLogger(keras.callbacks.Callback):
    """Records the gradients that the optimizer applies in `fit`, and the weights.

    ```python
    model.fit(x, y, callbacks=[GradientLogger("logdir/my_run", every=200)])
    ```

    It measures inside the training step, on the training batch, and only in the steps that
    are recorded; there is no second forward or backward pass. A step is one update of the
    weights, counted from 0 by the optimizer. Gradients are those before clipping. They are
    averaged if they are accumulated, unscaled if the loss is scaled, and summed over the
    replicas of a strategy. The loss is that of the step's batch (the last one of an
    accumulated step). A custom `train_step` must compute it with `compute_loss`.

    A second `fit` resumes the same run. So does a new logger, if the model's optimizer has
    done steps before. Records from the next step on are then removed.

    Args:
        folder: the run folder; made if it is missing. It may be remote, see `Recorder`.
        every: steps between two records, or "epoch" for the first step of every epoch, so
            that the first record shows the untrained network.
        layers: a regular expression; only layers whose path contains it are recorded.
        histograms: whether to record histograms.
        measures: "default", or "full" to add norms, spreads and shares of gradients and
            weights, the size of the update (without weight decay) over that of the weights,
            the gradient after clipping, and activations.
        overwrite: replace a run that the folder holds.

    Raises:
        UsageError: when `fit` starts: an argument is not allowed, the model cannot be
            recorded, or the folder holds a run.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        every: int | str = 200,
        *,
        layers: str = "",
        histograms: bool = True,
        measures: str = "default",
        overwrite: bool = False,
    ):
        super().__init__()
        self._folder, self._every, self._overwrite = folder, every, overwrite
        self._options = {"layers": layers, "histograms": histograms, "measures": measures}
        self._recorder = None
        self._original = None
        self._skipped = 0
        self._earlier_steps = 0

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
        self._begun = False

    def on_epoch_begin(self, epoch, logs=None):
        """Open the run before the first epoch, and with `every="epoch"` record its first step."""
        # Not earlier: callbacks that restore a model do so in on_train_begin.
        if not self._begun:
            self._begin()
            self._begun = True
        elif self.model.train_function is not self._original:
            self._hook_again()
        self._hooks.begin()
        if self._every == "epoch":
            self._hooks.arm()

    def _begin(self):
        model = self.model
        first_step = int(model.optimizer.iterations.numpy())
        if model.train_function is None:  # Before the first `train_on_batch`.
            model.make_train_function()
        # The model keeps its own function, which has no hooks. If an earlier fit has failed
        # between on_train_batch_begin and its end, our function is still in its place.
        model.train_function = getattr(model.train_function, "replaces", model.train_function)
        compiled_again = model.train_function is not self._original
        if compiled_again:
            self._earlier_steps = 0
        if self._recorder is not None and self._recorder.probe.model is model:
            self._recorder.open(self._earlier_steps + first_step)
        else:
            self._recorder = Recorder(
                self._folder,
                model,
                initial_step=first_step,
                overwrite=self._overwrite,
                settings={"every": self._every, **_settings(model)},
                steps_per_epoch=self._steps_per_epoch(),
                **self._options,
            )
            compiled_again = True
        if compiled_again:
            self._hook()

    def _hook(self):
        """Let Keras make a second training function, which is traced with hooks in place."""
        model = self.model
        self._original = model.train_function
        every = None if self._every == "epoch" else self._every
        self._hooks = KerasHooks(model, self._recorder.probe, every)
        model.make_train_function(force=True)
        self._train_function = model.train_function
        model.train_function = self._original

    def _hook_again(self):
        """Follow a callback that has compiled the model again, perhaps to thaw a layer.

        The optimizer is a new one then, which counts from 0, and other layers may train.
        """
        before = self._hooks
        self._recorder.probe = self._recorder.probe.renewed()
        self._hook()
        self._earlier_steps += before.steps - self._hooks.steps
        if before.waiting:
            self._hooks.arm()

    def _steps_per_epoch(self):
        """Updates of the weights in an epoch, where that is certain."""
        batches = (self.params or {}).get("steps")
        if batches is None or type(self.model).train_step is not keras.Model.train_step:
            return None
        return batches / (self.model.optimizer.gradient_accumulation_steps or 1)

    def _check(self):
        if keras.backend.backend() != "tensorflow":
            raise UsageError(
                f"backend: {keras.backend.backend()!r} must be 'tensorflow'; set KERAS_BACKEND"
            )
        if self._every != "epoch":
            self._every = check_every(self._every, ', or "epoch"')
        if self.model.optimizer is None:
            raise UsageError(
                "model: it has no optimizer of its own; compile it with one, or use "
                "mnist_vg.Recorder where its train_step updates the weights"
            )
        if self.model.built and not self.model.trainable_variables:
            raise UsageError("model: it has no weights to train, so there is no gradient")

    def on_train_batch_begin(self, batch, logs=None):
        """Replace the model's training function by the hooked one, for one execution."""
        model = self.model
        original = model.train_function
        if original is not self._original and not hasattr(original, "replaces"):
            self._hook_again()
        self._hooked = self._hooks.may_be_due()
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
            with self._hooks.hooks():
                return self._train_function(iterator)

        train_function.replaces = original
        vars(model)["train_function"] = train_function

    def on_train_batch_end(self, batch, logs=None):
        """Write the records of the steps that were done."""
        caught = self._hooks.executed(self._hooked)
        if self._hooked and not self._hooks.applied:
            raise UsageError(
                "model: its train_step does not apply gradients with model.optimizer; use "
                "mnist_vg.Recorder where it updates the weights"
            )
        for record in caught:
            scalars = {} if record.loss is None else {LOSS_TRAIN: record.loss}
            moved = record.moved if self._recorder.probe.full else None
            step = self._earlier_steps + record.step
            self._recorder.write(step, record.measured, scalars, moved)
        if skipped := self._hooks.take_skipped():
            self._skipped += skipped
            step = self._earlier_steps + self._hooks.steps
            self._recorder.note(step, {SKIPPED_STEPS: self._skipped})

    def on_train_end(self, logs=None):
        """Mark the run as finished, with the last logs as its results."""
        if self._begun:
            self._recorder.finish({k: v for k, v in (logs or {}).items() if np.ndim(v) == 0})


def _settings(model):
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    return {
        "model": type(model).__name__,
        "optimizer": type(optimizer).__name__,
        "learning_rate": float(f"{rate:.6g}"),  # a schedule's present value
    }
