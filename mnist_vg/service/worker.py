"""A worker: a process that holds TensorFlow and compiled programs, and trains what it is given."""

import os
import signal
import threading
import time
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnist_vg.errors import RunFailed, UsageError, first_line
from mnist_vg.runs.tags import GRADIENT_MEAN_ABS

MOST_PROGRAMS = 8
"""Compiled programs that a worker keeps. Each holds its data set on the device."""

WORN_AFTER = 100
"""Programs after whose compiling a worker is replaced: a process has memory mappings for a few
hundred, and XLA does not give all of them back."""

TELL_SECONDS = 0.1
"""Time between two messages on how far a run is."""


class Task(NamedTuple):
    """What a worker is given.

    Attributes:
        number: of the job.
        request: see `queue.Job`.
        logdir: the log folder.
        checkpoint_seconds: time between two checkpoints of a run.
    """

    number: int
    request: dict[str, Any]
    logdir: str
    checkpoint_seconds: float


class Ready(NamedTuple):
    """The worker waits for a task; `worn` if it should get no more."""

    worn: bool


class Progress(NamedTuple):
    """How far a run is.

    Attributes:
        number: of the job.
        run: the name of the run in training.
        step: of the newest block's end, counted from 0.
        loss: of that step's batch.
        accuracy: of that step's batch.
        symptoms: lines of those that became certain since the last message.
        layers: names, the one nearest the input first.
        records: since the last message, each a step with the mean absolute gradient of each layer.
    """

    number: int
    run: str
    step: int
    loss: float
    accuracy: float
    symptoms: list[str]
    layers: list[str]
    records: list[tuple[int, list[float]]]


class Ended(NamedTuple):
    """How a task ended: "finished", "stopped" or "failed"; why it failed, or what came out."""

    number: int
    state: str
    reason: str


def work(pipe: Connection, data_dir: str | None, threads: int) -> None:
    """Train tasks as they come, until the pipe ends.

    Args:
        pipe: to the service. A `SIGINT` stops the run in training, which is saved.
        data_dir: where TFDS keeps prepared data sets.
        threads: of TensorFlow.
    """
    # Ctrl-C in the terminal is for the service, which then tells its workers.
    os.setsid()
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    programs = _programs(data_dir, threads)
    pipe.send(Ready(worn=False))
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(_train(task, programs, pipe))
        pipe.send(Ready(worn=programs.compiled >= WORN_AFTER))


def _programs(data_dir, threads):
    from mnist_vg.tensorflow_import import import_tensorflow

    import_tensorflow()

    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)

    from mnist_vg.training.warm_programs import WarmPrograms

    return WarmPrograms(MOST_PROGRAMS, data_dir)


def _train(task, programs, pipe):
    from mnist_vg.scenarios.scenario import Scenario
    from mnist_vg.scenarios.suites import described

    do = {"train": _train_run, "cure": _cure}[task.request["kind"]]
    try:
        # From here on, also while a program is compiled.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        scenario = described(Scenario(**task.request["settings"]))
        outcome = do(task, scenario, programs, _Teller(task.number, pipe))
        return Ended(task.number, "finished", outcome)
    except KeyboardInterrupt:
        return Ended(task.number, "stopped", "")
    except (UsageError, RunFailed) as error:
        return Ended(task.number, "failed", str(error))
    except Exception as error:
        return Ended(task.number, "failed", first_line(error))
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _train_run(task, scenario, programs, watch):
    from mnist_vg.runs.folder import check_folder
    from mnist_vg.training.session import train_run

    folder = Path(task.logdir, scenario.name)
    run = check_folder(folder, scenario)
    if run is None or run.status != "finished":
        dataset, trainer = programs.trainer(scenario)
        train_run(
            scenario,
            folder,
            dataset,
            trainer,
            overwrite=False,
            checkpoint_seconds=task.checkpoint_seconds,
            watch=watch,
        )
    return ""


def _cure(task, scenario, programs, watch):
    from mnist_vg.cure import cure

    seeds, data_dir = task.request["seeds"], programs.data_dir
    found = cure(scenario, task.logdir, seeds=seeds, data_dir=data_dir, watch=watch)
    if found.recommended is None:
        tried = f"{len(found.trials)} changes were tried"
        return "it is healthy as it is" if found.before.healthy else f"{tried}, and none helped"
    return f"recommended: {', '.join(found.recommended.words)}"


class _Teller:
    """Tells the service how far a run is."""

    def __init__(self, number, pipe):
        self._number, self._pipe = number, pipe
        self._told, self._symptoms, self._layers, self._records = 0.0, [], [], []

    def __call__(self, scenario, block, symptoms):
        self._symptoms += [evidence.line for evidence in symptoms]
        if block.tables is not None:
            (layers, measures), *_ = block.tables
            gradients = np.asarray(measures[GRADIENT_MEAN_ABS], float).tolist()
            self._layers = list(map(str, layers))
            self._records.append((block.step, gradients))
        now = time.monotonic()
        if now - self._told < TELL_SECONDS and block.step + 1 < scenario.iterations:
            return
        loss, accuracy = float(block.loss), float(block.accuracy)
        told = self._symptoms, self._layers, self._records
        self._pipe.send(Progress(self._number, scenario.name, block.step, loss, accuracy, *told))
        self._told, self._symptoms, self._records = now, [], []


def _end_with_parent():
    parent = parent_process()

    def wait():
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
