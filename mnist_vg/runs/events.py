"""A run's event files: what they hold, and where their records begin and end.

Nothing here imports TensorFlow: TensorBoard brings the messages that they are made of.
"""

import io
import operator
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mnist_vg.errors import UsageError
from mnist_vg.runs.paths import is_remote

EVENT_SUFFIX = ".mnist_vg"
"""Ends the names of this program's event files, so that it never touches another's."""
ARRAYS_PLUGIN = "mnist_vg"
"""Marks arrays in an event file that are for this program alone."""


def event_files(folder: Path) -> list[Path]:
    """This program's event files in a run folder, in the order of reading."""
    return sorted(folder.glob(f"*tfevents*{EVENT_SUFFIX}"))


_READ_PLUGINS = ("scalars", "histograms", ARRAYS_PLUGIN)


def read_events(folder: Path) -> Iterator[tuple[int, str, Any]]:
    """Yield `(step, tag, tensor)` of each scalar, histogram and array, in the order of writing.

    `decode` makes arrays of the tensors.

    A record that is cut short, as a killed run leaves, ends its file, and so does one
    that is damaged beyond reading. Checksums are not checked: without TensorFlow that
    takes a second for each megabyte.
    """
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    for path in event_files(folder):
        data = path.read_bytes()
        for start, end in _frames(io.BytesIO(data)):
            try:
                event = Event.FromString(data[start : end - 4])
            except DecodeError:
                break
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name in _READ_PLUGINS:
                    yield event.step, value.tag, value.tensor


def read_points(folder: Path) -> dict[str, dict[int, Any]]:
    """What `read_events` yields, as tag to step to tensor."""
    points: dict[str, dict[int, Any]] = {}
    for step, tag, tensor in read_events(folder):
        points.setdefault(tag, {})[step] = tensor
    return points


def decode(tensor) -> np.ndarray:
    """The values of a tensor of `read_events`, float64."""
    from tensorboard.util import tensor_util

    return tensor_util.make_ndarray(tensor).astype(float)


def buckets(min, max, counts) -> np.ndarray:
    """Histograms as they are recorded: rows of left edge, right edge and count.

    Args:
        min: the least value, a number or an array of them.
        max: the largest one, of the same shape.
        counts: of buckets of one width, along a last axis.
    """
    with np.errstate(invalid="ignore"):  # There are no ends where no value is finite.
        edges = np.linspace(min, max, np.shape(counts)[-1] + 1, axis=-1)
    return np.stack([edges[..., :-1], edges[..., 1:], counts], axis=-1)


def whole_records(path: Path, start: int) -> tuple[int, int]:
    """How many whole records an event file has from byte `start` on, and where they end."""
    with path.open("rb") as file:
        ends = [end for _, end in _frames(file, start)]
    return len(ends), ends[-1] if ends else start


def _frames(file, start=0):
    """Yield where the data of each whole record begin, and where the record ends."""
    file.seek(0, os.SEEK_END)
    size = file.tell()
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
    files = _remaining_files(folder)
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
    for start, end in _frames(io.BytesIO(data)):
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

    What is in a bucket can be neither cut nor renamed: there a file's copy takes its place.
    """
    files = _remaining_files(folder)
    sizes = [path.stat().st_size for path in files]
    if len(sizes) < len(lengths) or any(map(operator.lt, sizes, lengths)):
        raise UsageError(
            f"logdir: event files are missing in {folder}, or shortened; train this run anew with "
            "--overwrite, or elsewhere with --logdir"
        )
    for path in files[len(lengths) :]:
        path.unlink()
    for part, (path, length) in enumerate(zip(files, lengths, strict=False)):
        resumed = f"events.out.tfevents.{part:010d}.resumed"
        if is_remote(folder):
            _copy_cut(path, length, resumed)
        else:
            os.truncate(path, length)
            path.rename(folder / f"{resumed}{EVENT_SUFFIX}")


def _copy_cut(path, length, resumed):
    """Put a whole new file of the first bytes in a file's place, by a name that tells of both."""
    copied = path.name.startswith(resumed)
    if copied and path.stat().st_size == length:
        return
    copy = path if copied else path.with_name(f"{resumed}.{path.name}")
    copy.write_bytes(path.read_bytes()[:length])
    if not copied:
        path.unlink()


def _remaining_files(folder):
    """The event files, after those whose copy stands already, where `_copy_cut` was killed."""
    files = event_files(folder)
    copied = {path.name.partition(".resumed.")[2] for path in files}
    for path in files:
        if path.name in copied:
            path.unlink()
    return [path for path in files if path.name not in copied]
