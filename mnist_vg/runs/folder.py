"""Who may write to a run folder, and what may be removed from it."""

import contextlib
import fcntl
import itertools
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from mnist_vg.errors import UsageError
from mnist_vg.runs.events import event_files
from mnist_vg.runs.paths import UNFINISHED, is_remote, make_folder, sync
from mnist_vg.runs.run import RUN_FILE, SWEEP_FILE, Run
from mnist_vg.scenarios.scenario import Scenario

CHECKPOINT_FILE = "checkpoint.mnist_vg.npz"
LOCK_FILE = "run.lock"


def remove_run(folder: Path) -> None:
    """Remove what this package wrote to a run folder, and nothing else."""
    # `run.json` first: if this is killed half way, what is left is no run.
    (folder / RUN_FILE).unlink(missing_ok=True)
    if not is_remote(folder):
        sync(folder)
    unfinished = folder.glob(f"{UNFINISHED}*")
    for path in (folder / CHECKPOINT_FILE, *unfinished, *event_files(folder)):
        path.unlink(missing_ok=True)


def free_folder(folder: Path) -> Path:
    """The first folder without a run among `folder-2`, `folder-3` and so on."""
    return next(beside for beside in _beside(folder) if not (beside / RUN_FILE).exists())


def newest_folder(folder: Path) -> Path:
    """Of `folder`, `folder-2` and so on the last one with a run; `folder` if there is none."""
    taken = itertools.takewhile(lambda beside: (beside / RUN_FILE).exists(), _beside(folder))
    return [folder, *taken][-1]


def _beside(folder):
    return (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))


def check_folder(folder: Path, scenario: Scenario, overwrite: bool = False) -> Run | None:
    """The run of this scenario that a folder holds already; None where there is no run.

    Args:
        folder: the run folder.
        scenario: what is to be trained there.
        overwrite: whether a run that is there is to be replaced; it then counts as none.

    Raises:
        UsageError: the folder holds a sweep, a run with other settings or a finished run
            with damaged files, or it cannot be written.
    """
    if (folder / SWEEP_FILE).exists():
        raise UsageError(f"logdir: {folder} holds a sweep; train elsewhere with --logdir or --name")
    run = None if overwrite else Run.load(folder)
    if run is not None:
        _check_same_settings(run, scenario)
        if run.status == "finished":
            _check_files(run)
            return run
    check_writable(folder)
    return run


def check_writable(folder: Path) -> None:
    """Check that a folder can be written, or made.

    Raises:
        UsageError: it cannot.
    """
    if is_remote(folder):
        return
    try:
        places = [folder, *folder.absolute().parents]
        nearest = next(place for place in places if place.exists())
    except OSError as error:
        raise UsageError(f"logdir: {folder} cannot be written ({error.strerror})") from error
    if not nearest.is_dir():
        raise UsageError(f"logdir: {nearest} is a file; name a folder with --logdir")
    try:
        # Tried, since permissions do not tell of `/proc`, or of a disk that is read-only.
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        raise UsageError(
            f"logdir: {nearest} cannot be written ({error.strerror}); name another with --logdir"
        ) from error


def checksums(folder: Path) -> dict[str, int]:
    """The CRC-32 of each file that holds a run's records or weights, by the file's name."""
    files = [*event_files(folder), folder / CHECKPOINT_FILE]
    return {path.name: zlib.crc32(path.read_bytes()) for path in files if path.exists()}


def _check_files(run):
    if not run.checksums:
        return  # An older version of this package has not noted any.
    left, now = run.checksums, checksums(run.folder)
    changed = [name for name in left | now if left.get(name) != now.get(name)]
    if changed:
        raise UsageError(
            f"logdir: {run.folder / changed[0]} is not as the finished run left it; train this "
            "run anew with --overwrite, or elsewhere with --logdir"
        )


def _check_same_settings(run, scenario):
    differing = [
        f"{key} {run.settings.get(key)!r} and not {value!r}"
        for key, value in scenario.settings().items()
        if run.settings.get(key) != value
    ]
    if differing:
        raise UsageError(
            f"logdir: {run.folder} holds a run with {', '.join(differing)}; train elsewhere with "
            "--logdir or --name, or replace that run with --overwrite"
        )


@contextlib.contextmanager
def claim_folder(folder: Path) -> Iterator[None]:
    """Within the context, no other process can claim this folder. Makes it where it is missing.

    The operating system releases the locks when the process ends, however it ends. A
    remote folder has no lock: there the user must see that only one process writes.

    Raises:
        UsageError: another process has claimed the folder, or it cannot be made.
    """
    with contextlib.ExitStack() as locks:
        try:
            make_folder(folder)
            if not is_remote(folder):
                # Both, because a lock file may be removed by hand, and NFS locks only files.
                locks.enter_context(_folder_locked(folder))
                locks.enter_context(filelock.FileLock(folder / LOCK_FILE, timeout=0))
        except (BlockingIOError, filelock.Timeout):
            raise UsageError(
                f"logdir: another process is writing {folder}; wait for it, or train elsewhere "
                "with --logdir or --name"
            ) from None
        except OSError as error:
            raise UsageError(f"logdir: {folder} cannot be written ({error})") from error
        yield


def broke_off(run: Run) -> bool:
    """Whether a run ended without being saved: its log broke, or its process died.

    A remote folder has no lock, so a run there counts as running for as long as it says so.
    """
    return run.status == "broken" or (
        run.status == "running" and not is_remote(run.folder) and not _is_claimed(run.folder)
    )


def _is_claimed(folder):
    return any(_is_locked(path) for path in (folder, folder / LOCK_FILE))


def _is_locked(path):
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def _folder_locked(folder):
    """Within the context, the folder itself is locked, if its file system can do that.

    Raises:
        BlockingIOError: another process has locked it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)
