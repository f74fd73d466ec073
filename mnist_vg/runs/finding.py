"""Finds runs, whoever recorded them."""

import os
from collections.abc import Sequence

from mnist_vg.errors import UsageError, nearest
from mnist_vg.runs.foreign import ForeignRun, foreign_runs
from mnist_vg.runs.paths import as_path
from mnist_vg.runs.run import Run, find_runs, run_folders


def load(folder: str | os.PathLike) -> Run | None:
    """The run in a folder; None where there is none, or where runs of ours are below it.

    Raises:
        UsageError: the folder cannot be read.
    """
    return Run.load(folder) or (None if run_folders(folder) else ForeignRun.load(folder))


def find_named(logdir: str | os.PathLike, names: Sequence[str] = ()) -> dict[str, Run]:
    """The runs in a folder by their paths in it: ours or, without any, those of other programs.

    Args:
        logdir: the folder.
        names: paths of runs in that folder; default: all runs.

    Raises:
        UsageError: the folder holds no run, or no run of one of these names.
    """
    logdir = as_path(logdir)
    foreign = [] if run_folders(logdir) else foreign_runs(logdir)
    runs = foreign or find_runs(logdir)
    found = {run.folder.relative_to(logdir).as_posix(): run for run in runs}
    found = {name if name != "." else run.name: run for name, run in found.items()}
    for name in names:
        if name not in found:
            raise UsageError(f"run: {name!r} is not in {logdir}; {nearest(name, found)}")
    return {name: run for name, run in found.items() if name in names or not names}
