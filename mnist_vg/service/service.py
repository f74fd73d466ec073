"""`Service`: a queue, its workers, and what is told of them."""

import contextlib
import dataclasses
import functools
import json
import os
import secrets
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from mnist_vg.driver import CHECKPOINT_SECONDS
from mnist_vg.errors import UsageError
from mnist_vg.runs.paths import as_path, is_remote, make_folder
from mnist_vg.service.cluster import start_bridge
from mnist_vg.service.crew import Crew, Told
from mnist_vg.service.limits import Limits
from mnist_vg.service.messages import Place
from mnist_vg.service.queue import (
    ENDED,
    FAILED,
    FINISHED,
    STOPPED,
    TRAINING,
    WAITING,
    Job,
    Queue,
)
from mnist_vg.service.records import remove_records
from mnist_vg.service.requests import checked, command_of
from mnist_vg.service.snapshots import PATTERN, settle, snapshot_path
from mnist_vg.service.worker import start
from mnist_vg.sweeps.cluster import check_cluster

FOLDER = ".mnist_vg_service"
"""The folder in a log folder with the queue, and with the token of the service that runs."""

ADDRESS_FILE = "service.json"


class Service:
    """Trains what it is asked for into one log folder.

    Args:
        logdir: the log folder, on this machine.
        workers: how many jobs are trained at a time.
        data_dir: where TFDS keeps prepared data sets.
        checkpoint_seconds: time between two checkpoints of a run.
        cluster: a Ray cluster that trains, see `sweeps.cluster.on_ray`; None is this machine.
        limits: how much it takes on.
        told: called with each event, from a thread of its own.

    Attributes:
        token: what clients must know. It is another one at each start.

    Raises:
        UsageError: another service works on this log folder, or it cannot be written; or the
            cluster cannot be used.
    """

    def __init__(
        self,
        logdir: str | os.PathLike,
        *,
        workers: int = 1,
        data_dir: str | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        cluster: str | None = None,
        limits: Limits | None = None,
        told: Told = lambda kind, facts: None,
    ):
        if is_remote(as_path(logdir)):
            raise UsageError(
                f"logdir: {logdir} is remote; a service needs a folder on this machine"
            )
        self.logdir, self.limits = Path(logdir), limits or Limits()
        self._data_dir, self._changes = data_dir, threading.Lock()
        if cluster is not None:
            check_cluster(cluster)
        self.token = secrets.token_urlsafe(32)
        self._folder = self.logdir / FOLDER
        self._lock = _lock(self._folder)
        most = self.limits.waiting, self.limits.ended
        self._queue = Queue(self._folder / "queue.sqlite3", *most)
        self._queue.put_back()
        for path in self._folder.glob(PATTERN):
            # What a killed service has left of its jobs; where that fails, the job says why.
            with contextlib.suppress(UsageError, OSError):
                settle(path, self.logdir)
        # A node of a cluster has its own cores, and a local Ray so many processes for a sweep.
        threads = workers if cluster else max(1, (os.cpu_count() or 1) // workers)
        place = Place(str(self.logdir), data_dir, checkpoint_seconds, threads, cluster)
        begin = functools.partial(start, place)
        if cluster is not None:
            begin = functools.partial(start_bridge, place, self._folder)
        self._crew = Crew(self._queue, workers, begin, told)
        self._told = told

    def start(self, url: str) -> None:
        """Start the workers, and leave address and token where this user's programs find them."""
        path = self._folder / ADDRESS_FILE
        path.unlink(missing_ok=True)
        # Made for this user alone, and not made so afterwards.
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"url": url, "token": self.token}, file)
        self._crew.start()

    def submit_all(self, asked: Sequence[Mapping[str, Any]]) -> list[Job]:
        """Accept jobs, all or none. What this has returned from is trained, whatever happens.

        Args:
            asked: what each asks for; see `requests.checked`.

        Raises:
            UsageError: as `requests.checked`, or too many jobs wait already.
        """
        requests = [checked(each, self.logdir, self.limits)[:2] for each in asked]
        with self._changes:
            jobs = self._queue.submit_all(requests)
        for job in jobs:
            self._changed(job)
        return jobs

    def submit(self, asked: Mapping[str, Any]) -> Job:
        """Accept a job; see `submit_all`."""
        [job] = self.submit_all([asked])
        return job

    def plan(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """How many networks a request trains, without training them.

        Raises:
            UsageError: as `requests.checked`.
        """
        name, networks = checked(asked, self.logdir, self.limits)[1:]
        return {"name": name, "networks": networks}

    def stop(self, number: int) -> Job:
        """Stop a job. What it has trained is kept, and `go_on` continues it."""
        if self._queue.job(number).state == TRAINING:
            self._crew.stop(number)
            return self._queue.job(number)
        return self._changed(self._queue.change(number, STOPPED, [WAITING]))

    def go_on(self, number: int) -> Job:
        """Let a job that was stopped, or failed, wait for its turn again."""
        with self._changes:
            return self._changed(self._queue.change(number, WAITING, [STOPPED, FAILED]))

    def move(self, number: int, before: int | None) -> Job:
        """Let a job be trained before another one; None puts it last."""
        return self._changed(self._queue.move(number, before), "moved")

    def remove(self, number: int, name: str) -> None:
        """Remove a job; and if it was ever begun, its records and all ended jobs of its name.

        Args:
            number: of the job.
            name: of its run, so that none is removed by mistake.

        Raises:
            UsageError: it or another one of its name trains, another one waits, the name is another
                one, or the records cannot be removed.
        """
        with self._changes:
            job = self._queue.job(number)
            if name != job.name:
                raise UsageError(f"name: job {number} is {job.name!r}, and {name!r} was given")
            if not self._queue.withdraw(number):
                self._hold(job)
                remove_records(job, self.logdir)
                snapshot_path(self._folder, number).unlink(missing_ok=True)
                self._queue.forget(job.name)
        self._told("removed", {"job": number, "name": job.name})

    def _hold(self, job):
        """See to it that no worker begins a run that is being removed."""
        for other in self._queue.open_jobs(job.name):
            if other.number != job.number:
                raise UsageError(f"job: {other.number}, of the same name, is {other.state}")
        if job.state not in ENDED:
            self._changed(self._queue.change(job.number, STOPPED, [WAITING]))

    def job(self, number: int) -> dict[str, Any]:
        """A job as clients see it."""
        return self._seen(self._queue.job(number))

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, in the order in which they are trained."""
        return [self._seen(job) for job in self._queue.jobs()]

    def close(self) -> None:
        """Save all runs, and end. Jobs that are not done go on at the next start."""
        self._crew.close()
        (self._folder / ADDRESS_FILE).unlink(missing_ok=True)
        self._queue.close()
        self._lock.release()

    def _changed(self, job, kind="state"):
        self._told(kind, {"job": job.number, "name": job.name, "state": job.state})
        self._crew.look()
        return job

    def _seen(self, job):
        command = command_of(job.request, self.logdir, self._data_dir)
        facts = dataclasses.asdict(job) | {"command": command}
        progress = self._crew.progress(job.number)
        return facts | {"progress": progress, "done": job.state == FINISHED}


def _lock(folder):
    try:
        make_folder(folder)
        folder.chmod(0o700)
        lock = filelock.FileLock(folder / "lock", timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise UsageError(
            f"logdir: another service works on {folder.parent}; `mnist-vg submit` reaches it"
        ) from None
    except OSError as error:
        raise UsageError(f"logdir: {folder} cannot be written ({error.strerror})") from error
    return lock
