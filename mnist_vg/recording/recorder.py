"""`Recorder`: records any training loop of your own."""

import contextlib
import dataclasses
import math
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

from mnist_vg.checks.findings import Finding
from mnist_vg.diagnosis.symptoms import NO_GRADIENT
from mnist_vg.errors import UsageError
from mnist_vg.keras_models.layer_names import name_as_recorded
from mnist_vg.keras_models.taps import tapped_layers
from mnist_vg.recording.probe import Probe
from mnist_vg.recording.run_writer import RunWriter
from mnist_vg.runs.events import lengths_before, read_events
from mnist_vg.runs.folder import claim_folder, free_folder, newest_folder, remove_run
from mnist_vg.runs.history import History
from mnist_vg.runs.marks import marks_line
from mnist_vg.runs.paths import as_path
from mnist_vg.runs.run import Run, versions
from mnist_vg.runs.tags import LOSS_TRAIN
from mnist_vg.scenarios.scenario import MEASURES

_open: weakref.WeakValueDictionary[Path, "Recorder"] = weakref.WeakValueDictionary()


_folders: weakref.WeakKeyDictionary[keras.Model, dict[Path, Path]] = weakref.WeakKeyDictionary()


def _folders_of(model):
    """Where each run of a model went, by the folder that was named for it."""
    return {} if model is None else _folders.setdefault(model, {})


class Recorder:
    """Records what every layer's gradient and weights do, in a training loop of your own.

    ```python
    recorder = Recorder("logdir/my_loop", model, every=100)
    recorder.record(step, gradients, variables, loss=loss)  # eager or in a tf.function
    ```

    Run folder, tags and measures are the same as for every other run of this package. If
    the folder holds a run, the loop resumes it at `initial_step`, and its records from that
    step on are removed; without an `initial_step`, the new run goes to a folder beside it:
    `my_loop-2`. If there are several, a loop resumes the run of its model or, if that is not
    known, the newest. Use the recorder as a context manager or call `finish`, so that the run is
    marked as finished.

    Args:
        folder: the run folder; made if it is missing. It may be remote (`gs://…`): records
            are then uploaded twice a minute, and a kill loses those since the last upload.
        model: gives the names of the layers; without a model the variables' paths serve.
        every: steps between two records.
        layers: a regular expression; only layers whose path contains it are recorded.
        histograms: whether to record histograms.
        measures: "default", or "full" to add norms, spreads and shares; within `watch` also
            activations and updates.
        initial_step: the first step to come, if the loop resumes a run.
        overwrite: replace a run that the folder holds.
        settings: further facts about the run, for its text card and `run.json`.
        steps_per_epoch: updates per epoch, for figures over epochs.

    Raises:
        UsageError: an argument is not allowed, or the folder cannot be claimed.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        model: keras.Model | None = None,
        *,
        every: int = 1,
        layers: str = "",
        histograms: bool = True,
        measures: str = "default",
        initial_step: int = 0,
        overwrite: bool = False,
        settings: Mapping | None = None,
        steps_per_epoch: float | None = None,
    ):
        if measures not in MEASURES:
            raise UsageError(f"measures: {measures!r} is not one of {', '.join(MEASURES)}")
        self.folder = run_folder(folder)
        self._told_marks: dict[str, str] = {}
        self._every = check_every(every)
        self._named = self.folder
        if initial_step and not overwrite:
            self.folder = _folders_of(model).get(self._named) or newest_folder(self._named)
        if model is not None and initial_step and not overwrite:
            name_as_recorded(model, _recorded_layers(self.folder))
        self.probe = Probe(model, layers, bool(histograms), measures == "full")
        """Turns gradients into records; the same for all fits of a model."""
        if not isinstance(settings, (Mapping, type(None))):
            raise UsageError(f"settings: {settings!r} must be a mapping of names to values")
        self._settings = _plain({"every": every, "measures": measures, **(settings or {})})
        self._steps_per_epoch = steps_per_epoch
        self._taps = None
        self.open(initial_step, overwrite)

    def open(self, initial_step: int = 0, overwrite: bool = False) -> None:
        """Claim the folder, and begin a run there or resume it at `initial_step`.

        If the folder holds a run that this one may not resume or replace, the new run goes
        to a folder beside it, and a line says so.

        Raises:
            UsageError: `initial_step` is not allowed, or the folder cannot be claimed.
        """
        if not isinstance(initial_step, (int, np.integer)) or initial_step < 0:
            raise UsageError(f"initial_step: {initial_step!r} must be a whole number, 0 or more")
        resumed = None if overwrite else self._resumable(initial_step)
        earlier = _open.get(self.folder.resolve())
        if earlier is not None:
            # A loop that raised has left it open: in a notebook nothing else closes it.
            earlier.close()
        with contextlib.ExitStack() as stack:
            stack.enter_context(claim_folder(self.folder))
            if resumed is None:
                remove_run(self.folder)
            run = resumed or self._new_run()
            lengths = lengths_before(self.folder, int(initial_step)) if resumed else []
            self._writer = stack.enter_context(contextlib.closing(RunWriter(run, lengths)))
            self._claimed = stack.pop_all()
        self._last_step = initial_step - 1
        _open[self.folder.resolve()] = self
        _folders_of(self.probe.model)[self._named] = self.folder

    def _resumable(self, initial_step):
        """The run to resume. None for a new run, which another folder gets if this one is taken."""
        run = Run.load(self.folder)
        if run is None or next(read_events(self.folder), None) is None:
            return None  # What is there ended before its first record.
        if initial_step and run.dataset is None:
            afresh = {"status": "running", "results": None, "verdict": None, "checksums": {}}
            return dataclasses.replace(run, **afresh)
        taken, self.folder = self.folder, free_folder(self.folder)
        print(
            f"{taken} holds a run already; this one goes to {self.folder} (with overwrite=True it "
            "replaces that run)"
        )
        return None

    def _new_run(self):
        return Run(
            self.folder,
            "running",
            {"name": self.folder.name, **self._settings},
            None,
            versions(),
            steps_per_epoch=self._steps_per_epoch,
        )

    @property
    def run(self) -> Run:
        """The run as `run.json` tells it."""
        return self._writer.run

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind, *exception) -> None:
        if kind is None:
            self.finish()
        else:
            self.close()

    @tf.autograph.experimental.do_not_convert
    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Within the context, `record` also takes activations and updates, for a full record.

        ```python
        with recorder.watch():
            with tf.GradientTape() as tape:
                loss = compute_loss(model(inputs, training=True), labels)
            gradients = tape.gradient(loss, variables)
            recorder.record(step, gradients, variables, loss=loss)
            optimizer.apply(gradients, variables)
        ```

        It holds one forward pass, one call of `record` and the update, eagerly or in a
        `tf.function`. The record is written at its end. In a `tf.function`, each step that
        is recorded keeps a copy of the weights until then.
        """
        if not self.probe.full:
            yield
            return
        with tapped_layers(self.probe.model, self.probe.pattern) as self._taps:
            self._finish_record = lambda: None
            try:
                yield
                self._finish_record()
            finally:
                self._taps = None

    @tf.autograph.experimental.do_not_convert
    def record(self, step, gradients, variables, loss=None) -> None:
        """Record one step if it is due; otherwise do nothing.

        In a `tf.function` the measures are computed in the graph, and a call back into
        Python writes them. With `jit_compile=True` a function cannot call back: call
        `measure` inside it, and `write` with its result outside.

        Args:
            step: the optimizer update that the gradients are for, counted from 0.
            gradients: one per variable; None for a variable without a gradient.
            variables: the variables, not updated yet.
            loss: of the step's batch.

        Raises:
            UsageError: the step is not after the one before, or the function is compiled
                with `jit_compile=True`.
        """
        if not tf.as_dtype(getattr(step, "dtype", None) or np.asarray(step).dtype).is_integer:
            raise UsageError(f"step: {step!r} must be a whole number")
        if not tf.executing_eagerly() and GraphOrParentsInXlaContext(
            tf.compat.v1.get_default_graph()
        ):
            raise UsageError(
                "record: it cannot write from a function that is compiled with jit_compile=True; "
                "compile that function (in fit: the model) with jit_compile=False, or call "
                "measure in it and write outside"
            )
        step = tf.cast(step, tf.int64)
        due = step % self._every == 0
        losses = [] if loss is None else [_one_number(loss)]
        if self._taps is None:
            self._where(due, lambda: self._send(step, self.measure(gradients, variables), losses))
            return
        activations = self._taps.take()
        measured, before = tf.cond(
            due,
            lambda: (
                self.probe.measure(gradients, variables, activations=activations),
                [tf.identity(variable) for variable in variables],
            ),
            lambda: (tf.zeros([0], tf.float64), [tf.zeros([0], v.dtype) for v in variables]),
        )

        def finish():
            earlier = [tf.ensure_shape(w, v.shape) for w, v in zip(before, variables, strict=True)]
            moved = self.probe.distances(variables, earlier)
            self._send(step, measured, losses, [moved])

        self._finish_record = lambda: self._where(due, finish)

    def _where(self, due, branch):
        tf.cond(due, branch, lambda: None)

    def _send(self, step, measured, losses, moved=()):
        """Write a record, eagerly or from a graph."""

        def write(step, measured, *others):
            losses, moved = others[:count], others[count:]
            scalars = dict(zip([LOSS_TRAIN], map(float, losses), strict=False))
            self.write(int(step), np.asarray(measured), scalars, *map(np.asarray, moved))

        count = len(losses)
        arguments = [step, measured, *losses, *moved]
        if tf.executing_eagerly():
            write(*arguments)
        else:
            tf.numpy_function(write, arguments, [])

    def measure(self, gradients, variables) -> tf.Tensor:
        """Turn a step's gradients into the numbers of a record, eagerly or in a graph.

        Args:
            gradients: one per variable; None for a variable without a gradient.
            variables: the variables, not updated yet.

        Returns:
            What `write` takes, float64 `[numbers]`.

        Raises:
            UsageError: gradients and variables do not fit each other, or are not those
                of the record before.
        """
        return self.probe.measure(gradients, variables)

    def write(self, step: int, measured, scalars: Mapping[str, float], moved=None) -> None:
        """Write a record, and print one line for each symptom that it makes certain.

        One more line names the layers that get no gradient and those that are frozen, at the
        first record and where that changes.

        Args:
            step: the optimizer update, counted from 0.
            measured: what `measure` returned at that step.
            scalars: tag to value.
            moved: norm of each layer's update, `[layers]`, for the full record.

        Raises:
            UsageError: the step is not after the one before.
        """
        self.write_tables(step, self.probe.tables(measured, moved), scalars)

    def write_tables(self, step: int, tables: Sequence, scalars: Mapping[str, float]) -> None:
        """Write a record of what `Probe.tables` returned; see `write`."""
        if step <= self._last_step:
            raise UsageError(
                f"step: {step} comes after {self._last_step}, and steps must rise; begin another "
                "folder, or name the first step to come with initial_step"
            )
        self._check_open()
        evidence = self._writer.record(step, scalars, tables)
        self._last_step = step
        lines = [
            f" at step {step}: {symptom.line}"
            for symptom in evidence
            if symptom.symptom != NO_GRADIENT  # The line on all such layers says it.
        ]
        if self.run.layer_marks != self._told_marks:
            self._told_marks = self.run.layer_marks
            lines[:0] = [f": {marks_line(self._told_marks)}"] if self._told_marks else []
        for line in lines:
            # A progress bar may stand in the line.
            print(f"\n{self.run.name}{line}")

    def note(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write further numbers, tag to value, outside the records.

        Raises:
            UsageError: the recorder is closed.
        """
        self._check_open()
        self._writer.note(step, scalars)

    def note_findings(self, findings: Sequence[Finding]) -> None:
        """Keep what `mnist_vg.check` found before the first step, and print a line for each."""
        self._check_open()
        if findings:
            self._writer.note_findings(self._last_step + 1, [*map(dataclasses.asdict, findings)])
        for finding in findings:
            print(f"\n{self.run.name} before its first step: {finding.line}")

    def _check_open(self):
        if _open.get(self.folder.resolve()) is not self:
            raise UsageError(
                f"folder: {self.folder} is closed for this recorder, or taken over by another one"
            )

    def finish(self, results: Mapping[str, float] | None = None) -> None:
        """Mark the run as finished, and release its folder.

        Args:
            results: name to number, for its text card and `run.json`.
        """
        if _open.get(self.folder.resolve()) is self:
            self._writer.conclude(self._writer.read_back(), results or {})
        self.close()

    def break_off(self) -> None:
        """End a run that cannot be written any more, and mark it as broken, as far as possible."""
        self._writer.break_off()
        with contextlib.suppress(OSError):
            self.close()

    def close(self) -> None:
        """Release the folder, with all that was recorded in it."""
        self._claimed.close()
        if _open.get(self.folder.resolve()) is self:
            del _open[self.folder.resolve()]


def run_folder(folder) -> Path:
    """The run folder as a path.

    Raises:
        UsageError: it is no path, or the path of a file.
    """
    if not isinstance(folder, (str, os.PathLike)) or not str(folder):
        raise UsageError(f"folder: {folder!r} must be a path, such as 'logdir/my_run'")
    folder = as_path(folder)
    if folder.is_file():
        raise UsageError(f"folder: {folder} is a file; name a folder")
    return folder


def check_every(every, otherwise: str = "") -> int:
    """The number of steps between two records.

    Raises:
        UsageError: it is not a whole number of 1 or more; `otherwise` says what else it may be.
    """
    if not isinstance(every, (int, np.integer)) or isinstance(every, bool) or every < 1:
        raise UsageError(f"every: {every!r} must be a whole number of steps, 1 or more{otherwise}")
    return int(every)


def _recorded_layers(folder):
    history = History.read(folder)
    return [*history.get("layers", ()), *history.get("activation_layers", ())]


def _one_number(loss):
    if len(loss.shape if hasattr(loss, "shape") else ()) > 0:
        raise UsageError(f"loss: its shape is {tuple(loss.shape)}; pass one number, the mean, say")
    return loss


def _plain(settings):
    """Settings in a form that JSON and the HParams tab can hold."""
    plain = {
        key: value.item() if isinstance(value, np.generic) else value
        for key, value in settings.items()
    }
    for key, value in plain.items():
        finite = not isinstance(value, float) or math.isfinite(value)
        if not isinstance(value, (bool, int, float, str, type(None))) or not finite:
            raise UsageError(
                f"settings: {key}={value!r} must be a truth value, a finite number, text or None"
            )
    return plain
