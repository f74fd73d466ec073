"""A run folder: its `run.json`, what was recorded, and who may write it."""

import contextlib
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from mnist_vg.errors import UsageError
from mnist_vg.runs.events import History, decode, event_files, read_events
from mnist_vg.runs.paths import UNFINISHED, as_path, is_remote, remove_tree
from mnist_vg.runs.tags import DECISION_AXIS, DECISION_POINTS, DECISION_PROBABILITY
from mnist_vg.scenarios.scenario import Scenario, setting_fields

RUN_FILE = "run.json"
SWEEP_FILE = "sweep.json"
CHECKPOINT_FOLDER = "checkpoint"
LOCK_FILE = "run.lock"


@dataclass(frozen=True)
class Run:
    """One training, as its folder tells it.

    `settings` are the scenario's, or what `GradientLogger` and `Recorder` know of
    theirs, whose `dataset` is None; `status` is `running` (or was killed),
    `interrupted` or `finished`; `results` are there once it is finished, with None
    where a number is not finite, and so is the diagnosis' `verdict`, which runs of
    earlier versions lack.
    """

    folder: Path
    status: str
    settings: dict[str, Any]
    dataset: str | None
    versions: dict[str, str]
    seconds: float = 0.0
    results: dict[str, float | None] | None = None
    verdict: str | None = None

    @property
    def name(self) -> str:
        """The name of the scenario, which is the folder's."""
        return self.settings["name"]

    @property
    def recipe(self) -> str:
        """The name without the seed, which `Scenario.with_seed` appends."""
        return self.name.removesuffix(f"-seed{self.settings.get('seed')}")

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "Run | None":
        """The run in `folder`, None where there is none.

        Raises:
            UsageError: its `run.json` cannot be read, or tells no run.
        """
        folder = as_path(folder)
        path = folder / RUN_FILE
        try:
            run = cls(folder=folder, **json.loads(path.read_text()))
            finished = run.status == "finished"
            if not isinstance(run.settings, dict) or finished != (run.results is not None):
                raise ValueError("it does not tell a run")
            return run
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UsageError(f"logdir: {path} cannot be read ({error.strerror})") from error
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"logdir: {path} is damaged ({error}); train this run anew with --overwrite, or "
                "elsewhere with --logdir"
            ) from error

    def save(self) -> None:
        """Write `run.json`, whole or not at all."""
        facts = {key: value for key, value in vars(self).items() if key in _SAVED}
        new = self.folder / f"{RUN_FILE}.new"
        new.write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n")
        new.replace(self.folder / RUN_FILE)

    @cached_property
    def history(self) -> History:
        """What was recorded, read from the event files; see `History`."""
        return History(self._points)

    @property
    def decision(self) -> dict[str, np.ndarray] | None:
        """What a finished network of two inputs and two classes says of the plane.

        Returns:
            `axis` `[grid]`, the values of either input; `probability` `[grid, grid]`, of
            the second class, a row for each value of the second input; `points`
            `[examples, 3]`, what it was trained on, and the class. None of other runs,
            and of those without a full record.
        """
        if not set(_DECISION.values()) <= self._points.keys():
            return None
        return {name: decode(*self._points[tag].values()) for name, tag in _DECISION.items()}

    @cached_property
    def _points(self):
        points: dict[str, dict] = {}
        for step, tag, tensor in read_events(self.folder):
            points.setdefault(tag, {})[step] = tensor
        return points


def find_runs(logdir: str | os.PathLike) -> list[Run]:
    """Every run in a folder and below it, by name.

    Raises:
        UsageError: there is none, or the folder cannot be read.
    """
    try:
        folders = sorted(path.parent for path in as_path(logdir).rglob(RUN_FILE))
    except OSError as error:
        raise UsageError(f"logdir: {logdir} cannot be read ({error.strerror})") from error
    if not folders:
        raise UsageError(f"logdir: {logdir} holds no run; train into it, or name another folder")
    return [Run.load(folder) for folder in folders]


_DECISION = {
    "axis": DECISION_AXIS,
    "probability": DECISION_PROBABILITY,
    "points": DECISION_POINTS,
}
_SAVED = ("status", "settings", "dataset", "versions", "seconds", "results", "verdict")


def versions() -> dict[str, str]:
    """The versions of what trains, for `run.json`."""
    packages = ("mnist_vg", "tensorflow", "keras", "tensorboard", "numpy")
    return {"python": platform.python_version(), **{p: metadata.version(p) for p in packages}}


def remove_run(folder: Path, trained: bool = True) -> None:
    """Remove what this program wrote to a run folder, and nothing else.

    A checkpoint is this program's own only where its trainer has `trained` the run.
    """
    # The file that makes it a run goes first: killed in here, a folder is none.
    names = (RUN_FILE, f"{RUN_FILE}.new", UNFINISHED)
    for path in (*map(folder.joinpath, names), *event_files(folder)):
        path.unlink(missing_ok=True)
    if not trained:
        return
    checkpoint = folder / CHECKPOINT_FOLDER
    for path in [*checkpoint.glob("ckpt-*"), *checkpoint.glob("checkpoint*")]:
        remove_tree(path) if path.is_dir() else path.unlink()
    with contextlib.suppress(OSError):
        checkpoint.rmdir()  # Where others keep files there too, it stays.


def check(folder: Path, scenario: Scenario, overwrite: bool = False) -> Run | None:
    """The run of `scenario` that `folder` holds already, None where there is none.

    Raises:
        UsageError: the folder holds a run of other settings or a sweep, or cannot hold one.
    """
    if (folder / SWEEP_FILE).exists():
        raise UsageError(f"logdir: {folder} holds a sweep; train elsewhere with --logdir or --name")
    run = None if overwrite else Run.load(folder)
    if run is not None:
        _check_same_settings(run, scenario)
        if run.status == "finished":
            return run
    check_writable(folder)
    return run


def check_writable(folder: Path) -> None:
    """See that a folder can be written, or made.

    Raises:
        UsageError: it cannot.
    """
    if is_remote(folder):
        return
    try:
        places = [folder / CHECKPOINT_FOLDER, folder, *folder.absolute().parents]
        nearest = next(place for place in places if place.exists())
    except OSError as error:
        raise UsageError(f"logdir: {folder} cannot be written ({error.strerror})") from error
    if not nearest.is_dir():
        raise UsageError(f"logdir: {nearest} is a file; name a folder with --logdir")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(f"logdir: {nearest} cannot be written; name another with --logdir")


def _check_same_settings(run, scenario):
    # A run of an earlier version lacks later settings, which then were as by default.
    defaults = {field.name: field.default for field in setting_fields()}
    settings = defaults | run.settings
    differing = [
        f"{key} {settings[key]!r} and not {value!r}"
        for key, value in scenario.settings().items()
        if settings[key] != value
    ]
    if differing:
        raise UsageError(
            f"logdir: {run.folder} holds a run with {', '.join(differing)}; train elsewhere with "
            "--logdir or --name, or replace that run with --overwrite"
        )


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Hold a run folder, made where missing, against every other process.

    The operating system lets go of the lock when its process ends, however it ends. A
    remote folder has no lock: that no other process writes there is the user's care.

    Raises:
        UsageError: another process holds it, or the folder cannot be made.
    """
    lock = filelock.FileLock(folder / LOCK_FILE, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not is_remote(folder):
            lock.acquire()
    except filelock.Timeout:
        raise UsageError(
            f"logdir: another process is writing {folder}; wait for it, or train elsewhere with "
            "--logdir or --name"
        ) from None
    except OSError as error:
        raise UsageError(f"logdir: {folder} cannot be written ({error})") from error
    try:
        yield
    finally:
        lock.release()
