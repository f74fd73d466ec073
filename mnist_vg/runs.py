"""A run folder: its `run.json`, its event files read back, and who may write it.

Nothing here imports TensorFlow: TensorBoard brings a reader of its own.
"""

import contextlib
import json
import operator
import os
import platform
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from mnist_vg.errors import UsageError
from mnist_vg.scenarios import Scenario, setting_fields
from mnist_vg.tags import (
    ACTIVATION_MEAN,
    DECISION_AXIS,
    DECISION_POINTS,
    DECISION_PROBABILITY,
    GRADIENT_MEAN_ABS,
    LAYER_GROUPS,
)

RUN_FILE = "run.json"
CHECKPOINT_FOLDER = "checkpoint"
LOCK_FILE = "run.lock"
EVENT_SUFFIX = ".mnist_vg"
"""Ends the names of this program's event files, so that it never touches another's."""
ARRAYS_PLUGIN = "mnist_vg"
"""Marks arrays in an event file that are for this program alone."""


@dataclass(frozen=True)
class Run:
    """One training, as its folder tells it.

    `settings` are the scenario's, or what `GradientLogger` and `Recorder` know of
    theirs, whose `dataset` is None; `status` is `running` (or was killed),
    `interrupted` or `finished`; `results` are there once it is finished, with None
    where a number is not finite.
    """

    folder: Path
    status: str
    settings: dict[str, Any]
    dataset: str | None
    versions: dict[str, str]
    seconds: float = 0.0
    results: dict[str, float | None] | None = None

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
            UsageError: its `run.json` cannot be read.
        """
        path = Path(folder) / RUN_FILE
        try:
            run = cls(folder=Path(folder), **json.loads(path.read_text()))
            finished = run.status == "finished"
            if not isinstance(run.settings, dict) or finished != (run.results is not None):
                raise ValueError("it does not tell a run")
            return run
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError) as error:
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
    def history(self) -> dict[str, np.ndarray]:
        """What was recorded, read from the event files.

        Returns:
            `step`, int64 `[records]`; each scalar tag by its name, float64
            `[records]`; and for tags of layers one table by the group before the
            slash: scalars float64 `[records, layers]`, histograms float64 `[records,
            layers, 30, 3]` of left edge, right edge and count. NaN stands where a
            record lacks a number. `layers` and, where activations were recorded,
            `activation_layers` name the columns of the tables. A full record of the
            trainer's has tiny kernels whole: `kernels/layer1` `[records, inputs, units]`.
        """
        points = {tag: at for tag, at in self._points.items() if tag not in _DECISION.values()}
        steps = sorted(set().union(*points.values())) if points else []
        columns = {
            tag: np.stack([np.asarray(at.get(step, np.full_like(some, np.nan))) for step in steps])
            for tag, at in points.items()
            for some in [next(iter(at.values()))]
        }
        return {"step": np.array(steps, np.int64), **_join_layers(columns)}

    @property
    def decision(self) -> dict[str, np.ndarray] | None:
        """What a finished network of two inputs and two classes says of the plane.

        Returns:
            `axis` `[grid]`, the values of either input; `probability` `[grid, grid]`, of
            the second class, a row for each value of the second input; `points`
            `[examples, 3]`, what it was trained on, and the class. None of other runs.
        """
        if not set(_DECISION.values()) <= self._points.keys():
            return None
        return {name: next(iter(self._points[tag].values())) for name, tag in _DECISION.items()}

    @cached_property
    def _points(self):
        points: dict[str, dict[int, np.ndarray]] = {}
        for step, tag, value in read_events(self.folder):
            points.setdefault(tag, {})[step] = value
        return points


def find_runs(logdir: str | os.PathLike) -> list[Run]:
    """Every run in a folder and below it, by name.

    Raises:
        UsageError: there is none.
    """
    folders = sorted(path.parent for path in Path(logdir).rglob(RUN_FILE))
    if not folders:
        raise UsageError(f"logdir: {logdir} holds no run; train into it, or name another folder")
    return [Run.load(folder) for folder in folders]


_DECISION = {
    "axis": DECISION_AXIS,
    "probability": DECISION_PROBABILITY,
    "points": DECISION_POINTS,
}
_SAVED = ("status", "settings", "dataset", "versions", "seconds", "results")


def _join_layers(columns):
    history, tables = {}, {}
    for tag, column in columns.items():
        group, _, layer = tag.partition("/")
        if group in LAYER_GROUPS:
            tables.setdefault(group, {})[layer] = column
        else:
            history[tag] = column
    for names, of_group in (("layers", GRADIENT_MEAN_ABS), ("activation_layers", ACTIVATION_MEAN)):
        # These two are written for every layer at every record.
        history |= {names: np.array(list(tables[of_group]))} if of_group in tables else {}
    for group, by_layer in tables.items():
        names = "activation_layers" if group.startswith("activation") else "layers"
        lacking = np.full_like(next(iter(by_layer.values())), np.nan)
        columns = [by_layer.get(str(layer), lacking) for layer in history[names]]
        history[group] = np.stack(columns, axis=1)
    return history


def versions() -> dict[str, str]:
    """The versions of what trains, for `run.json`."""
    packages = ("mnist_vg", "tensorflow", "keras", "tensorboard", "numpy")
    return {"python": platform.python_version(), **{p: metadata.version(p) for p in packages}}


def event_files(folder: Path) -> list[Path]:
    """This program's event files in a run folder, in the order of reading."""
    return sorted(folder.glob(f"*tfevents*{EVENT_SUFFIX}"))


_READ_PLUGINS = ("scalars", "histograms", ARRAYS_PLUGIN)


def read_events(folder: Path) -> Iterator[tuple[int, str, np.ndarray]]:
    """Yield `(step, tag, value)` of each scalar, histogram and array, in the order of writing.

    A record that is cut short, as a killed run leaves, ends its file, and so does one
    that is damaged beyond reading. Checksums are not checked: without TensorFlow that
    takes a second for each megabyte.
    """
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.util import tensor_util

    for path in event_files(folder):
        data = path.read_bytes()
        for start, end in _frames(path):
            try:
                event = Event.FromString(data[start : end - 4])
            except DecodeError:
                break
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name in _READ_PLUGINS:
                    yield (
                        event.step,
                        value.tag,
                        tensor_util.make_ndarray(value.tensor).astype(float),
                    )


def whole_records(path: Path, start: int) -> tuple[int, int]:
    """How many whole records an event file has from byte `start` on, and where they end."""
    ends = [end for _, end in _frames(path, start)]
    return len(ends), ends[-1] if ends else start


def _frames(path, start=0):
    """Yield where the data of each whole record begin, and where the record ends."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while start + 8 <= size:
            file.seek(start)
            [length] = struct.unpack("<Q", file.read(8))
            # A record: its length and that one's checksum, the data and theirs.
            end = start + 8 + 4 + length + 4
            if end > size:
                break
            yield start + 12, end
            start = end


def lengths_before(folder: Path, step: int) -> list[int]:
    """Bytes of each event file up to its first record of `step` or later."""
    files = event_files(folder)
    lengths = [path.stat().st_size for path in files]
    # Steps rise from file to file, so only the last ones need a look.
    for number in reversed(range(len(files))):
        lengths[number], earlier = _length_before(files[number], step)
        if earlier:
            break
    return lengths


def _length_before(path, step):
    """Bytes up to the first record of `step` or later, and whether there is an earlier one."""
    from tensorboard.compat.proto.event_pb2 import Event

    length, earlier = 0, False
    data = path.read_bytes()
    for start, end in _frames(path):
        event = Event.FromString(data[start : end - 4])
        if event.step >= step and not event.file_version:
            break
        length, earlier = end, earlier or event.HasField("summary")
    return length, earlier


def cut_event_files(folder: Path, lengths: list[int]) -> None:
    """Put the event files back to the bytes that a checkpoint knows of.

    The first `len(lengths)` files are cut to those lengths, any later one is
    removed. What stays is renamed to sort before every file of a clock's time,
    since TensorBoard reads in the order of names and a clock may go back. To
    be killed at any point in here does no harm: the order of names never changes.
    """
    files = event_files(folder)
    sizes = [path.stat().st_size for path in files]
    if len(sizes) < len(lengths) or any(map(operator.lt, sizes, lengths)):
        raise UsageError(
            f"logdir: event files are missing in {folder}, or shortened; train this run anew with "
            "--overwrite, or elsewhere with --logdir"
        )
    for path in files[len(lengths) :]:
        path.unlink()
    for part, (path, length) in enumerate(zip(files, lengths, strict=False)):
        os.truncate(path, length)
        path.rename(folder / f"events.out.tfevents.{part:010d}.resumed{EVENT_SUFFIX}")


def remove_run(folder: Path, trained: bool = True) -> None:
    """Remove what this program wrote to a run folder, and nothing else.

    A checkpoint is this program's own only where its trainer has `trained` the run.
    """
    # The file that makes it a run goes first: killed in here, a folder is none.
    for path in (folder / RUN_FILE, folder / f"{RUN_FILE}.new", *event_files(folder)):
        path.unlink(missing_ok=True)
    if not trained:
        return
    checkpoint = folder / CHECKPOINT_FOLDER
    for path in [*checkpoint.glob("ckpt-*"), *checkpoint.glob("checkpoint*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with contextlib.suppress(OSError):
        checkpoint.rmdir()  # Where others keep files there too, it stays.


def check(folder: Path, scenario: Scenario, overwrite: bool = False) -> Run | None:
    """The run of `scenario` that `folder` holds already, None where there is none.

    Raises:
        UsageError: the folder holds a run of other settings, or cannot hold one.
    """
    run = None if overwrite else Run.load(folder)
    if run is not None:
        _check_same_settings(run, scenario)
        if run.status == "finished":
            return run
    try:
        places = [folder / CHECKPOINT_FOLDER, folder, *folder.absolute().parents]
        nearest = next(place for place in places if place.exists())
    except OSError as error:
        raise UsageError(f"logdir: {folder} cannot be written ({error.strerror})") from error
    if not nearest.is_dir():
        raise UsageError(f"logdir: {nearest} is a file; name a folder with --logdir")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(f"logdir: {nearest} cannot be written; name another with --logdir")
    return run


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

    The operating system lets go of the lock when its process ends, however it ends.

    Raises:
        UsageError: another process holds it, or the folder cannot be made.
    """
    lock = filelock.FileLock(folder / LOCK_FILE, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
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
