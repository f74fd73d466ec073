"""`Node`: a worker on a node of a cluster, as an actor of Ray."""

import contextlib
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

from mnist_vg.errors import RunFailed, UsageError
from mnist_vg.runs.folder import claim_folder
from mnist_vg.service.messages import Ended, Place, Ready, Task
from mnist_vg.service.snapshots import checkpoints, pack, unpack
from mnist_vg.service.worker import start

PREFIX = "mnist_vg-node-"
"""The beginning of the name of a temporary log folder."""


class Node:
    """A worker, in a process of its own, with a temporary log folder of this node.

    Args:
        place: how it trains; its log folder is replaced.
    """

    def __init__(self, place: Place):
        # Ray's processes do not see Ctrl-C, and hand that on. A worker is stopped with it.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        _remove_left()
        self._logdir = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._claim = contextlib.ExitStack()
        self._claim.enter_context(claim_folder(self._logdir))
        self._place = place._replace(logdir=str(self._logdir))
        self._name, self._seen = None, {}
        self._start()

    def _start(self):
        self._process, self._pipe = start(self._place)

    def begin(self, task: Task, snapshot: bytes | None) -> None:
        """Give the worker a task.

        Args:
            task: what to train.
            snapshot: of the runs that it goes on with.
        """
        for path in self._logdir.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
        if snapshot is not None:
            unpack(snapshot, self._logdir)
        self._name, self._seen = task.name, checkpoints(self._logdir, task.name)
        self._pipe.send(task)

    def stop(self) -> None:
        """Stop the run in training; what it has trained is saved."""
        os.kill(self._process.pid, signal.SIGINT)

    def news(self) -> tuple[list[Any], bytes | None]:
        """What the worker has said since the last call, and a newer state of its runs.

        Returns:
            Its messages, and a snapshot if a checkpoint was written since the last one, or if the
            task has ended.

        Raises:
            RunFailed: the worker was killed.
        """
        messages = []
        while self._pipe.poll():
            try:
                message = self._pipe.recv()
            except (EOFError, OSError):
                raise RunFailed("its process was killed; out of memory?") from None
            if message == Ready(worn=True):
                # Here and not by another actor: the cluster may have no core left for one.
                self._process.kill()
                self._process.join()
                self._start()
            else:
                messages.append(message)
        ended = any(isinstance(message, Ended) for message in messages)
        return messages, self._newer(ended)

    def _newer(self, ended):
        if self._name is None:
            return None
        written = checkpoints(self._logdir, self._name)
        if not ended and written == self._seen:
            return None
        try:
            snapshot = pack(self._logdir, self._name)
        except FileNotFoundError:  # A run goes on just now. The next call has it.
            return None
        self._seen = written
        if ended:
            self._name = None
        return snapshot


def _remove_left():
    """Remove the folders of those that were killed, as all are in the end."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(UsageError, OSError), claim_folder(folder):
            shutil.rmtree(folder)
