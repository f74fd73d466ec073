"""A run: its `run.json`, and what was recorded."""

import dataclasses
import json
import os
import platform
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from mnist_vg.errors import UsageError
from mnist_vg.runs.events import decode, read_points
from mnist_vg.runs.history import History
from mnist_vg.runs.paths import as_path, write_whole
from mnist_vg.runs.tags import DECISION_AXIS, DECISION_POINTS, DECISION_PROBABILITY

RUN_FILE = "run.json"
SWEEP_FILE = "sweep.json"
CURE_FOLDER = "cure"
"""The folder in a log folder that has a folder for each cure."""

_DECISION = {
    "axis": DECISION_AXIS,
    "probability": DECISION_PROBABILITY,
    "points": DECISION_POINTS,
}


@dataclass(frozen=True)
class Run:
    """One training, as its folder tells it.

    Attributes:
        folder: the run folder.
        status: "running" (also after a kill), "interrupted", "broken" (its log could not be
            written to the end) or "finished".
        settings: the scenario's, or what `GradientLogger` and `Recorder` know of the model.
        dataset: name and version; None where our trainer did not train the run.
        versions: package to version.
        seconds: time spent on training and logging.
        results: name to number, None for a number that is not finite. None until the run
            is finished.
        verdict: the diagnosis in words. None until the run is finished.
        steps_per_epoch: updates per epoch; None where it is not known.
        layer_marks: layers with weights that got no gradient at the newest record: path to
            "no gradient" or "frozen".
        findings: what was found before the first step, as `checks.Finding` has it.
        checksums: of a finished run: file to CRC-32, as `runs.folder.checksums` returns them.
    """

    folder: Path
    status: str
    settings: dict[str, Any]
    dataset: str | None
    versions: dict[str, str]
    seconds: float = 0.0
    results: dict[str, float | None] | None = None
    verdict: str | None = None
    steps_per_epoch: float | None = None
    layer_marks: dict[str, str] = field(default_factory=dict)
    findings: list[dict[str, str | None]] = field(default_factory=list)
    checksums: dict[str, int] = field(default_factory=dict)

    def __repr__(self):
        facts = {"name": self.name, "status": self.status, "verdict": self.verdict}
        told = ", ".join(f"{key}={fact!r}" for key, fact in facts.items())
        return f"Run({told}, folder={str(self.folder)!r})"

    @property
    def name(self) -> str:
        """The name of the scenario, which is the folder's."""
        return self.settings["name"]

    @property
    def recipe(self) -> str:
        """The name without the seed that `Scenario.with_seed` appends."""
        return self.name.removesuffix(f"-seed{self.settings.get('seed')}")

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "Run | None":
        """The run in `folder`; None where there is no run.

        Raises:
            UsageError: its `run.json` cannot be read, or is not one of ours.
        """
        folder = as_path(folder)
        path = folder / RUN_FILE
        try:
            run = cls(folder=folder, **json.loads(path.read_text()))
            finished = run.status == "finished"
            named = isinstance(run.settings, dict) and isinstance(run.settings.get("name"), str)
            described = named and isinstance(run.checksums, dict)
            if not described or finished != (run.results is not None):
                raise ValueError("it does not describe a run")
            return run
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UsageError(f"logdir: {path} cannot be read ({error.strerror})") from error
        except (ValueError, TypeError, RecursionError) as error:
            raise UsageError(
                f"logdir: {path} is damaged ({error}); train this run anew with --overwrite, or "
                "elsewhere with --logdir"
            ) from error

    def save(self) -> None:
        """Write `run.json`, completely or not at all."""
        write_whole(self.folder / RUN_FILE, self._content())

    def save_without_room(self) -> None:
        """Write `run.json` over itself: on a full disk there is no room for a second file."""
        (self.folder / RUN_FILE).write_bytes(self._content())

    def _content(self):
        names = [field.name for field in dataclasses.fields(self) if field.name != "folder"]
        facts = {name: getattr(self, name) for name in names}
        return (json.dumps(facts, indent=2, allow_nan=False) + "\n").encode()

    @cached_property
    def history(self) -> History:
        """What was recorded, read from the event files once; see `History`."""
        return History(self._points)

    @property
    def decision(self) -> dict[str, np.ndarray] | None:
        """The decision of a finished network with two inputs and two classes.

        Returns:
            `axis` `[grid]`, the values of both inputs; `probability` `[grid, grid]` of the
            second class, one row for each value of the second input; `points`
            `[examples, 3]`, the training examples with their class. None for other
            networks, and without full records.
        """
        if not set(_DECISION.values()) <= self._points.keys():
            return None
        return {name: decode(*self._points[tag].values()) for name, tag in _DECISION.items()}

    @cached_property
    def _points(self):
        return read_points(self.folder)


def find_runs(logdir: str | os.PathLike) -> list[Run]:
    """Every run in a folder and in the folders below it, in the order of their paths.

    Those of a sweep or of a cure below the folder stay apart: give its own folder.

    Raises:
        UsageError: there is no run, or the folder cannot be read.
    """
    folders = run_folders(logdir)
    if not folders:
        raise no_run(logdir)
    return [Run.load(folder) for folder in folders]


def no_run(logdir: str | os.PathLike) -> UsageError:
    """The error that a folder holds no run."""
    if (as_path(logdir) / SWEEP_FILE).exists():
        return UsageError(
            f"logdir: {logdir} is a sweep whose networks have no run folders; give it alone, "
            "without other runs or options, or train it with --record all"
        )
    apart = ", ".join(map(str, folders_apart(logdir)))
    if apart:
        return UsageError(f"logdir: {logdir} holds no run but those in {apart}; name one of these")
    return UsageError(f"logdir: {logdir} holds no run; train into it, or name another folder")


def run_folders(logdir: str | os.PathLike) -> list[Path]:
    """The folders of the runs that `find_runs` finds.

    Raises:
        UsageError: the folder cannot be read.
    """
    return _grouped(logdir)[as_path(logdir)]


def folders_apart(logdir: str | os.PathLike) -> list[Path]:
    """The folders of the sweeps and the cures below a folder.

    Raises:
        UsageError: the folder cannot be read.
    """
    return [folder for folder in _grouped(logdir) if folder != as_path(logdir)]


def is_cure(folder: Path) -> bool:
    """Whether a folder is one that `mnist-vg cure` makes for its trials."""
    return folder.resolve().parent.name == CURE_FOLDER


def _grouped(logdir):
    """The run folders below a folder, by the folder to which they belong: its own first."""
    root = as_path(logdir)
    try:
        paths = sorted(root.rglob("*.json"))
    except OSError as error:
        raise UsageError(f"logdir: {logdir} cannot be read ({error.strerror})") from error
    groups = {root: []}
    groups |= {path.parent: [] for path in paths if path.name == SWEEP_FILE}
    for folder in sorted(path.parent for path in paths if path.name == RUN_FILE):
        *above, _ = folder.relative_to(root).parts or [""]
        end = above.index(CURE_FOLDER) + 2 if CURE_FOLDER in above else 0
        cure = root.joinpath(*above[:end])
        sweep = next((parent for parent in folder.parents if parent in groups), root)
        groups.setdefault(cure if end else sweep, []).append(folder)
    return groups


def versions() -> dict[str, str]:
    """The versions of the packages that a run depends on, for `run.json`."""
    packages = ("mnist_vg", "tensorflow", "keras", "tensorboard", "numpy")
    return {"python": platform.python_version(), **{p: metadata.version(p) for p in packages}}
