"""`Crew`: hands jobs to workers, and notices what becomes of them."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from mnist_vg.errors import UsageError, first_line
from mnist_vg.runs.paths import as_path
from mnist_vg.service.queue import STOPPED, Job, Queue
from mnist_vg.service.worker import Ended, Progress, Ready, Task, work

STOP_SECONDS = 10
"""A worker that has not stopped by then is killed. Its run goes on from its last checkpoint."""

AGAIN_SECONDS = 1
"""Time before something is tried again that may fail again: to write to a full disk, to start a
worker after one that ended before it was ready."""

_log = logging.getLogger(__name__)

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


class Crew:
    """Keeps workers busy with the jobs of a queue. A thread of its own does so until `close`.

    Args:
        queue: of which no other crew takes jobs.
        logdir: the log folder, in which each run gets a folder of its name.
        workers: how many processes train at a time.
        data_dir: where TFDS keeps prepared data sets.
        checkpoint_seconds: time between two checkpoints of a run.
        told: called with each event.
    """

    def __init__(
        self,
        queue: Queue,
        logdir: str | os.PathLike,
        workers: int,
        data_dir: str | None,
        checkpoint_seconds: float,
        told: Told,
    ):
        self._queue, self._logdir, self._told = queue, as_path(logdir), told
        self._size, self._data_dir = workers, data_dir
        self._checkpoint_seconds = checkpoint_seconds
        self._workers: list[_Worker] = []
        self._progress: dict[int, dict[str, Any]] = {}
        self._begun: dict[int, tuple[int, float]] = {}
        self._ended: list[Callable[[], int]] = []
        self._again: float | None = None
        self._trouble = ""
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
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS + 1)
        for worker in self._workers:
            worker.process.kill()

    def _run(self):
        while self._has_to_do():
            try:
                with self._lock:
                    self._do_next()
                    waited, seconds = self._waited_for()
                for there in wait(waited, seconds):
                    with self._lock:
                        self._hear(there)
            except Exception as error:  # Whatever it is, the queue goes on.
                if first_line(error) != self._trouble:
                    self._trouble = first_line(error)
                    _log.error("the service tries again: %s", self._trouble)
                self._try_again()

    def _has_to_do(self):
        return not self._closing or self._ended or any(w.job is not None for w in self._workers)

    def _do_next(self):
        self._kill_late()
        if self._again is not None and time.monotonic() < self._again:
            return
        self._again = None
        while self._ended:
            self._tell_state(self._ended[0]())
            del self._ended[0]
        self._hire()
        self._hand_out()

    def _try_again(self):
        self._again = time.monotonic() + AGAIN_SECONDS

    def _waited_for(self):
        """What has something to say, and the seconds after which there is something to do."""
        waited = [self._awake, *(worker.pipe for worker in self._workers)]
        waited += [worker.process.sentinel for worker in self._workers]
        times = [self._again, *(worker.stop_by for worker in self._workers)]
        soon = min((at for at in times if at is not None), default=None)
        return waited, None if soon is None else max(0, soon - time.monotonic())

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
                worker.job, worker.ready, worker.stop_by = None, False, None
                if state == STOPPED and self._closing:
                    self._note_end(number, self._queue.put_back)
                else:
                    self._note_end(number, self._queue.end, state, reason)

    def _note(self, message):
        now = time.monotonic()
        known = self._progress.get(message.number, {})
        if known.get("run") != message.run:
            known = self._progress[message.number] = {"symptoms": []}
            self._begun[message.number] = message.step, now
        step, since = self._begun[message.number]
        rate = (message.step - step) / (now - since) if now > since else None
        known |= {
            "run": message.run,
            "step": message.step,
            "loss": message.loss,
            "accuracy": message.accuracy,
            "steps_per_second": rate,
            "symptoms": known["symptoms"] + message.symptoms,
        }

    def _note_end(self, number, note, *facts):
        """Note in the queue what has become of a job; where that fails, again later."""
        self._progress.pop(number, None)
        self._begun.pop(number, None)

        def noted():
            note(number, *facts)
            return number

        self._ended.append(noted)

    def _hire(self):
        """Start as many workers as are lacking, also in place of one that is worn."""
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
        for worker in list(self._workers):
            if worker.ready and worker.job is None and not self._closing:
                job = self._queue.take()
                if job is None:
                    return
                self._hand(worker, job)

    def _hand(self, worker, job: Job):
        worker.job = job.number
        try:
            how = str(self._logdir), self._checkpoint_seconds
            worker.pipe.send(Task(job.number, job.request, *how))
        except OSError:
            self._lost(worker)
        else:
            self._tell_state(job.number)

    def _lost(self, worker):
        """A worker has ended by itself, or was killed."""
        self._workers.remove(worker)
        worker.process.kill()
        worker.process.join()
        if worker.job is None:
            if not worker.ready:
                self._try_again()
        elif self._closing:
            self._note_end(worker.job, self._queue.put_back)
        elif worker.stop_by is not None:
            self._note_end(worker.job, self._queue.end, STOPPED)
        else:
            self._note_end(worker.job, self._queue.lost)

    def _kill_late(self):
        for worker in self._workers:
            if worker.stop_by and time.monotonic() >= worker.stop_by:
                worker.process.kill()

    def _tell_state(self, number):
        try:
            job = self._queue.job(number)
        except UsageError:
            return  # It was removed meanwhile.
        facts = {"job": number, "name": job.name, "state": job.state}
        self._told("state", facts | ({"reason": job.reason} if job.reason else {}))


def _interrupt(worker):
    if worker.stop_by is None:
        worker.stop_by = time.monotonic() + STOP_SECONDS
        os.kill(worker.process.pid, signal.SIGINT)
