"""The training service under kills: its process, a worker, or all, at random instants.

After each kill the service is started again if it was killed. In the end, every job must have been
trained, once, and its run must be bit for bit what `mnist-vg train` makes of the same scenario.
Anything else is told on standard error, and the exit code is 1.

A job whose worker is killed five times, without having gone on between, counts as one that kills
its workers, and fails. Here it is gone on with, as a person would.
"""

import contextlib
import itertools
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import _common_tf  # noqa: F401 - imports TensorFlow without its start-up lines
import psutil
from _common import run
from faults import left_in

from mnist_vg import Run, Scenario, UsageError, connect
from mnist_vg.runs.run import RUN_FILE

SCENARIO = Scenario(
    dataset="digits", activation="tanh", num_layers=3, iterations=6000, log_every=100
)
LATEST = 10.0
"""The longest time between two kills, in seconds: a start takes about four."""

COMMAND = [sys.executable, "-m", "mnist_vg"]
KINDS = ("service", "worker", "all")


class Victim:
    """A service that is killed, and started again.

    Args:
        logdir: its log folder.
    """

    def __init__(self, logdir: Path):
        self._logdir = logdir
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = str(probe.getsockname()[1])
        self.start()

    def start(self) -> None:
        """Start it, and do not wait for it."""
        where = ["--logdir", self._logdir, "--port", self._port, "--checkpoint-seconds", "0.1"]
        self._process = subprocess.Popen(
            [*COMMAND, "serve", *where], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def client(self):
        """A client, once it answers."""
        for _ in range(600):
            with contextlib.suppress(UsageError):
                return connect(logdir=str(self._logdir))
            time.sleep(0.1)
        raise SystemExit("the service does not answer")

    def kill(self, kind: str) -> None:
        """Kill its process, its workers, or all; and start it again."""
        processes = self._processes()
        victims = {"service": processes[:1], "worker": processes[1:], "all": processes}[kind]
        for process in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if kind != "worker":
            self._process.wait()
            self.start()

    def _processes(self):
        service = psutil.Process(self._process.pid)
        children = service.children()
        return [service, *(child for child in children if "spawn_main" in str(child.cmdline()))]

    def end(self) -> None:
        """End it as Ctrl-C does."""
        self._process.send_signal(2)
        self._process.wait()


class Watch:
    """Sees to it that no run that has finished is written again."""

    def __init__(self, logdir: Path):
        self._logdir = logdir
        self._finished: dict[str, int] = {}
        self.twice: set[str] = set()

    def look(self) -> None:
        """Look at all runs."""
        for path in self._logdir.glob(f"*/{RUN_FILE}"):
            written = path.stat().st_mtime_ns
            finished = Run.load(path.parent).status == "finished"
            if self._finished.get(path.parent.name, written) != written:
                self.twice.add(path.parent.name)
            if finished:
                self._finished[path.parent.name] = written


def attack(logdir: Path, scenarios: list[Scenario], kills: int, seed: int = 0) -> Counter:
    """Submit scenarios, kill at random instants, and wait until all have been trained.

    Returns:
        How often what was killed; "given up", jobs that were gone on with; "twice", runs that
        were written again after they had finished; "jobs", how many have finished.
    """
    chance, counts = random.Random(seed), Counter()
    victim, watch = Victim(logdir), Watch(logdir)
    try:
        client = victim.client()
        for scenario in scenarios:
            client.start(scenario)
        for _ in range(kills):
            time.sleep(chance.uniform(0, LATEST))
            kind = chance.choice(KINDS)
            victim.kill(kind)
            counts[kind] += 1
            watch.look()
            if sys.stderr.isatty():
                print(f"\r{counts.total()} kills", end="", file=sys.stderr)
        counts["given up"] = _wait(victim.client(), watch)
        states = Counter(job["state"] for job in victim.client().jobs())
        counts["jobs"], counts["twice"] = states["finished"], len(watch.twice)
    finally:
        victim.end()
    return counts


def _wait(client, watch):
    """Wait until all jobs have finished; return how many were gone on with."""
    given_up = 0
    while True:
        jobs = client.jobs()
        for job in jobs:
            if job["state"] == "failed" and re.match("its worker was killed", job["reason"]):
                client.go_on(job["number"])
                given_up += 1
        if all(job["state"] in ("finished", "stopped", "failed") for job in jobs):
            return given_up
        watch.look()
        time.sleep(0.5)


def _difference(left, expected):
    """The first parts that differ."""
    if isinstance(left, tuple) and isinstance(expected, tuple):
        for one, other in zip(left, expected, strict=True):
            if one != other and isinstance(one, list):
                return [pair for pair in itertools.zip_longest(one, other) if pair[0] != pair[1]][
                    :1
                ]
            if one != other:
                return one, other
    return type(left), type(expected)


def main(jobs: int = 50, kills: int = 100) -> None:
    """Attack a queue of so many jobs with so many kills, and print what came of it."""
    scenarios = [SCENARIO.with_seed(seed) for seed in range(jobs)]
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = Path(folder, "train"), Path(folder, "service")
        options = [
            text
            for name, value in SCENARIO.settings().items()
            if value is not None and not isinstance(value, bool)
            for text in (f"--{name.replace('_', '-')}", str(value))
        ]
        command = [*COMMAND, "train", *options, "--seeds", str(jobs), "--logdir", theirs]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        ours.mkdir()
        counts = attack(ours, scenarios, kills)
        left, expected = left_in(ours), left_in(theirs)
        others = [path for path in left | expected if left.get(path) != expected.get(path)]
        for path in others:
            print(f"{path}: {_difference(left.get(path), expected.get(path))}", file=sys.stderr)
    print("| kills of | number |\n|---|---|")
    for kind in KINDS:
        print(f"| {kind} | {counts[kind]} |")
    print(f"\n{counts['jobs']} of {jobs} jobs have finished, {counts['twice']} were trained twice,")
    print(f"and {len(others)} files have other content than those of `mnist-vg train`.")
    print(f"{counts['given up']} jobs had failed for it, and were gone on with.")
    if counts["jobs"] < jobs or counts["twice"] or others:
        sys.exit(1)


if __name__ == "__main__":
    run(main, __doc__, takes="12 minutes", smoke={"jobs": 4, "kills": 3})
