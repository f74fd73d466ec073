"""Removes what a job has left in the log folder."""

import contextlib
from pathlib import Path

from mnist_vg.errors import UsageError
from mnist_vg.runs.folder import LOCK_FILE, claim_folder, remove_run
from mnist_vg.runs.run import Run, run_folders
from mnist_vg.service.queue import Job
from mnist_vg.service.requests import sweep_of
from mnist_vg.sweeps.sweeper import check_sweep_folder
from mnist_vg.sweeps.table import remove_sweep


def remove_records(job: Job, logdir: Path) -> None:
    """Remove the run, the runs or the table of a job, and what holds nothing else.

    A run or a sweep with other settings, which has come in its place, stays.

    Args:
        job: which was begun.
        logdir: the log folder.

    Raises:
        UsageError: another process writes there, or the files cannot be removed.
    """
    folder = logdir / job.name
    try:
        _REMOVE[job.request["kind"]](folder, job.request)
    except OSError as error:
        raise UsageError(f"logdir: {folder} cannot be removed ({error.strerror})") from error


def _remove_train(folder, request):
    try:
        run = Run.load(folder)
    except UsageError:
        pass  # It is damaged, and all that is left of it is removed.
    else:
        if run is None or run.settings != request["settings"]:
            return
    _remove(folder, remove_run)


def _remove_cure(folder, request):
    for each in run_folders(folder):
        _remove(each, remove_run)
    with contextlib.suppress(OSError):  # Something else is in it, or it is not there.
        folder.rmdir()


def _remove_sweep(folder, request):
    try:
        check_sweep_folder(folder, sweep_of(request).facts())
    except UsageError:
        return  # It is another one.
    _remove(folder, remove_sweep)


_REMOVE = {"train": _remove_train, "cure": _remove_cure, "sweep": _remove_sweep}


def _remove(folder, remove):
    with claim_folder(folder):
        remove(folder)
        (folder / LOCK_FILE).unlink()
    with contextlib.suppress(OSError):  # Something else is in it.
        folder.rmdir()
