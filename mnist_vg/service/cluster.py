"""A bridge: to the crew a worker, which has the work done by one on a cluster."""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

from mnist_vg.errors import UsageError, first_line
from mnist_vg.runs.paths import write_whole
from mnist_vg.service.messages import Ended, Place, Ready, Task
from mnist_vg.service.node import Node
from mnist_vg.service.queue import FAILED
from mnist_vg.service.snapshots import pack, settle, snapshot_path
from mnist_vg.service.worker import end_with_parent, perform, start_process
from mnist_vg.sweeps.cluster import connected

LOOK_SECONDS = 0.25
"""Time between two looks at how far the worker is: the tab moves several times a second."""

AGAIN_SECONDS = 5
"""Time before the cluster is asked again, if it cannot be used."""

CORE_SECONDS = 20
"""A worker that has not begun by then waits for a core: a node needs some seconds to start it."""

GRACE_SECONDS = 10
"""How long a cluster waits for a connection that was lost. A bridge that was killed does not come
back, and its worker keeps a core for so long."""

_log = logging.getLogger(__name__)


def start_bridge(place: Place, folder: Path) -> tuple[multiprocessing.Process, Connection]:
    """Start a bridge; return its process, and the pipe to it.

    It ends if its worker, the node of that or the connection is lost, and after a sweep.

    Args:
        place: where and how; it has a cluster.
        folder: of the service, which keeps the newest state of what trains.
    """
    return start_process(_work, place, folder)


def _work(pipe, place, folder):
    os.setsid()
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("RAY_CLIENT_RECONNECT_GRACE_PERIOD", str(GRACE_SECONDS))
    with _joined(place.cluster) as ray:
        try:
            sweep = _Bridge(ray, pipe, place, folder).pass_on()
        except Exception as error:  # Ray has many kinds of errors, and no common class.
            cause = getattr(error, "cause", None) or error
            _log.error("cluster: a worker was lost (%s)", first_line(cause))
            # Ray gives back the core now, if it still reaches the cluster.
            end = threading.Timer(GRACE_SECONDS, os._exit, [1])
            end.daemon = True
            end.start()
            sys.exit(1)
    # Now there is no worker, whose core the sweep may need.
    ended, _ = perform(sweep, place, None, pipe)
    pipe.send(ended)
    # A sweep that was stopped may have left Ray's client in the middle of something.
    os._exit(0)


@contextlib.contextmanager
def _joined(cluster):
    """Join the cluster, as soon as it can be joined; why it cannot is said once."""
    said = None
    with contextlib.ExitStack() as stack:
        while True:
            try:
                # A local Ray has one core, for the one worker.
                ray = stack.enter_context(connected(cluster, 1))
                break
            except UsageError as error:
                if str(error) != said:
                    said = str(error)
                    _log.error("%s; the service tries again", said)
                time.sleep(AGAIN_SECONDS)
        yield ray


class _Bridge:
    """Passes on tasks to a worker on the cluster, and what it says to the service."""

    def __init__(self, ray, pipe, place, folder):
        self._ray, self._pipe, self._folder = ray, pipe, folder
        self._logdir = Path(place.logdir)
        data_dir = place.data_dir and os.path.abspath(place.data_dir)
        on_node = place._replace(data_dir=data_dir, threads=1, cluster=None)
        self._node = ray.remote(num_cpus=1, max_restarts=0)(Node).remote(on_node)
        self._task = None
        self._stopped = threading.Event()
        signal.signal(signal.SIGINT, lambda *_: self._stopped.set())

    def pass_on(self) -> Task:
        """Pass on tasks until there is one for no worker: a sweep, which is returned."""
        self._wait_for_a_core()
        while True:
            if self._pipe.poll(LOOK_SECONDS):
                self._stopped.clear()
                task = self._pipe.recv()
                if task.request["kind"] == "sweep":
                    return task
                self._begin(task)
            if self._stopped.is_set():
                self._stopped.clear()
                self._ask(self._node.stop)
            self._hear(*self._ask(self._node.news))

    def _ask(self, method, *given):
        # However long it takes: Ray raises an error if the node is lost.
        return self._ray.get(method.remote(*given))

    def _wait_for_a_core(self):
        news = self._node.news.remote()
        begun, _ = self._ray.wait([news], timeout=CORE_SECONDS)
        if not begun:
            _log.warning("cluster: no core is free; the service waits for one")
        self._hear(*self._ray.get(news))

    @property
    def _snapshot(self):
        return snapshot_path(self._folder, self._task.number)

    def _begin(self, task):
        self._task = task
        try:
            # From a service that was killed.
            settle(self._snapshot, self._logdir)
            snapshot = pack(self._logdir, task.name)
        except (UsageError, OSError) as error:
            self._pipe.send(Ended(task.number, FAILED, first_line(error), {}))
            self._pipe.send(Ready(worn=False))
        else:
            self._ask(self._node.begin, task, snapshot)

    def _hear(self, messages, snapshot):
        try:
            if snapshot is not None:
                write_whole(self._snapshot, snapshot)
            if any(isinstance(message, Ended) for message in messages):
                settle(self._snapshot, self._logdir)
        except (UsageError, OSError) as error:
            # As long as it trains, this does no harm: the state before is still there.
            failed = {"state": FAILED, "reason": first_line(error), "outcome": {}}
            messages = [m._replace(**failed) if isinstance(m, Ended) else m for m in messages]
        for message in messages:
            self._pipe.send(message)
