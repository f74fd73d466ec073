"""A run's event files: what they hold, and where each record begins and ends.

TensorBoard has the Protocol Buffer messages that they consist of, so TensorFlow is not needed.
"""

import io
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mnist_vg.runs.paths import is_remote, sync
from mnist_vg.runs.tags import GRADIENT_LOG10, RUN_FACTS

EVENT_SUFFIX = ".mnist_vg"
"""The end of every event file's name: files without it are not ours, and are left alone."""
ARRAYS_PLUGIN = "mnist_vg"
"""Plugin name of what only this package reads: arrays, which TensorBoard ignores, and facts."""


def event_files(folder: Path) -> list[Path]:
    """The event files in a run folder that this package wrote, in the order of reading."""
    return sorted(folder.glob(f"*tfevents*{EVENT_SUFFIX}"))


_READ_PLUGINS = ("scalars", "histograms", ARRAYS_PLUGIN)
_NOT_READ = (RUN_FACTS, f"{GRADIENT_LOG10}/")


def read_events(folder: Path) -> Iterator[tuple[int, str, Any]]:
    """Yield `(step, tag, tensor)` for each scalar, histogram and array, in the order of writing.

    `decode` turns a tensor into an array.
    """
    for path in event_files(folder):
        for step, value in values_in(path):
            numbers = value.metadata.plugin_data.plugin_name in _READ_PLUGINS
            if numbers and not value.tag.startswith(_NOT_READ):
                yield step, value.tag, value.tensor


def values_in(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield `(step, value)` for each `Summary.Value` in an event file.

    A file is read up to the first record that is incomplete, as a killed run leaves it,
    or damaged. Checksums are not checked: without TensorFlow that takes a second per
    megabyte.
    """
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    data = path.read_bytes()
    for start, end in _frames(io.BytesIO(data)):
        try:
            event = Event.FromString(data[start : end - 4])
        except DecodeError:
            break
        for value in event.summary.value:
            yield event.step, value


def read_points(folder: Path) -> dict[str, dict[int, Any]]:
    """What `read_events` yields, as a dict: tag to step to tensor."""
    points: dict[str, dict[int, Any]] = {}
    for step, tag, tensor in read_events(folder):
        points.setdefault(tag, {})[step] = tensor
    return points


def read_facts(folder: Path) -> dict[str, Any] | None:
    """The newest facts of a run, as `diagnosis.facts` makes them; None without facts."""
    values = (value for path in event_files(folder) for _, value in values_in(path))
    newest = None
    for value in values:
        if value.tag == RUN_FACTS:
            newest = value.tensor.string_val[0]
    return newest and json.loads(newest)


def decode(tensor) -> np.ndarray:
    """A tensor that `read_events` yielded, as a float64 array."""
    from tensorboard.util import tensor_util

    return tensor_util.make_ndarray(tensor).astype(float)


def encode(array: np.ndarray):
    """The tensor that `decode` turns into this array."""
    from tensorboard.util import tensor_util

    return tensor_util.make_tensor_proto(np.asarray(array, np.float64))


def buckets(min, max, counts) -> np.ndarray:
    """Histograms in the form in which they are recorded.

    Args:
        min: the smallest value, `[...]`.
        max: the largest value, `[...]`.
        counts: values in each bucket, `[..., buckets]`. All buckets have the same width.

    Returns:
        Left edge, right edge and count of each bucket, `[..., buckets, 3]`.
    """
    rows = np.broadcast(min, max).size
    ends = np.reshape(min, rows), np.reshape(max, rows)
    with np.errstate(invalid="ignore"):  # Without a finite value, min and max are infinite.
        # Row by row, since NumPy rounds all rows differently if one of them has no width.
        edges = [np.linspace(*row, np.shape(counts)[-1] + 1) for row in zip(*ends, strict=True)]
    edges = np.reshape(edges, (*np.shape(min), -1))
    return np.stack([edges[..., :-1], edges[..., 1:], counts], axis=-1)


def whole_records(path: Path, start: int, end: int | None = None) -> tuple[int, int]:
    """How many complete records follow byte `start` of an event file, and where the last ends.

    Only those that end up to byte `end` count, if it is given.
    """
    with path.open("rb") as file:
        ends = [last for _, last in _frames(file, start) if end is None or last <= end]
    return len(ends), ends[-1] if ends else start


def _frames(file, start=0):
    """Yield, for each complete record, where its data begin and where the record ends."""
    file.seek(0, os.SEEK_END)
    size = file.tell()
    while start + 8 <= size:
        file.seek(start)
        [length] = struct.unpack("<Q", file.read(8))
        # A record is a length, the checksum of the length, the data, and their checksum.
        end = start + 8 + 4 + length + 4
        if end > size:
            break
        yield start + 12, end
        start = end


def lengths_before(folder: Path, step: int) -> list[int]:
    """The size of each event file in bytes, without the records of `step` and later."""
    files = remaining_files(folder)
    lengths = [path.stat().st_size for path in files]
    # Steps rise from file to file, so the search can start at the last file.
    for number in reversed(range(len(files))):
        lengths[number], earlier = _length_before(files[number], step)
        if earlier:
            break
    return lengths


def _length_before(path, step):
    """Where the records before `step` end, in bytes, and whether there are any."""
    from tensorboard.compat.proto.event_pb2 import Event

    length, earlier = 0, False
    data = path.read_bytes()
    for start, end in _frames(io.BytesIO(data)):
        event = Event.FromString(data[start : end - 4])
        if event.step >= step and not event.file_version:
            break
        length, earlier = end, earlier or event.HasField("summary")
    return length, earlier


def cut_event_files(folder: Path, lengths: list[int]) -> None:
    """Cut the event files back to the lengths that a checkpoint has noted.

    The first `len(lengths)` files are cut, and any later file is removed. No file may be
    shorter than its length. The files that stay are renamed so that they come first by
    name, whatever the clock says: TensorBoard reads files in the order of their names,
    which begin with the time. A kill at any point does no harm, since the order of the
    names never changes.

    A file in a bucket can be neither cut nor renamed. There a shortened copy replaces it.

    Args:
        folder: the run folder.
        lengths: bytes to keep of each file, in the order of reading.
    """
    files = remaining_files(folder)
    for path in files[len(lengths) :]:
        path.unlink()
    for part, (path, length) in enumerate(zip(files, lengths, strict=False)):
        resumed = f"events.out.tfevents.{part:010d}.resumed"
        if is_remote(folder):
            _copy_cut(path, length, resumed)
        else:
            os.truncate(path, length)
            sync(path)  # Or a power cut brings back what was cut off.
            path.rename(folder / f"{resumed}{EVENT_SUFFIX}")


def _copy_cut(path, length, resumed):
    """Replace a file in a bucket by a copy of its first bytes, which is named after it."""
    copied = path.name.startswith(resumed)
    if copied and path.stat().st_size == length:
        return
    copy = path if copied else path.with_name(f"{resumed}.{path.name}")
    copy.write_bytes(path.read_bytes()[:length])
    if not copied:
        path.unlink()


def remaining_files(folder: Path) -> list[Path]:
    """The event files, after removing any that a kill in `_copy_cut` left beside its copy."""
    files = event_files(folder)
    copied = {path.name.partition(".resumed.")[2] for path in files}
    for path in files:
        if path.name in copied:
            path.unlink()
    return [path for path in files if path.name not in copied]
