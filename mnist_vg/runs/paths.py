"""Paths of run folders: on this machine, or in a bucket that TensorFlow can reach.

TensorFlow is imported only for a remote path.
"""

# ruff: noqa: D102  # The methods of RemotePath do what those of pathlib.Path do.

import contextlib
import errno
import fnmatch
import os
import re
import types
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mnist_vg.errors import UsageError, first_line
from mnist_vg.tensorflow_import import import_tensorflow

# Two letters at least: one is a drive on Windows. One slash, since `Path` keeps only one.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")

UNFINISHED = "_mnist_vg.new"
"""The beginning of the name of a file that is still being written. Readers ignore such a file:
TensorBoard looks for `tfevents`, and Parquet readers skip names that begin with `_`."""


def as_path(path: str | os.PathLike) -> "Path | RemotePath":
    """A local path as `pathlib.Path`, one with a scheme (`gs://bucket/logs`) as `RemotePath`.

    Raises:
        UsageError: TensorFlow does not know the scheme, or the path names no bucket.
    """
    if isinstance(path, RemotePath):
        return path
    text = re.sub("^file:/+", "/", os.fspath(path))
    scheme = _SCHEME.match(text)
    if scheme is None:
        return Path(text)
    _check_scheme(scheme[1], text)
    if not re.match("/?[^/]", text[scheme.end() :]):
        raise UsageError(f"logdir: {text!r} names no bucket; give {scheme[1]}://BUCKET/FOLDER")
    return RemotePath(text)


def is_remote(path: str | os.PathLike) -> bool:
    """Whether `as_path` returned it for a path with a scheme."""
    return isinstance(path, RemotePath)


def write_whole(path: "Path | RemotePath", content: bytes) -> None:
    """Write a file completely or not at all, even if this process is killed or the power fails.

    Raises:
        OSError: it could not be written.
    """
    # A name of its own for each file: two processes may write two files at once.
    new = path.with_name(f"{UNFINISHED}{zlib.crc32(path.name.encode()):08x}")
    try:
        with new.open("wb") as file:
            file.write(content)
            if not is_remote(path):
                file.flush()
                # Otherwise the new name may reach the disk before the content does.
                os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    if not is_remote(path):
        sync(path.parent)


def make_folder(path: "Path | RemotePath") -> None:
    """Make a folder where it is missing, and those above it; they stay even if the power fails.

    Raises:
        OSError: it cannot be made.
    """
    missing = [] if is_remote(path) else [f for f in (path, *path.parents) if not f.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def sync(path: Path) -> None:
    """Bring a local file, or the names in a local folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_scheme(scheme, text):
    import_tensorflow()
    import tensorflow as tf

    if scheme not in tf.io.gfile.get_registered_schemes():
        raise UsageError(
            f"logdir: {text!r} is on a file system that TensorFlow {tf.__version__} does not know; "
            "mount the bucket and give its folder, or give gs://BUCKET/FOLDER"
        )


class RemotePath(PurePosixPath):
    """The part of `pathlib.Path` that run folders need, for a path with a scheme.

    It reads and writes with `tf.io.gfile`, and so reaches what TensorFlow's checkpoints
    reach. Its methods raise OSError as those of `pathlib.Path` do.
    """

    def __str__(self):
        return super().__str__().replace(":/", "://", 1)

    def resolve(self):
        return self

    def exists(self) -> bool:
        with self._files() as gfile:
            return gfile.exists(str(self))

    def is_dir(self) -> bool:
        with self._files() as gfile:
            return gfile.isdir(str(self))

    def is_file(self) -> bool:
        return self.exists() and not self.is_dir()

    def stat(self) -> types.SimpleNamespace:
        """Only the size."""
        with self._files() as gfile:
            return types.SimpleNamespace(st_size=gfile.stat(str(self)).length)

    def glob(self, pattern: str) -> Iterator["RemotePath"]:
        """The pattern is for names, not for paths."""
        with self._files() as gfile:
            # gfile lists a folder that it cannot reach as an empty one.
            names = gfile.listdir(str(self)) if gfile.exists(str(self)) else []
            yield from map(self.joinpath, fnmatch.filter(names, pattern))

    def rglob(self, pattern: str) -> Iterator["RemotePath"]:
        """The pattern is for names, not for paths."""
        with self._files() as gfile:
            for folder, _, names in gfile.walk(str(self)) if gfile.exists(str(self)) else ():
                yield from map(RemotePath(folder).joinpath, fnmatch.filter(names, pattern))

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        with self._files() as gfile:
            gfile.makedirs(str(self))

    def replace(self, target: "RemotePath") -> None:
        with self._files() as gfile:
            gfile.rename(str(self), str(target), overwrite=True)

    def unlink(self, missing_ok: bool = False) -> None:
        with contextlib.suppress(FileNotFoundError if missing_ok else ()), self._files() as gfile:
            gfile.remove(str(self))

    @contextlib.contextmanager
    def open(self, mode: str = "r"):
        with self._files() as gfile, gfile.GFile(str(self), mode) as file:
            yield file

    def read_bytes(self) -> bytes:
        with self.open("rb") as file:
            return file.read()

    def read_text(self) -> str:
        return self.read_bytes().decode()

    def write_bytes(self, data: bytes) -> None:
        write_whole(self, data)

    def write_text(self, text: str) -> None:
        self.write_bytes(text.encode())

    @contextlib.contextmanager
    def _files(self):
        import tensorflow as tf

        try:
            yield tf.io.gfile
        except tf.errors.NotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "there is no such file", str(self)) from error
        except tf.errors.OpError as error:
            raise OSError(errno.EIO, first_line(error), str(self)) from error
