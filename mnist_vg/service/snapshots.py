"""Snapshots: the runs of a job in one piece, in a state in which a kill could have left them."""

import contextlib
import io
import json
import zipfile
from pathlib import Path, PurePosixPath

from mnist_vg.runs.events import event_files
from mnist_vg.runs.folder import CHECKPOINT_FILE, check_folder, claim_folder, remove_run
from mnist_vg.runs.paths import write_whole
from mnist_vg.runs.run import RUN_FILE, is_cure, run_folders
from mnist_vg.scenarios.scenario import Scenario

PATTERN = "job-*.zip"
"""Names of snapshots in the service's folder."""


def snapshot_path(folder: Path, number: int) -> Path:
    """Where the snapshot of a job is kept.

    Args:
        folder: of the service.
        number: of the job.
    """
    return folder / PATTERN.replace("*", str(number))


def pack(logdir: Path, name: str) -> bytes | None:
    """Pack the runs of a job, also while one of them trains; None where there is no run.

    Args:
        logdir: the log folder.
        name: of the job's folder in it.

    Raises:
        OSError: a run cannot be read, or has just begun to go on, which renames its files.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for folder in _run_folders(logdir / name):
            for path, content in _files(folder).items():
                packed.writestr(path.relative_to(logdir).as_posix(), content)
    return file.getvalue() if packed.namelist() else None


def _run_folders(folder):
    return run_folders(folder) if is_cure(folder) else [folder]


def _files(folder):
    """What a run needs to go on.

    `run.json` and the checkpoint come before the event files: these only grow, and a run that goes
    on cuts them back to what the checkpoint counts on.
    """
    if not (folder / RUN_FILE).exists():
        return {}
    listed = event_files(folder)
    paths = [folder / RUN_FILE, folder / CHECKPOINT_FILE, *listed]
    files = {path: path.read_bytes() for path in paths if path.exists() or path in listed}
    if event_files(folder) != listed:
        raise FileNotFoundError(f"{folder} has changed meanwhile")
    return files


def checkpoints(logdir: Path, name: str) -> dict[Path, int]:
    """When each run of a job wrote its newest checkpoint: another answer is a newer state."""
    written = {}
    for folder in _run_folders(logdir / name):
        with contextlib.suppress(FileNotFoundError):
            written[folder] = (folder / CHECKPOINT_FILE).stat().st_mtime_ns
    return written


def unpack(snapshot: bytes, logdir: Path) -> None:
    """Write the runs of a snapshot to a log folder that nobody else uses."""
    with zipfile.ZipFile(io.BytesIO(snapshot)) as packed:
        packed.extractall(logdir)


def settle(path: Path, logdir: Path) -> None:
    """Put the runs of a snapshot into the log folder, then remove it; where it is missing, nothing.

    A kill at any point does no harm: the snapshot is still there, and this can be done again.

    Args:
        path: of the snapshot.
        logdir: the log folder. A run that is finished there stays as it is.

    Raises:
        UsageError: the folder of a run holds something else, or another process writes there.
        OSError: the log folder cannot be written.
    """
    if not path.exists():
        return
    with zipfile.ZipFile(path) as packed:
        runs = {}
        for name in packed.namelist():
            runs.setdefault(PurePosixPath(name).parent, {})[PurePosixPath(name).name] = name
        for folder, names in runs.items():
            _settle_run(logdir / folder, {name: packed.read(at) for name, at in names.items()})
    path.unlink()


def _settle_run(folder, files):
    settings = json.loads(files[RUN_FILE])["settings"]
    with claim_folder(folder):
        there = check_folder(folder, Scenario(**settings))
        if there is not None and there.status == "finished":
            return
        remove_run(folder)
        # `run.json` last: it makes the folder a run.
        for name in sorted(files, key=RUN_FILE.__eq__):
            write_whole(folder / name, files[name])
