"""`check`: what is wrong with a model and its data before they are trained."""

import re

import keras
import tensorflow as tf

from mnist_vg.checks.batches import (
    MOST_BYTES,
    Data,
    arrays_behind,
    bytes_behind,
    calls_python,
    look_at_data,
)
from mnist_vg.checks.data import check_finite, check_scale, check_values
from mnist_vg.checks.findings import Checks, Finding
from mnist_vg.checks.heads import check_classes, check_head
from mnist_vg.checks.look import Look
from mnist_vg.checks.network import (
    check_depth,
    check_gradients,
    check_time,
    reach_in_time,
)
from mnist_vg.checks.rates import check_rate_alone, check_updates
from mnist_vg.checks.weights import check_weights, share_frozen
from mnist_vg.errors import UsageError, first_line
from mnist_vg.keras_models.optimizers import has_own_train_step


def check(model: keras.Model, x, y=None, *, sample_weight=None, class_weight=None) -> Checks:
    """Look for what will keep a model from learning, before its first training step.

    ```python
    model.compile("adam", "mse")
    mnist_vg.check(model, x, y)
    ```

    It looks at the data, at each output with its loss and labels, at the network and at the
    optimizer; `docs/checks.md` lists all checks with their thresholds. Some batches go through the
    model, forward and backward. Nothing is trained and nothing changes: no weight, no metric,
    no optimizer, no random state, no function that Keras has traced. But a model that is not
    built yet is built, as its first `fit` would. Whatever a `PyDataset`, a generator below a
    `tf.data.Dataset` or a layer of your own changes outside of TensorFlow, NumPy and `random`
    stays changed.

    Args:
        model: a Keras model. If it is not compiled, only data and weights are looked at.
        x: inputs as `fit` takes them: arrays, or a list or dict of them; a `tf.data.Dataset`
            or a `keras.utils.PyDataset`, of which the first batches are looked at.
        y: targets, if x does not give them.
        sample_weight: as in `fit`.
        class_weight: as in `fit`.

    Returns:
        The findings, causes first, with what was looked at and what was skipped.

    Raises:
        UsageError: model or data are not what `fit` takes, or the data cannot be read twice.
    """
    if not isinstance(model, keras.Model):
        raise UsageError(f"model: a {type(model).__name__}; give a keras.Model")
    data = look_at_data(x, y, sample_weight)
    return _Checking(model, data, class_weight).result()


def check_fit(model: keras.Model, iterator) -> Checks:
    """The same as `check` inside a `fit`, of what its data set would give to the next steps.

    Args:
        model: the model that `fit` trains.
        iterator: what `fit` passes to the model's training function.

    Returns:
        As `check`; if the data cannot be read without taking them away from `fit`, or the checks
        themselves fail, `skipped` says so.
    """
    dataset = getattr(iterator, "_dataset", None)
    try:
        if not isinstance(dataset, tf.data.Dataset):
            return _nothing("the data are distributed over devices")
        if arrays := arrays_behind(dataset):
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(arrays)
            return check(model, x, y, sample_weight=sample_weight)
        if bytes_behind(dataset) > MOST_BYTES:
            return _nothing(f"the data are larger than {MOST_BYTES / 2**20:.0f} MiB")
        if calls_python(dataset):
            return _nothing("the data come from Python code, which gives them only once")
        return check(model, dataset)
    except Exception as error:  # No check may end the training.
        return Checks((), (), (f"all: {_reason(error)}",))


def _nothing(reason):
    return Checks((), (), (f"all: {reason}; call mnist_vg.check(model, x, y) before fit",))


class _Checking:
    """One call of `check`: what was found, looked at and skipped so far."""

    def __init__(self, model, data: Data, class_weight):
        self._model, self._data, self._class_weight = model, data, class_weight
        self._findings: list[Finding] = []
        self._looked, self._skipped = [f"data: {data.looked}"], []
        self._heads: list = []
        self._spoilt = False
        """Whether something was found that changes every gradient."""

    def result(self) -> Checks:
        self._found(check_values(self._data))
        look = Look(self._model, self._data.batches, self._data.all_targets)
        if self._tried("network", look.build):
            self._tried("weights and learning rate", self._look_at_weights)
            self._look_at_heads(look)
            self._look_at_steps(look)
        return Checks(tuple(self._findings), tuple(self._looked), tuple(self._skipped))

    def _found(self, findings, spoil=True):
        self._findings += findings
        self._spoilt |= spoil and bool(findings)

    def _tried(self, what, function):
        """Whether a part of the checks could be done; if not, the reason is noted.

        The model's code and the data are someone else's, and may raise anything.
        """
        try:
            function()
        except Exception as error:
            self._skipped.append(f"{what}: {_reason(error)}")
            return False
        return True

    def _look_at_weights(self):
        self._found(check_weights(self._model))
        frozen = share_frozen(self._model)
        self._looked.append(f"network: initial weights, of which {frozen:.0%} are frozen")
        if self._model.compiled:
            self._found(check_rate_alone(self._model.optimizer))

    def _look_at_heads(self, look):
        if reason := self._no_loss():
            self._skipped.append(f"head and labels: {reason}")
            return

        def heads():
            self._heads = look.heads()
            for head in self._heads:
                self._found(check_head(head))
                if all(batch.sample_weight is None for batch in self._data.batches):
                    self._found(check_classes(head, self._class_weight), spoil=False)

        if self._tried("head and labels", heads):
            names = ", ".join(head.loss.name for head in self._heads)
            self._looked.append(f"head and labels: what {names} compares")

    def _no_loss(self):
        if not self._model.compiled:
            return "the model is not compiled"
        if self._model.loss is None:
            return "the model has no loss"
        return "" if self._data.targets else "there are no targets"

    def _look_at_steps(self, look):
        what = "gradients, scale of inputs, learning rate"
        reason = "the model is not compiled" if not self._model.compiled else ""
        if not reason and has_own_train_step(self._model):
            reason = "the model has a train_step of its own"
        if not reason and self._spoilt:
            reason = "what was found above changes every gradient"
        if reason:
            self._skipped.append(f"{what}: {reason}")
        elif self._tried(what, lambda: self._judge(look)):
            self._looked.append(f"{what}: {len(self._data.batches)} training steps, taken back")

    def _judge(self, look):
        steps = look.steps()
        self._found(check_finite(steps))
        if self._spoilt:
            return
        self._found(check_scale(steps, lambda factors: look.steps(factors=factors)))
        self._found(check_gradients(self._model, steps, lambda nudges: look.steps(nudges=nudges)))
        if not self._spoilt:
            self._found(check_time(self._model, steps))
            self._looked += reach_in_time(steps.times)
        if not self._spoilt:
            self._found(check_depth(self._model, steps))
        if not self._spoilt:
            weights = [tf.convert_to_tensor(v.value) for v in self._model.trainable_variables]
            norm = float(tf.linalg.global_norm(weights))
            self._found(check_updates(self._model.optimizer, steps, self._heads, norm))


def _reason(error):
    """The error in a line, without the frame that Keras puts around what a `call` raises."""
    framed = re.search(r"\x1b\[1m(.+)", str(error))
    line = framed[1].replace("\x1b[0m", "") if framed else first_line(error)
    return f"{type(error).__name__}: {line}"
