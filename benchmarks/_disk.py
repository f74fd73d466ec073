"""`Disk`: what a process does to the files in a folder, and what a power cut would leave of it.

Python tells an audit hook of every file operation before it does it. TensorFlow writes event
files without Python; what it has written is seen at the next operation.
"""

import contextlib
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

Tree = dict[str, bytes | None]
"""What a folder holds: relative path to content, None for a folder. A folder comes before what it
holds."""

_OPERATIONS = {
    "open",
    "os.listdir",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.scandir",
    "os.truncate",
}
"""Audit events of file operations; os.fsync and os.sync have none, and are replaced."""

_FOLDER = object()
"""What stands for the content of a folder."""


def read_tree(folder: Path) -> Tree:
    """What a folder holds."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def write_tree(tree: Tree, folder: Path) -> None:
    """Make a folder that holds this."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tree.items():
        path = folder / name
        path.mkdir() if content is None else path.write_bytes(content)


class Disk:
    """Watches the file operations of this process in a folder, and models a disk below it.

    Within the model, the content of a file is on the disk when the file is synced, and a name
    when its folder is. All that the folder holds at the start is on the disk.

    Args:
        folder: the folder to watch.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._kept = {}
        self.sync()
        self._seen = self._contents

    @contextlib.contextmanager
    def watched(self, operation: Callable[[], object]) -> Iterator[None]:
        """Within the context, call `operation` before each file operation.

        What it raises, the file operation raises. os.fsync and os.sync take effect in the model
        alone.
        """

        def call():
            with _watched_by(None):
                operation()

        def fsync(descriptor):
            call()
            with _watched_by(None):
                self._fsync(descriptor)

        def sync():
            call()
            with _watched_by(None):
                self.sync()

        def hook(event, arguments):
            if event in _OPERATIONS and self._holds(arguments[0]):
                call()

        with _watched_by(hook), mock.patch("os.fsync", fsync), mock.patch("os.sync", sync):
            yield

    def _holds(self, path):
        if not isinstance(path, str | os.PathLike):
            return False
        return Path(path).is_relative_to(self._folder)

    def after_a_kill(self) -> Iterator[Tree]:
        """What a kill leaves now, or left while a file was written since the last call."""
        names, contents = self._look()
        for inode, content in contents.items():
            before = self._seen.get(inode, b"")
            if not before.startswith(content):
                written = len(before) if content.startswith(before) else 0
                half = content[: (written + len(content)) // 2]
                yield self._tree(names, contents | {inode: half})
        self._seen = contents
        yield self._tree(names, contents)

    def after_a_power_cut(self, chance: random.Random) -> Iterator[Tree]:
        """What a power cut may leave now: names and contents may reach the disk before a sync."""
        names, contents = self._look()
        synced = {inode: self._contents.get(inode, b"") for inode in contents}
        yield self._tree(self._names, synced)
        yield self._tree(names, synced)
        yield self._tree(self._names, contents)
        # Some names and some contents. The length of a file may reach the disk before the rest.
        drawn = {
            inode: chance.choice([synced[inode], now, synced[inode].ljust(len(now), b"\0")])
            for inode, now in contents.items()
        }
        folders = {
            folder: _drawn(names.get(folder, {}), self._names.get(folder, {}), chance)
            for folder in sorted(names.keys() | self._names.keys())
        }
        yield self._tree(folders, drawn)

    def sync(self) -> None:
        """Bring everything to the disk of the model."""
        self._names, self._contents = self._look()

    def _fsync(self, descriptor):
        names, contents = self._look()
        inode = os.fstat(descriptor).st_ino
        if inode in contents:
            self._contents[inode] = contents[inode]
        for folder in names:
            if (self._folder / folder).stat().st_ino == inode:
                self._names[folder] = names[folder]

    def _look(self):
        """Each folder's names with their inodes, and the content of every inode ever seen."""
        names = {}
        for folder, folders, files in os.walk(self._folder):
            inside = dict.fromkeys(sorted(folders), _FOLDER)
            for name in sorted(files):
                path = os.path.join(folder, name)
                inode = os.stat(path).st_ino
                if inode not in self._kept:
                    # An open file keeps its inode, so that no later file gets the same.
                    self._kept[inode] = open(path, "rb")  # noqa: SIM115
                inside[name] = inode
            names[str(Path(folder).relative_to(self._folder))] = inside
        return names, {inode: self._content(file) for inode, file in self._kept.items()}

    @staticmethod
    def _content(file):
        return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)

    @staticmethod
    def _tree(names, contents) -> Tree:
        tree = {}

        def add(folder):
            for name, inode in names.get(folder, {}).items():
                path = os.path.normpath(os.path.join(folder, name))
                tree[path] = None if inode is _FOLDER else contents.get(inode, b"")
                if inode is _FOLDER:
                    add(path)

        add(".")
        return tree

    def close(self) -> None:
        """Let go of the files."""
        for file in self._kept.values():
            file.close()


def _drawn(now, synced, chance):
    """Names of a folder of which some have reached the disk."""
    drawn = {name: chance.choice([now, synced]).get(name) for name in sorted(now | synced)}
    # A file that is renamed never has no name.
    renamed = set(now.values()) - set(drawn.values())
    kept = {name: inode for name, inode in synced.items() if inode in renamed}
    return kept | {name: inode for name, inode in drawn.items() if inode is not None}


_hook = None
"""An audit hook cannot be removed; this one does nothing while it is None."""


@contextlib.contextmanager
def _watched_by(hook):
    global _hook
    before, _hook = _hook, hook
    try:
        yield
    finally:
        _hook = before


def _audit(event, arguments):
    if _hook is not None:
        _hook(event, arguments)


sys.addaudithook(_audit)
