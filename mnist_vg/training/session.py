"""A run in the making: what is trained, recorded, saved and concluded in its folder."""

import contextlib
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mnist_vg.datasets import Dataset
from mnist_vg.diagnosis.verdict import Diagnosis, Monitor, diagnose
from mnist_vg.figures import drawings as figures
from mnist_vg.recording.event_log import EventLog
from mnist_vg.report import result_row
from mnist_vg.runs import events
from mnist_vg.runs import run as runs
from mnist_vg.runs.run import Run
from mnist_vg.runs.tags import (
    ACCURACY_TEST,
    ACCURACY_TRAIN,
    CHANCE_ACCURACY,
    CHANCE_LOSS,
    DECISION_AXIS,
    DECISION_POINTS,
    DECISION_PROBABILITY,
    GRADIENT_FLOW,
    KERNELS,
    LOSS_TEST,
    LOSS_TRAIN,
    layer_tag,
)
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.training.checkpoint import Checkpoint
from mnist_vg.training.trainer import Block, Trainer, run_blocks

DECISION_GRID = 100
"""Points along either input at which the finished network of two inputs is asked."""


class Session:
    """A run in the making, in a folder that this process has claimed.

    Args:
        scenario: what is trained.
        folder: the run's; what it holds of this run is gone on with.
        dataset: the scenario's.
        trainer: compiled, and at its beginning.
    """

    def __init__(self, scenario: Scenario, folder: Path, dataset: Dataset, trainer: Trainer):
        self.scenario, self.dataset, self.trainer = scenario, dataset, trainer
        self.run = Run(folder, "running", scenario.settings(), dataset.name, runs.versions())
        self.checkpoint = Checkpoint(folder / runs.CHECKPOINT_FOLDER, trainer)
        notes = self.checkpoint.restore() or {"seconds": 0.0, "lengths": []}
        self._started = time.monotonic() - notes["seconds"]
        events.cut_event_files(folder, notes["lengths"])
        self.run.save()
        self.log = EventLog(folder)
        if not notes["lengths"]:
            describe(self.log, scenario, dataset, trainer.model.forward_graph())
        # A copy, since what a run has read once it keeps.
        earlier = dataclasses.replace(self.run).history if notes["lengths"] else None
        self._monitor = Monitor(earlier)

    def train(self, checkpoint_seconds: float, watch: Callable[[Scenario, Block], None]) -> Run:
        """Train to the end, or up to the block in which Ctrl-C came."""
        saved = time.monotonic()
        with interrupt_at_exit() as interrupted:
            for block in run_blocks(
                self.trainer, self.scenario.iterations, self.scenario.log_every
            ):
                if block.tables is not None:
                    scalars, kernels = self._scalars(block), _kernel_arrays(block.kernels)
                    self.log.record(block.step, scalars, block.tables, kernels)
                    known = scalars | chance(self.dataset)
                    symptoms = self._monitor.record(block.step, known, block.tables)
                    block = block._replace(symptoms=symptoms)
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
        seconds = self._seconds()
        last = self.scenario.iterations - 1
        if self.scenario.measures == "full":
            # The weights that one more update would have found.
            last += 1
            tables, kernels = self.trainer.weights()
            self.log.record(last, {}, tables, _kernel_arrays(kernels) | self._decision())
            self.log.upload()
        flow = self.run.history[GRADIENT_FLOW]
        flow = flow[self.run.history["step"] < self.scenario.iterations]
        results = results_of(
            flow,
            self.trainer.evaluate(self.dataset.train),
            self.trainer.evaluate(self.dataset.test),
            self.dataset.chance,
        )
        diagnosis = diagnose(self.run.history, finished=True)
        self.run = conclude(self.run, self.log, last, results, diagnosis, seconds)

    def _decision(self):
        """What a network of two inputs and two classes says of the plane around its examples."""
        train = self.dataset.train
        plane_of_points = (self.dataset.input_size, self.dataset.label_size) == (2, 2)
        if not plane_of_points or train.inputs.dtype != np.float32:
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
        self.run = dataclasses.replace(self.run, **{"seconds": self._seconds(), **changes})
        self.run.save()

    def _scalars(self, block):
        test = self.trainer.evaluate(self.dataset.test)
        return scalars_of((block.loss, block.accuracy), test)


def describe(log: EventLog, scenario: Scenario, dataset: Dataset, graph) -> None:
    """Write the beginning of a run's log."""
    about = f"{scenario.about} ({scenario.source})" if scenario.source else scenario.about
    log.describe(scenario.settings(), about, graph)
    log.record(0, {}, arrays=chance(dataset))


def chance(dataset: Dataset) -> dict[str, float]:
    """What knowing nothing scores, by tag."""
    return {CHANCE_ACCURACY: dataset.chance, CHANCE_LOSS: dataset.chance_loss}


def scalars_of(train: tuple[float, float], test: tuple[float, float]) -> dict[str, float]:
    """Losses and accuracies of a record, the batch's and the test split's, by tag."""
    return dict(
        zip((LOSS_TRAIN, ACCURACY_TRAIN, LOSS_TEST, ACCURACY_TEST), train + test, strict=True)
    )


def results_of(
    flow: np.ndarray, train: tuple[float, float], test: tuple[float, float], chance: float
) -> dict[str, float | None]:
    """A run's results: of the final weights, and of the gradient's way.

    Args:
        flow: log10 of the first layer's gradient over the last one's, at each record.
        train: loss and accuracy on the whole training split.
        test: and on the test split.
        chance: test accuracy of knowing nothing.
    """
    results = {
        "train_loss": train[0],
        "train_accuracy": train[1],
        "test_loss": test[0],
        "test_accuracy": test[1],
        "chance": chance,
        "first_gradient_ratio": 10.0 ** float(flow[0]),
        "last_gradient_ratio": 10.0 ** float(flow[-1]),
    }
    return {key: value if math.isfinite(value) else None for key, value in results.items()}


def conclude(
    run: Run, log: EventLog, step: int, results: dict, diagnosis: Diagnosis, seconds: float
) -> Run:
    """Write the end of a run's log, of newest record `step`, and of its `run.json`."""
    log.conclude(step, result_row([results]), diagnosis, figures.profile_picture(run))
    ended = {"status": "finished", "results": results, "verdict": diagnosis.verdict}
    run = dataclasses.replace(run, **ended, seconds=seconds)
    run.save()
    return run


def _kernel_arrays(kernels):
    return {layer_tag(KERNELS, layer): kernel for layer, kernel in kernels.items()}


@contextlib.contextmanager
def interrupt_at_exit():
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
