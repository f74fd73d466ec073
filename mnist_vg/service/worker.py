"""A worker: a process that holds TensorFlow and compiled programs, and trains what it is given."""

import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_vg.errors import RunFailed, UsageError, first_line
from mnist_vg.runs.run import CURE_FOLDER
from mnist_vg.runs.tags import GRADIENT_MEAN_ABS
from mnist_vg.service.messages import Ended, Place, Progress, Ready, SweepProgress, Task
from mnist_vg.service.queue import FAILED, FINISHED, STOPPED
from mnist_vg.sweeps.workers import start_resource_tracker

if TYPE_CHECKING:
    from mnist_vg.training.warm_programs import WarmPrograms

MOST_PROGRAMS = 8
"""Compiled programs that a worker keeps. Each holds its data set on the device."""

WORN_AFTER = 100
"""Programs after whose compiling a worker is replaced: a process has memory mappings for a few
hundred, and XLA does not give all of them back."""

TELL_SECONDS = 0.1
"""Time between two messages on how far a run is."""


def start(place: Place) -> tuple[multiprocessing.Process, Connection]:
    """Start a worker; return its process, and the pipe to it."""
    return start_process(work, place)


def start_process(target: Callable, *given: Any) -> tuple[multiprocessing.Process, Connection]:
    """Start a process that calls a function with a pipe and what is given; return both ends."""
    start_resource_tracker()
    ours, theirs = multiprocessing.Pipe()
    # Not a daemon: these may have no processes of their own, and a sweep has.
    process = multiprocessing.get_context("spawn").Process(target=target, args=(theirs, *given))
    process.start()
    theirs.close()
    return process, ours


def work(pipe: Connection, place: Place) -> None:
    """Train tasks as they come, until the pipe ends, or this process can train no more.

    Args:
        pipe: to the service. A `SIGINT` stops the run in training, which is saved.
        place: where and how.
    """
    # Ctrl-C in the terminal is for the service, which then tells its workers.
    os.setsid()
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    programs = _programs(place)
    pipe.send(Ready(worn=False))
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        ended, sound = perform(task, place, programs, pipe)
        pipe.send(ended)
        if not sound:
            return
        pipe.send(Ready(worn=programs.compiled >= WORN_AFTER))


def _programs(place):
    from mnist_vg.tensorflow_import import import_tensorflow

    import_tensorflow()

    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(place.threads)
    tf.config.threading.set_inter_op_parallelism_threads(place.threads)

    from mnist_vg.training.warm_programs import WarmPrograms

    return WarmPrograms(MOST_PROGRAMS, place.data_dir)


def perform(
    task: Task, place: Place, programs: "WarmPrograms | None", pipe: Connection
) -> tuple[Ended, bool]:
    """Train a task to its end; a `SIGINT` stops it.

    Args:
        task: what to train.
        place: where and how.
        programs: of runs; a sweep needs none.
        pipe: gets `Progress` and `SweepProgress`.

    Returns:
        How it ended, and whether this process can train more. It cannot after an import was
        interrupted: a package with compiled code may be half there, and cannot be imported again.
    """
    from mnist_vg.scenarios.scenario import Scenario
    from mnist_vg.scenarios.suites import described

    do = {"train": _train_run, "cure": _cure, "sweep": _sweep}[task.request["kind"]]
    cut = []

    def interrupt(number, frame):
        cut.append(_imports(frame))
        raise KeyboardInterrupt

    try:
        # From here on, also while a program is compiled.
        signal.signal(signal.SIGINT, interrupt)
        scenario = described(Scenario(**task.request["settings"]))
        done = do(task, place, scenario, programs, pipe.send)
        return Ended(task.number, FINISHED, *done), True
    except (KeyboardInterrupt, Exception) as error:
        # What was interrupted may tell it by an error of its own.
        if cut or isinstance(error, KeyboardInterrupt):
            return Ended(task.number, STOPPED, "", {}), not any(cut)
        told = isinstance(error, (UsageError, RunFailed))
        return Ended(task.number, FAILED, str(error) if told else first_line(error), {}), True
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _imports(frame):
    """Whether a frame is within an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _train_run(task, place, scenario, programs, tell):
    from mnist_vg.driver import train_all

    watch = _Teller(task.number, True, tell)
    list(train_all([scenario], place.logdir, **_how(place, programs), watch=watch))
    return "", {}


def _how(place, programs):
    return {"checkpoint_seconds": place.checkpoint_seconds, "trainers": programs.trainers}


def _cure(task, place, scenario, programs, tell):
    from mnist_vg.cure import cure
    from mnist_vg.driver import train_all

    train = functools.partial(train_all, **_how(place, programs))
    watch = _Teller(task.number, False, tell)
    found = cure(scenario, place.logdir, seeds=task.request["seeds"], watch=watch, train=train)
    before, after = found.before, found.recommended
    if after is None:
        tried = f"{len(found.trials)} changes were tried"
        return "it is healthy as it is" if before.healthy else f"{tried}, and none helped", {}
    name = f"{CURE_FOLDER}/{scenario.name}"
    return f"recommended: {', '.join(after.words)}", {
        "before": f"{name}/{before.runs[0].folder.name}",
        "after": f"{name}/{after.runs[0].folder.name}",
        "accuracy_before": before.accuracy,
        "accuracy_after": after.accuracy,
    }


def _sweep(task, place, scenario, programs, tell):
    from mnist_vg.service.requests import sweep_of
    from mnist_vg.sweeps.sweeper import Sweeper

    sweep, how = sweep_of(task.request), {"data_dir": place.data_dir, "workers": place.threads}
    sweeper = Sweeper(sweep, place.logdir, **how)
    teller = _SweepTeller(task.number, sweeper.plan, tell)
    try:
        sweeper.run(place.cluster, teller.watch, teller.advanced)
    except KeyboardInterrupt:
        # They would train their groups to the end.
        for child in multiprocessing.active_children():
            child.kill()
            child.join()
        raise
    return f"{len(sweep.scenarios)} networks", {}


class _Teller:
    """Tells the service how far a run is."""

    def __init__(self, number, alone, tell):
        self._number, self._alone, self._tell = number, alone, tell
        self._told, self._symptoms, self._layers, self._records = 0.0, [], [], []

    def __call__(self, scenario, block, symptoms):
        self._symptoms += [evidence.line for evidence in symptoms]
        if block.tables is not None:
            (layers, measures), *_ = block.tables
            gradients = np.asarray(measures[GRADIENT_MEAN_ABS], float).tolist()
            self._layers = list(map(str, layers))
            self._records.append((block.step, gradients))
        now, share = time.monotonic(), (block.step + 1) / scenario.iterations
        if now - self._told < TELL_SECONDS and share < 1:
            return
        loss, accuracy = float(block.loss), float(block.accuracy)
        told = self._symptoms, self._layers, self._records
        run = self._number, share, self._alone, scenario.name, block.step, loss, accuracy
        self._tell(Progress(*run, *told))
        self._told, self._symptoms, self._records = now, [], []


class _SweepTeller:
    """Tells the service how far a sweep is."""

    def __init__(self, number, plan, tell):
        self._number, self._plan, self._tell = number, plan, tell
        self._told, self._shares = 0.0, dict.fromkeys(plan.done, 1.0)
        self._networks = sum(len(plan.groups[n]) for n in plan.done)

    def watch(self, number, outcome):
        """A group is in the table."""
        self._shares[number] = 1.0
        self._networks += len(self._plan.groups[number])
        self._send()

    def advanced(self, number, share):
        """So much of a group is done."""
        self._shares[number] = share
        if time.monotonic() - self._told >= TELL_SECONDS:
            self._send()

    def _send(self):
        work = self._plan.work
        share = sum(work[n] * share for n, share in self._shares.items()) / sum(work)
        of = sum(map(len, self._plan.groups))
        self._tell(SweepProgress(self._number, share, self._networks, of))
        self._told = time.monotonic()


def end_with_parent() -> None:
    """Let this process end as soon as the one that started it has ended, however it ends."""
    parent = multiprocessing.parent_process()

    def wait():
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
