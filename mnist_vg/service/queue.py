"""`Queue`: the jobs of a service, kept in a file that survives it."""

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mnist_vg.errors import UsageError

WAITING, TRAINING, FINISHED = "waiting", "training", "finished"
STOPPED, FAILED = "stopped", "failed"
STATES = (WAITING, TRAINING, FINISHED, STOPPED, FAILED)

ENDED = (FINISHED, STOPPED, FAILED)

ATTEMPTS = 5
"""A job whose worker is killed so often, without having gone on meanwhile, has probably killed it,
by the memory that it needs."""

_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    place INTEGER NOT NULL,
    state TEXT NOT NULL,
    request TEXT NOT NULL,
    name TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    submitted REAL NOT NULL,
    started REAL,
    ended REAL,
    reason TEXT NOT NULL DEFAULT '',
    outcome TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX IF NOT EXISTS waiting ON jobs (state, place);
"""


class NoSuchJob(UsageError):
    """There is no job of this number."""


@dataclass(frozen=True)
class Job:
    """A job of the queue.

    Attributes:
        number: by which it is asked for.
        place: jobs are trained in the order of their places.
        state: one of `STATES`.
        request: `kind` is "train", "cure" or "sweep", and `settings` are those of a scenario. A
            cure and a sweep also have a number of `seeds`, a cure the name of its `run`, and a
            sweep the texts of what is varied, `vary`.
        name: of the folder in the log folder that gets the run, the runs or the table.
        attempts: how often a worker has begun it, since it went on last.
        submitted: when it was accepted, in seconds since 1970.
        started: when it was begun last; None before.
        ended: when it ended; None before.
        reason: why it failed, or what came out; empty for a run.
        outcome: what it has found, as its kind has it; see `messages.Ended`.
    """

    number: int
    place: int
    state: str
    request: dict[str, Any]
    name: str
    attempts: int
    submitted: float
    started: float | None
    ended: float | None
    reason: str
    outcome: dict[str, Any]


class Queue:
    """Jobs in an SQLite file. What a method has returned from is on the disk.

    Threads may share a queue. Only one process may have the file, see `service.Service`.

    Args:
        path: of the file, which is made where it is missing.
        most: so many jobs may wait.
        most_ended: so many jobs that have ended are remembered; the oldest are forgotten, and what
            they have trained stays.

    Raises:
        UsageError: the file cannot be written, or is not a queue.
    """

    def __init__(self, path: str | os.PathLike, most: int = 1000, most_ended: int = 1000):
        self._most, self._most_ended = most, most_ended
        self._lock = threading.Lock()
        try:
            self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._file.execute("PRAGMA journal_mode=WAL")
            # An accepted job outlives a power cut.
            self._file.execute("PRAGMA synchronous=FULL")
            self._file.executescript(_TABLE)
            columns = [name for _, name, *_ in self._file.execute("PRAGMA table_info(jobs)")]
            if "outcome" not in columns:  # A queue from before there was one.
                self._file.execute("ALTER TABLE jobs ADD outcome TEXT NOT NULL DEFAULT '{}'")
            [found] = self._file.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found.replace("\n", ", "))
        except sqlite3.Error as error:
            raise UsageError(f"queue: {path} cannot be used ({error}); move it away") from error

    def submit(self, request: Mapping[str, Any], name: str = "") -> Job:
        """Accept a job; see `submit_all`."""
        [job] = self.submit_all([(request, name)])
        return job

    def submit_all(self, asked: Sequence[tuple[Mapping[str, Any], str]]) -> list[Job]:
        """Accept jobs, all or none.

        Args:
            asked: the request of each, see `Job`, and the name of its folder.

        Raises:
            UsageError: too many jobs wait, one with such a name waits or trains, or the file cannot
                be written.
        """
        with self._changing() as file:
            numbers = [self._insert(file, *each) for each in asked]
        return [self.job(number) for number in numbers]

    def _insert(self, file, request, name):
        [waiting] = file.execute("SELECT count(*) FROM jobs WHERE state = ?", [WAITING]).fetchone()
        if waiting >= self._most:
            raise UsageError(
                f"queue: this service lets at most {self._most} jobs wait; try again later, or "
                "start it with --most-waiting"
            )
        _check_free(file, name)
        return file.execute(
            "INSERT INTO jobs (place, state, request, name, submitted) "
            "SELECT coalesce(max(place), 0) + 1, ?, ?, ?, ? FROM jobs",
            [WAITING, json.dumps(dict(request)), name, time.time()],
        ).lastrowid

    def take(self) -> Job | None:
        """Mark the next job as training, and return it; None where none waits."""
        with self._changing() as file:
            row = file.execute(
                "UPDATE jobs SET state = ?, started = ?, ended = NULL, attempts = attempts + 1 "
                "WHERE number = (SELECT number FROM jobs WHERE state = ? ORDER BY place LIMIT 1) "
                "RETURNING number",
                [TRAINING, time.time(), WAITING],
            ).fetchone()
        return self.job(row[0]) if row else None

    def end(
        self,
        number: int,
        state: str,
        reason: str = "",
        outcome: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Note how a job has ended."""
        with self._changing() as file:
            file.execute(
                "UPDATE jobs SET state = ?, ended = ?, reason = ?, outcome = ? WHERE number = ?",
                [state, time.time(), reason, json.dumps(dict(outcome)), number],
            )
            file.execute(
                "DELETE FROM jobs WHERE number IN (SELECT number FROM jobs "
                "WHERE state IN (?, ?, ?) ORDER BY ended DESC LIMIT -1 OFFSET ?)",
                [*ENDED, self._most_ended],
            )

    def went_on(self, number: int) -> None:
        """A job is further than when its worker was killed last: count its attempts anew."""
        with self._changing() as file:
            file.execute("UPDATE jobs SET attempts = 1 WHERE number = ?", [number])

    def lost(self, number: int) -> Job:
        """A job's worker was killed. Let it wait again, at its old place, but not too often."""
        with self._changing() as file:
            file.execute(
                "UPDATE jobs SET state = ? WHERE number = ? AND state = ? AND attempts < ?",
                [WAITING, number, TRAINING, ATTEMPTS],
            )
        job = self.job(number)
        if job.state == TRAINING:
            reason = f"its worker was killed {job.attempts} times (out of memory?)"
            self.end(number, FAILED, reason)
        return self.job(number)

    def put_back(self, number: int | None = None) -> None:
        """Let what was in training wait again, at its old place: a job, or all jobs.

        The service ends, or has been killed, which is no fault of the jobs.
        """
        with self._changing() as file:
            file.execute(
                "UPDATE jobs SET state = ?, attempts = attempts - 1 "
                "WHERE state = ? AND number = coalesce(?, number)",
                [WAITING, TRAINING, number],
            )

    def change(self, number: int, state: str, allowed: Sequence[str]) -> Job:
        """Bring a job into another state.

        Raises:
            UsageError: there is no such job, its state is not one of those allowed, or it is to
                wait and another one with its name waits or trains already.
        """
        with self._changing() as file:
            job = _job(self._row(file, number))
            if job.state not in allowed:
                raise UsageError(
                    f"job: {number} is {job.state}; this is for jobs that are "
                    f"{' or '.join(allowed)}"
                )
            if state == WAITING:
                _check_free(file, job.name)
            file.execute(
                "UPDATE jobs SET state = ?, attempts = 0, reason = '', ended = ? WHERE number = ?",
                [state, None if state == WAITING else time.time(), number],
            )
        return self.job(number)

    def move(self, number: int, before: int | None) -> Job:
        """Let a job be trained just before another one; None puts it last.

        Raises:
            UsageError: there is no such job.
        """
        job = self.job(number)
        with self._changing() as file:
            if before is None:
                [place] = file.execute("SELECT max(place) + 1 FROM jobs").fetchone()
            else:
                place = self._row(file, before)["place"]
                file.execute("UPDATE jobs SET place = place + 1 WHERE place >= ?", [place])
            file.execute("UPDATE jobs SET place = ? WHERE number = ?", [place, job.number])
        return self.job(number)

    def withdraw(self, number: int) -> bool:
        """Forget a job that no worker has ever begun; return whether it was one."""
        with self._changing() as file:
            done = file.execute("DELETE FROM jobs WHERE number = ? AND started IS NULL", [number])
        return done.rowcount > 0

    def forget(self, name: str) -> None:
        """Forget the jobs that have ended and have this name."""
        with self._changing() as file:
            file.execute("DELETE FROM jobs WHERE name = ? AND state IN (?, ?, ?)", [name, *ENDED])

    def open_jobs(self, name: str) -> list[Job]:
        """The jobs of a name that wait or train."""
        return [job for job in self.jobs() if job.name == name and job.state not in ENDED]

    def job(self, number: int) -> Job:
        """The job of a number.

        Raises:
            UsageError: there is none.
        """
        with self._lock:
            return _job(self._row(self._file, number))

    def jobs(self) -> list[Job]:
        """All jobs, in the order in which they are trained."""
        with self._lock:
            rows = self._file.execute("SELECT * FROM jobs ORDER BY place")
            names = [column for column, *_ in rows.description]
            return [_job(dict(zip(names, row, strict=True))) for row in rows]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _row(self, file, number):
        try:
            rows = file.execute("SELECT * FROM jobs WHERE number = ?", [number])
            row = rows.fetchone()
        except OverflowError:  # More digits than the file's numbers have.
            row = None
        if row is None:
            raise NoSuchJob(f"job: there is no job {number}")
        return dict(zip((column for column, *_ in rows.description), row, strict=True))

    @contextlib.contextmanager
    def _changing(self):
        """A change that is made as a whole or not at all."""
        with self._lock:
            try:
                self._file.execute("BEGIN IMMEDIATE")
                yield self._file
                self._file.execute("COMMIT")
            except sqlite3.Error as error:
                raise UsageError(
                    f"queue: it cannot be written ({error}); is the disk full?"
                ) from error
            finally:
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")


def _check_free(file, name):
    """Check that no job with this name is in work."""
    taken = file.execute(
        "SELECT number FROM jobs WHERE name = ? AND state IN (?, ?)", [name, WAITING, TRAINING]
    ).fetchone()
    if name and taken:
        raise UsageError(f"name: {name!r} is the name of job {taken[0]}; give another one")


def _job(row):
    decoded = {name: json.loads(row[name]) for name in ("request", "outcome")}
    return Job(**{**row, **decoded})
