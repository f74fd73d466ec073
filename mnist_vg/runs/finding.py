"""Finds runs, whoever recorded them."""

import os
from collections.abc import Sequence
from pathlib import Path

from mnist_vg.errors import UsageError, nearest
from mnist_vg.runs.foreign import ForeignRun, foreign_runs
from mnist_vg.runs.paths import as_path, is_remote
from mnist_vg.runs.run import SWEEP_FILE, Run, folders_apart, no_run, run_folders

DEFAULT = "logdir"
"""The log folder where none is given."""


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
        names: paths in that folder, of runs or of folders with runs; default: all runs.

    Raises:
        UsageError: the folder holds no run, or nothing of one of these names.
    """
    logdir = as_path(logdir)
    if not names:
        found = _runs_below(logdir)
        if not found:
            raise no_run(logdir)
        return found
    found = {}
    for name in names:
        below = _runs_below(logdir / name)
        if not below and (logdir / name / SWEEP_FILE).exists():
            raise no_run(logdir / name)
        if not below:
            there = [*find_named(logdir), *(folder.name for folder in folders_apart(logdir))]
            raise UsageError(f"run: {name!r} is not in {logdir}; {nearest(name, there)}")
        found |= {
            name if run.folder == logdir / name else f"{name}/{path}": run
            for path, run in below.items()
        }
    return found


def _runs_below(folder):
    runs = [Run.load(found) for found in run_folders(folder)] or foreign_runs(folder)
    paths = ((run.folder.relative_to(folder).as_posix(), run) for run in runs)
    # The folder may be a run itself.
    return {path if path != "." else run.name: run for path, run in paths}


def log_folder(
    given: str | os.PathLike | None, words: Sequence[str]
) -> tuple[Path, tuple[str, ...]]:
    """The log folder that a command is about, and what it names in that folder.

    The folder is `given`, or else the first word, if that is a folder, or else `logdir`.

    Args:
        given: the log folder as an option, if there is one.
        words: the other arguments.
    """
    if given is not None or not words:
        return as_path(given or DEFAULT), tuple(words)
    folder, named = as_path(words[0]), Path(DEFAULT, words[0])
    if is_remote(folder) or folder.is_absolute() or not Path(DEFAULT).exists():
        return folder, tuple(words[1:])
    # A folder that happens to have the name of a run is not meant.
    if folder.exists() and not (named.exists() and not _holds_something(folder)):
        return folder, tuple(words[1:])
    return Path(DEFAULT), tuple(words)


def _holds_something(folder):
    return bool(run_folders(folder) or folders_apart(folder) or foreign_runs(folder))
