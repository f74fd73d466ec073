"""`Crew`: hands jobs to workers, and notices what becomes of them."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any

from mnist_vg.runs.paths import as_path
from mnist_vg.service.queue import STOPPED, Job, Queue
from mnist_vg.service.worker import Ended, Progress, Ready, Task, work

STOP_SECONDS = 10
"""A worker that has not stopped by then is killed. Its run goes on from its last checkpoint."""

START_SECONDS = 1
"""Time before a worker is started again that ended before it was ready: it may do so again."""

Told = Callable[[str, dict[str, Any]], None]
"""Called with the kind of an event and its facts, from the crew's thread."""


@dataclass
class _Worker:
    process: Any
    pipe: Any
    job: int | None = None
    ready: bool = False
    retiring: bool = False
    stop_by: float | None = None
    started: float = field(default_factory=time.monotonic)


class Crew:
    """Keeps workers busy with the jobs of a queue. A thread of its own does so until `close`.

    Args:
        queue: of which no other crew takes jobs.
        logdir: the log folder, in which each run gets a folder of its name.
        workers: how many processes train at a time.
        data_dir: where TFDS keeps prepared data sets.
        told: called with each event.
    """

    def __init__(
        self,
        queue: Queue,
        logdir: str | os.PathLike,
        workers: int,
        data_dir: str | None,
        told: Told,
    ):
        self._queue, self._logdir, self._told = queue, as_path(logdir), told
        self._size, self._data_dir = workers, data_dir
        self._workers: list[_Worker] = []
        self._progress: dict[int, dict[str, Any]] = {}
        self._closing = False
        self._lock = threading.RLock()
        self._awake, self._wake = multiprocessing.Pipe(duplex=False)
        self._thread = threading.Thread(target=self._run, name="crew", daemon=True)

    def start(self) -> None:
        """Start the workers."""
        self._thread.start()

    def look(self) -> None:
        """Look at the queue: it has changed."""
        self._wake.send_bytes(b"!")

    def progress(self, number: int) -> dict[str, Any]:
        """How far a job is: step, loss, accuracy, steps a second; empty before its first step."""
        with self._lock:
            return dict(self._progress.get(number, {}))

    def stop(self, number: int) -> None:
        """Stop the run of a job; what it has trained is saved."""
        with self._lock:
            for worker in self._workers:
                if worker.job == number:
                    _interrupt(worker)

    def close(self) -> None:
        """Stop all runs, whose jobs wait for the next start, and end the workers."""
        with self._lock:
            self._closing = True
            for worker in self._workers:
                if worker.job is not None:
                    _interrupt(worker)
        self.look()
        self._thread.join(STOP_SECONDS + 1)
        for worker in self._workers:
            worker.process.kill()

    def _run(self):
        while True:
            with self._lock:
                self._hire()
                self._hand_out()
                if self._closing and not any(worker.job for worker in self._workers):
                    return
                waited = [self._awake]
                waited += [w.pipe for w in self._workers] + [
                    w.process.sentinel for w in self._workers
                ]
                soon = min((w.stop_by for w in self._workers if w.stop_by), default=None)
            for there in wait(waited, None if soon is None else max(0, soon - time.monotonic())):
                with self._lock:
                    self._hear(there)
            self._kill_late()

    def _hear(self, there):
        if there is self._awake:
            self._awake.recv_bytes()
            return
        for worker in list(self._workers):
            if there is worker.pipe:
                try:
                    self._take(worker, worker.pipe.recv())
                except (EOFError, OSError):
                    self._lost(worker)
            elif there == worker.process.sentinel and not worker.pipe.poll():
                self._lost(worker)

    def _take(self, worker, message):
        match message:
            case Ready(worn):
                worker.ready, worker.retiring = True, worn
            case Progress(number):
                self._note(message)
                newest = {"layers": message.layers, "records": message.records}
                self._told("progress", {"job": number, **self._progress[number], **newest})
            case Ended(number, state, reason):
                if state == STOPPED and self._closing:
                    self._queue.put_back(number)
                else:
                    self._queue.end(number, state, reason)
                worker.job, worker.ready, worker.stop_by = None, False, None
                self._progress.pop(number, None)
                self._tell_state(number)

    def _note(self, message):
        now = time.monotonic()
        known = self._progress.get(message.number, {})
        if known.get("run") != message.run:
            known = {"first": (message.step, now), "symptoms": []}
            self._progress[message.number] = known
        step, since = known["first"]
        rate = (message.step - step) / (now - since) if now > since else None
        known |= {
            "run": message.run,
            "step": message.step,
            "loss": message.loss,
            "accuracy": message.accuracy,
            "steps_per_second": rate,
            "symptoms": known["symptoms"] + message.symptoms,
        }

    def _hire(self):
        """Start as many workers as are lacking. One that is worn is replaced before it leaves."""
        for worker in [w for w in self._workers if w.retiring]:
            self._workers.remove(worker)
            worker.pipe.close()
        while not self._closing and len(self._workers) < self._size:
            ours, theirs = multiprocessing.Pipe()
            threads = max(1, (os.cpu_count() or 1) // self._size)
            process = multiprocessing.get_context("spawn").Process(
                target=work, args=(theirs, self._data_dir, threads), daemon=True
            )
            process.start()
            theirs.close()
            self._workers.append(_Worker(process, ours))

    def _hand_out(self):
        for worker in self._workers:
            if worker.ready and worker.job is None and not self._closing:
                job = self._queue.take()
                if job is None:
                    return
                self._hand(worker, job)

    def _hand(self, worker, job: Job):
        worker.job = job.number
        try:
            worker.pipe.send(Task(job.number, job.request, str(self._logdir)))
        except OSError:
            self._lost(worker)
        self._tell_state(job.number)

    def _lost(self, worker):
        """A worker has ended by itself, or was killed."""
        self._workers.remove(worker)
        worker.process.join()
        if worker.job is not None:
            stopped = worker.stop_by is not None and not self._closing
            if stopped:
                self._queue.end(worker.job, STOPPED)
            else:
                self._queue.put_back(worker.job)
            self._progress.pop(worker.job, None)
            self._tell_state(worker.job)
        elif not worker.ready and time.monotonic() - worker.started < START_SECONDS:
            time.sleep(START_SECONDS)

    def _kill_late(self):
        for worker in self._workers:
            if worker.stop_by and time.monotonic() >= worker.stop_by:
                worker.process.kill()

    def _tell_state(self, number):
        job = self._queue.job(number)
        facts = {"job": number, "name": job.name, "state": job.state}
        self._told("state", facts | ({"reason": job.reason} if job.reason else {}))


def _interrupt(worker):
    if worker.stop_by is None:
        worker.stop_by = time.monotonic() + STOP_SECONDS
        os.kill(worker.process.pid, signal.SIGINT)
