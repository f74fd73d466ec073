"""Runs scenarios, each into a folder of its own."""

import contextlib
import dataclasses
import itertools
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mnist_vg import datasets, figures, runs
from mnist_vg.errors import RunFailed, UsageError
from mnist_vg.report import result_row
from mnist_vg.runs import Run
from mnist_vg.scenarios import Scenario
from mnist_vg.suites import find_scenario
from mnist_vg.tags import (
    ACCURACY_TEST,
    ACCURACY_TRAIN,
    DECISION_AXIS,
    DECISION_POINTS,
    DECISION_PROBABILITY,
    GRADIENT_FLOW,
    KERNELS,
    LOSS_TEST,
    LOSS_TRAIN,
    layer_tag,
)

if TYPE_CHECKING:
    from mnist_vg.training import Block

CHECKPOINT_SECONDS = 10.0
"""Time between two checkpoints: what a killed run may lose."""

DECISION_GRID = 100
"""Points along either input at which the finished network of two inputs is asked."""

Watcher = Callable[[Scenario, "Block"], None]
"""Called after each block of steps, for a display."""


def train(
    scenario: Scenario | str,
    logdir: str | os.PathLike = "logdir",
    *,
    data_dir: str | os.PathLike | None = None,
    overwrite: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    watch: Watcher = lambda scenario, block: None,
) -> Run:
    """Train one scenario into its own folder, `logdir/<its name>`.

    A run that was killed or interrupted goes on where its checkpoint stands, and
    ends bit for bit as if it had never stopped. A finished run is not trained
    again: it is returned as it is.

    Args:
        scenario: what to train, or the name of a known scenario.
        logdir: the folder that TensorBoard is pointed at.
        data_dir: where TFDS keeps prepared data sets; its own default with None.
        overwrite: remove the run that the folder holds, and train anew.
        checkpoint_seconds: time between two checkpoints.
        watch: called after each block of steps.

    Returns:
        The finished run; its `history` has what was recorded, as arrays.

    Raises:
        UsageError: the request cannot be carried out; nothing was changed.
        RunFailed: the run broke half way; the same call goes on with it.
        KeyboardInterrupt: everything is written, and the same call goes on.
    """
    [run] = train_all(
        [scenario],
        logdir,
        data_dir=data_dir,
        overwrite=overwrite,
        checkpoint_seconds=checkpoint_seconds,
        watch=watch,
    )
    return run


def train_all(
    scenarios: Iterable[Scenario | str],
    logdir: str | os.PathLike = "logdir",
    *,
    data_dir: str | os.PathLike | None = None,
    overwrite: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    watch: Watcher = lambda scenario, block: None,
) -> Iterator[Run]:
    """Train scenarios one after another, after a look at all of their folders.

    Neighbours of one structure share a compiled program, and while they train, the
    next one is compiled. Arguments and errors are those of `train`.
    """
    scenarios = [find_scenario(s) if isinstance(s, str) else s for s in scenarios]
    names = {scenario.name for scenario in scenarios}
    if len(names) < len(set(scenarios)):
        raise UsageError("name: two different scenarios have one name, so one folder; rename one")
    if not checkpoint_seconds >= 0:
        raise UsageError(f"checkpoint_seconds: {checkpoint_seconds} must be 0 or more")
    folders = {scenario: Path(logdir) / scenario.name for scenario in scenarios}
    found = {s: runs.check(folder, s, overwrite) for s, folder in folders.items()}
    waiting = [s for s, run in found.items() if run is None or run.status != "finished"]
    for scenario in waiting:
        if (folders[scenario] / runs.LOCK_FILE).exists():
            with runs.claim(folders[scenario]):
                pass  # Refused now, if at all, and not after the seconds of compiling.
    ahead = ThreadPoolExecutor(1)
    # One ahead and no more: each holds its data set on the device.
    groups = [list(group) for _, group in itertools.groupby(waiting, key=Scenario.structure)]
    firsts = [group[0] for group in groups]
    upcoming = iter(firsts)

    def prepare_next():
        scenario = next(upcoming, None)
        return scenario and ahead.submit(_prepare, scenario, data_dir)

    try:
        prepared = prepare_next()
        for scenario, run in found.items():
            if scenario in waiting:
                if scenario in firsts:
                    dataset, trainer = prepared.result()
                    prepared = prepare_next()
                else:
                    _restart(trainer, scenario, dataset)
                folder = folders[scenario]
                run = _train(
                    scenario, folder, dataset, trainer, overwrite, checkpoint_seconds, watch
                )
            yield run
    finally:
        # After Ctrl-C nobody waits for the compiler.
        ahead.shutdown(wait=False, cancel_futures=True)


def _prepare(scenario, data_dir):
    """The data set and the compiled trainer of a scenario."""
    _import_tensorflow()

    from mnist_vg.training import Trainer, make_model, make_optimizer

    dataset = datasets.load(scenario.dataset, data_dir)
    with _makes_a_network(scenario):
        trainer = Trainer(
            make_model(scenario, dataset),
            make_optimizer(scenario),
            dataset.train,
            scenario.batch_size,
            scenario.seed,
            partial_batches=scenario.partial_batches,
            full=scenario.measures == "full",
        )
        trainer.compile()
    return dataset, trainer


def _restart(trainer, scenario, dataset):
    from mnist_vg.training import make_model, make_optimizer

    with _makes_a_network(scenario):
        trainer.restart(make_model(scenario, dataset), make_optimizer(scenario), scenario.seed)


@contextlib.contextmanager
def _makes_a_network(scenario):
    import tensorflow as tf

    try:
        yield
    except (ValueError, TypeError, MemoryError, RecursionError, tf.errors.OpError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"scenario: {scenario.name!r} makes no network: {reason}") from error


def _import_tensorflow():
    """Import TensorFlow, and Keras on it, without the chatter of its start-up."""
    if "tensorflow" in sys.modules:
        return
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Some lines come before any setting is read.
    stderr = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        import tensorflow  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _train(scenario, folder, dataset, trainer, overwrite, checkpoint_seconds, watch):
    import tensorflow as tf

    with runs.claim(folder):
        try:
            # Another process may have written here since the first look.
            run = runs.check(folder, scenario, overwrite)
            if run is None:
                runs.remove_run(folder)
            elif run.status == "finished":
                return run
            elif run.dataset != dataset.name:
                raise UsageError(
                    f"dataset: {folder} was begun with {run.dataset}, not {dataset.name}; give the "
                    "same --data-dir, or replace that run with --overwrite"
                )
            with closing(_Session(scenario, folder, dataset, trainer)) as session:
                return session.train(checkpoint_seconds, watch)
        except (OSError, tf.errors.OpError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise RunFailed(
                f"run {scenario.name!r} broke at step {trainer.steps_done} of "
                f"{scenario.iterations}: {reason}; what was written is kept, and the same command "
                "(without --overwrite) goes on from its last checkpoint"
            ) from error


class _Session:
    """A run in the making, in a folder that this process has claimed."""

    def __init__(self, scenario, folder, dataset, trainer):
        from mnist_vg.summaries import EventLog
        from mnist_vg.training import Checkpoint

        self.scenario, self.dataset, self.trainer = scenario, dataset, trainer
        self.run = Run(folder, "running", scenario.settings(), dataset.name, runs.versions())
        self.checkpoint = Checkpoint(folder / runs.CHECKPOINT_FOLDER, trainer)
        notes = self.checkpoint.restore() or {"seconds": 0.0, "lengths": []}
        self._started = time.monotonic() - notes["seconds"]
        runs.cut_event_files(folder, notes["lengths"])
        self.run.save()
        self.log = EventLog(folder)
        if not notes["lengths"]:
            graph = trainer.model.forward_graph()
            about = f"{scenario.about} ({scenario.source})" if scenario.source else scenario.about
            self.log.describe(scenario.settings(), about, graph)

    def train(self, checkpoint_seconds, watch) -> Run:
        """Train to the end, or up to the block in which Ctrl-C came."""
        from mnist_vg.training import run_blocks

        saved = time.monotonic()
        with _interrupt_at_exit() as interrupted:
            for block in run_blocks(
                self.trainer, self.scenario.iterations, self.scenario.log_every
            ):
                if block.tables is not None:
                    scalars, kernels = self._scalars(block), _kernel_arrays(block.kernels)
                    self.log.record(block.step, scalars, block.tables, kernels)
                watch(self.scenario, block)
                if interrupted():
                    break
                if time.monotonic() - saved >= checkpoint_seconds:
                    self._save()
                    saved = time.monotonic()
            self._save()
            if self.trainer.steps_done < self.scenario.iterations:
                self._keep_run(status="interrupted")
            else:
                # Written after the last checkpoint: killed here, a run writes it once more.
                self._finish()
        return self.run

    def _finish(self):
        last = self.scenario.iterations - 1
        if self.scenario.measures == "full":
            # The weights that one more update would have found.
            last += 1
            tables, kernels = self.trainer.weights()
            self.log.record(last, {}, tables, _kernel_arrays(kernels) | self._decision())
        results = self._results()
        self.log.conclude(last, result_row([results]), figures.profile_picture(self.run))
        self._keep_run(status="finished", results=results)

    def _decision(self):
        """What a network of two inputs and two classes says of the plane around its examples."""
        train = self.dataset.train
        if (self.dataset.input_size, self.dataset.label_size) != (2, 2):
            return {}
        reach = 1.1 * np.abs(train.inputs).max()
        axis = np.linspace(-reach, reach, DECISION_GRID, dtype=np.float32)
        plane = np.stack(np.meshgrid(axis, axis), axis=-1)
        probability = self.trainer.probability(plane.reshape(-1, 2))
        return {
            DECISION_AXIS: axis,
            DECISION_PROBABILITY: probability.reshape(plane.shape[:2]),
            DECISION_POINTS: np.column_stack([train.inputs, train.labels]),
        }

    def close(self):
        """End the event file."""
        self.log.close()

    def _save(self):
        self.checkpoint.save(lengths=self.log.lengths(), seconds=self._seconds())

    def _seconds(self):
        return time.monotonic() - self._started

    def _keep_run(self, **changes):
        self.run = dataclasses.replace(self.run, seconds=self._seconds(), **changes)
        self.run.save()

    def _scalars(self, block):
        loss, accuracy = self.trainer.evaluate(self.dataset.test)
        return {
            LOSS_TRAIN: block.loss,
            ACCURACY_TRAIN: block.accuracy,
            LOSS_TEST: loss,
            ACCURACY_TEST: accuracy,
        }

    def _results(self):
        """The figures of the final weights, on whole splits, and of the gradient's way."""
        train_loss, train_accuracy = self.trainer.evaluate(self.dataset.train)
        test_loss, test_accuracy = self.trainer.evaluate(self.dataset.test)
        history = self.run.history
        flow = history[GRADIENT_FLOW][history["step"] < self.scenario.iterations]
        results = {
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
            "chance": self.dataset.chance,
            "first_gradient_ratio": 10.0 ** float(flow[0]),
            "last_gradient_ratio": 10.0 ** float(flow[-1]),
        }
        return {key: value if math.isfinite(value) else None for key, value in results.items()}


def _kernel_arrays(kernels):
    return {layer_tag(KERNELS, layer): kernel for layer, kernel in kernels.items()}


@contextlib.contextmanager
def _interrupt_at_exit():
    """Put Ctrl-C off to the end of the block, where the state of a run is whole.

    Yields a function that tells whether Ctrl-C came; if so, KeyboardInterrupt is
    raised at the end. A second Ctrl-C is not put off.
    """
    before = signal.getsignal(signal.SIGINT)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or not callable(before):  # a shell's `&` ignores Ctrl-C
        yield lambda: False
        return
    came = threading.Event()

    def handle(number, frame):
        came.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, handle)
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGINT, before)
    if came.is_set():
        raise KeyboardInterrupt
