"""`Crew`: hands jobs to workers, and notices what becomes of them."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from mnist_vg.errors import UsageError, first_line
from mnist_vg.service.messages import Ended, Progress, Ready, SweepProgress, Task
from mnist_vg.service.queue import STOPPED, Job, Queue

STOP_SECONDS = 10
"""A worker that has not stopped by then is killed. Its run goes on from its last checkpoint."""

AGAIN_SECONDS = 1
"""Time before something is tried again that may fail again: to write to a full disk, to start a
worker after one that ended before it was ready."""

_log = logging.getLogger(__name__)

Told = Callable[[str, dict[str, Any]], None]
"""Called with the kind of an event and its facts, from the crew's thread."""

Start = Callable[[], tuple[multiprocessing.Process, Connection]]
"""Starts a worker, and returns its process and the pipe to it; see `worker.start`."""


@dataclass
class _Worker:
    process: multiprocessing.Process
    pipe: Connection
    job: int | None = None
    ready: bool = False
    worn: bool = False
    stopped: bool = False
    stop_by: float | None = None


class Crew:
    """Keeps workers busy with the jobs of a queue. A thread of its own does so until `close`.

    Args:
        queue: of which no other crew takes jobs.
        size: how many workers train at a time.
        start: starts a worker.
        told: called with each event.
    """

    def __init__(self, queue: Queue, size: int, start: Start, told: Told):
        self._queue, self._size, self._start_worker, self._told = queue, size, start, told
        self._workers: list[_Worker] = []
        self._progress: dict[int, dict[str, Any]] = {}
        self._begun: dict[int, tuple[float, float]] = {}
        self._resumed: dict[int, tuple] = {}
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
        """How far a job is; empty before its first step.

        Returns:
            `share`, of the run in training or the sweep that is done, from 0 to 1; `pace`, of that
            share, per second; `seconds_left`, None if it cannot be known. Of a run also `run`, its
            name, `step`, `loss`, `accuracy`, `steps_per_second` and `symptoms`, lines; of a sweep,
            how many `networks` are done, and `of` how many.
        """
        with self._lock:
            return dict(self._progress.get(number, {}))

    def stop(self, number: int) -> None:
        """Stop the run of a job; what it has trained is saved."""
        with self._lock:
            for worker in self._workers:
                if worker.job == number:
                    worker.stopped = True
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
                worker.ready, worker.worn = True, worn
            case Progress(number, alone=alone, run=run, step=step):
                known = self._begin(message, run, step, alone)
                known |= {"run": run, "step": step, "loss": message.loss}
                known |= {"accuracy": message.accuracy}
                if known["pace"]:
                    known["steps_per_second"] = known["pace"] * (step + 1) / message.share
                known["symptoms"] = known.get("symptoms", []) + message.symptoms
                newest = {"layers": message.layers, "records": message.records}
                self._told("progress", {"job": number, **known, **newest})
            case SweepProgress(number, networks=networks, of=of):
                known = self._begin(message, None, networks, True)
                known |= {"networks": networks, "of": of}
                self._told("progress", {"job": number, **known})
            case Ended(number, state):
                worker.job, worker.ready, worker.stop_by = None, False, None
                self._resumed.pop(number, None)
                if state == STOPPED and not worker.stopped:  # The service ends.
                    self._note_end(number, self._queue.put_back)
                else:
                    self._note_end(number, self._queue.end, *message[1:])

    def _begin(self, message, run, at, alone):
        """What is known of the progress of a job; anew for another run of it."""
        number, share, now = message.number, message.share, time.monotonic()
        known = self._progress.get(number)
        if known is None or known.get("run") != run:
            known = self._progress[number] = {}
            self._begun[number] = share, now
            # Further than where its last worker began: what was trained in between is saved.
            if self._resumed.get(number, (run, at)) != (run, at):
                self._queue.went_on(number)
            self._resumed[number] = run, at
        begun, since = self._begun[number]
        if share == begun:  # Until it advances, it starts.
            since = now
            self._begun[number] = begun, since
        pace = (share - begun) / (now - since) if now > since else 0
        left = (1 - share) / pace if pace and alone else None
        known |= {"share": share, "pace": pace, "seconds_left": left}
        return known

    def _note_end(self, number, note, *facts):
        """Note in the queue what has become of a job; where that fails, again later."""
        self._progress.pop(number, None)
        self._begun.pop(number, None)

        def noted():
            note(number, *facts)
            return number

        self._ended.append(noted)

    def _hire(self):
        """Start as many workers as are lacking. A worn one leaves once a fresh one is ready."""
        while not self._closing and len(self._fresh()) < self._size:
            self._workers.append(_Worker(*self._start_worker()))
        if all(worker.ready or worker.job is not None for worker in self._fresh()):
            for worker in [w for w in self._workers if w.worn and w.job is None]:
                self._dismiss(worker)

    def _fresh(self):
        return [worker for worker in self._workers if not worker.worn]

    def _hand_out(self):
        for worker in sorted(self._workers, key=lambda worker: worker.worn):
            busy = sum(worker.job is not None for worker in self._workers)
            if worker.ready and worker.job is None and not self._closing and busy < self._size:
                job = self._queue.take()
                if job is None:
                    return
                self._hand(worker, job)

    def _hand(self, worker, job: Job):
        worker.job, worker.stopped = job.number, False
        try:
            worker.pipe.send(Task(job.number, job.request, job.name))
        except OSError:
            self._lost(worker)
        else:
            self._tell_state(job.number)

    def _dismiss(self, worker):
        self._workers.remove(worker)
        worker.process.kill()
        worker.process.join()

    def _lost(self, worker):
        """A worker has ended by itself, or was killed."""
        self._dismiss(worker)
        if worker.job is None:
            if not worker.ready:
                self._try_again()
        elif worker.stopped:
            self._note_end(worker.job, self._queue.end, STOPPED)
        elif self._closing:
            self._note_end(worker.job, self._queue.put_back)
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
