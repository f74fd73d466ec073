"""What the folders of runs tell that TensorBoard does not: which are damaged, which broke off."""

import os
import time
from pathlib import Path
from typing import NamedTuple

from mnist_vg.errors import UsageError
from mnist_vg.runs.run import RUN_FILE, Run

SETTLED = 60
"""Seconds after which TensorBoard has read what a run wrote. It looks every five."""


class LocalRun(NamedTuple):
    """A run as its `run.json` has it.

    Attributes:
        status: see `runs.Run`; empty if the file is damaged.
        settled: whether the file is as old as `SETTLED`.
        damage: what is wrong with the file; empty if nothing is.
    """

    status: str
    settled: bool
    damage: str = ""


def local_runs(logdir: str | os.PathLike | None) -> dict[str, LocalRun]:
    """The runs in a log folder on this machine, by the names that TensorBoard gives them.

    Args:
        logdir: the log folder; nothing is known of a remote one, nor where it is None.
    """
    if not logdir or "://" in os.fspath(logdir):
        return {}
    root = Path(logdir).expanduser()
    # `Path.rglob` breaks off where a folder goes away meanwhile, as that of a run trained anew.
    folders = [Path(folder) for folder, _, files in os.walk(root) if RUN_FILE in files]
    return {
        folder.relative_to(root).as_posix(): _local_run(folder / RUN_FILE) for folder in folders
    }


def _local_run(path):
    try:
        settled = time.time() - path.stat().st_mtime > SETTLED
        run = Run.load(path.parent)
    except FileNotFoundError:
        return LocalRun("", False)
    except (UsageError, OSError) as error:
        return LocalRun("", True, str(error))
    return LocalRun(run.status if run else "", settled)
