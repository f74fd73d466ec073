"""A run and a sweep under attack: kills, power cuts, a disk that fails, damaged files.

Each attack ends a training, or damages what it has left, and then the same command goes on. It
must end bit for bit as if nothing had happened: scalars, histograms, arrays, weights and results.
Where files were damaged, it may refuse in one line instead. Anything else is told on standard
error, and the exit code is 1.

No bit is flipped in the `run.json` of a finished run: people may edit that file, so it has no
checksum of its own, and nobody can see that a number in it has changed.
"""

import contextlib
import dataclasses
import errno
import functools
import itertools
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import _common_tf  # noqa: F401 - imports TensorFlow without its start-up lines
import numpy as np
from _common import run
from _disk import Disk, Tree, read_tree, write_tree

from mnist_vg import Scenario, datasets
from mnist_vg.errors import RunFailed, UsageError
from mnist_vg.runs.events import EVENT_SUFFIX, event_files, read_events
from mnist_vg.runs.folder import CHECKPOINT_FILE
from mnist_vg.runs.run import RUN_FILE, SWEEP_FILE, Run
from mnist_vg.sweeps.sweep import Sweep
from mnist_vg.sweeps.sweeper import Sweeper
from mnist_vg.training.build import make_trainer
from mnist_vg.training.checkpoint import NOTES
from mnist_vg.training.programs import restart
from mnist_vg.training.session import train_run
from mnist_vg.training.trainer import Trainer

SCENARIO = Scenario(
    name="attacked",
    dataset="circles",
    activation="tanh",
    num_layers=2,
    hidden_size=3,
    iterations=8,
    log_every=3,
    measures="full",
)
# A network with this optimizer trains alone, so each of the two is a group.
SWEEP = Sweep("attacked", dataclasses.replace(SCENARIO, optimizer="muon"), {}, seeds=2)

FLIPS = 40
"""Bits that are flipped in each file, one at a time."""

SAME, REFUSED, FAILED = "went on the same", "refused in one line", "failed"

Command = Callable[[Path], None]
"""Trains into a log folder."""
Attempts = Iterator[tuple[str, Callable[[], str]]]
"""Attacks of one kind: each with its name, and a function that says what came of it."""


class Failure(Exception):
    """An attack has done harm."""


@dataclasses.dataclass(frozen=True)
class Story:
    """A training to attack.

    Attributes:
        start: what the log folder holds before.
        command: the training.
        again: what goes on after an attack.
        finished: what the log folder holds after an undisturbed training.
        left: the same, as `left_in` returns it.
    """

    start: Tree
    command: Command
    again: Command
    finished: Tree
    left: Any


def run_stories() -> dict[str, Story]:
    """A run that is new, one that is resumed, and one that replaces another."""
    dataset = datasets.load(SCENARIO.dataset)
    trainer = make_trainer(SCENARIO, dataset)

    def train(logdir, overwrite=False, watch=lambda *block: None):
        restart(SCENARIO, dataset, trainer)
        options = {"overwrite": overwrite, "checkpoint_seconds": 0, "watch": watch}
        train_run(SCENARIO, logdir / SCENARIO.name, dataset, trainer, **options)

    def replace(logdir):
        train(logdir, overwrite=True)

    def train_half(logdir):
        def watch(scenario, block, symptoms):
            # The record of this step is written, but no checkpoint counts on it.
            if block.step >= SCENARIO.iterations / 2:
                raise Failure

        with contextlib.suppress(Failure):
            train(logdir, watch=watch)

    half, _ = _trained(train_half)
    finished, left = _trained(train)
    return {
        "new run": Story({}, train, train, finished, left),
        "resumed run": Story(half, train, train, finished, left),
        "replaced run": Story(finished, replace, train, finished, left),
    }


def sweep_story() -> Story:
    """A sweep of two groups, with run folders."""

    def train(logdir):
        Sweeper(SWEEP, logdir, workers=0, record="all").run()

    return Story({}, train, train, *_trained(train))


def _trained(command):
    with tempfile.TemporaryDirectory() as logdir:
        command(Path(logdir))
        return read_tree(Path(logdir)), left_in(Path(logdir))


def left_in(logdir: Path) -> dict[Path, Any]:
    """What runs and sweeps have left in a log folder, without times."""
    left = {}
    for found in map(Run.load, sorted(path.parent for path in logdir.rglob(RUN_FILE))):
        records = [(step, tag, x.SerializeToString()) for step, tag, x in read_events(found.folder)]
        left[found.folder] = found.status, found.results, found.verdict, records
    for path in logdir.rglob(CHECKPOINT_FILE):
        with np.load(path) as state:
            left[path] = {name: state[name].tobytes() for name in state.files if name != NOTES}
    for path in logdir.rglob("*.parquet"):
        left[path] = path.read_bytes()
    return {path.relative_to(logdir): content for path, content in left.items()}


def told(command: Command, logdir: Path) -> str:
    """The line with which a command refuses or breaks; empty if it goes to its end."""
    try:
        command(logdir)
    except (UsageError, RunFailed) as error:
        if "\n" in str(error):
            raise Failure(f"more than one line: {error}") from error
        return str(error)
    return ""


def gone_on(story: Story, tree: Tree, may_refuse: bool = False) -> str:
    """Go on from what an attack has left."""
    with tempfile.TemporaryDirectory() as logdir:
        write_tree(tree, Path(logdir))
        line = told(story.again, Path(logdir))
        if line and not may_refuse:
            raise Failure(f"refused: {line}")
        if not line and left_in(Path(logdir)) != story.left:
            raise Failure("finished with other records")
    return REFUSED if line else SAME


def killed(story: Story) -> Attempts:
    """Kills at each file operation, and half way through what is written before it."""
    return _states(story, Disk.after_a_kill)


def cut_off(story: Story) -> Attempts:
    """Power cuts at each file operation."""
    chance = random.Random(0)
    return _states(story, lambda disk: disk.after_a_power_cut(chance))


def _states(story, after):
    """Go on once from each state of the folder after an attack at each operation."""
    states = {}

    def note(disk, number):
        for tree in after(disk):
            states.setdefault(frozenset(tree.items()), (number, tree))

    _watch(story, note)
    for number, tree in states.values():
        yield f"before operation {number}", functools.partial(gone_on, story, tree)


def _watch(story, operation=lambda disk, number: None):
    """Train with `operation` before each file operation and at the end; return their number."""
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as logdir:
        write_tree(story.start, Path(logdir))
        with closing(Disk(Path(logdir))) as disk:
            with disk.watched(lambda: operation(disk, next(numbers))):
                story.command(Path(logdir))
            operation(disk, last := next(numbers))
    return last


def failing(story: Story) -> Attempts:
    """A disk on which each file operation fails once."""
    for number in range(_watch(story)):
        for code in (errno.ENOSPC, errno.EIO):
            fail = functools.partial(_fail, code)
            attempt = functools.partial(_disturbed, story, number, fail)
            yield f"{errno.errorcode[code]} at operation {number}", attempt


def _fail(code, logdir):
    raise OSError(code, os.strerror(code))


def cut_short(story: Story) -> Attempts:
    """Another program that cuts the event file short, or removes it."""
    ways = {
        "emptied": functools.partial(_cut, lambda length: 0),
        "half": functools.partial(_cut, lambda length: length // 2),
        "a byte less": functools.partial(_cut, lambda length: max(length - 1, 0)),
        "removed": _remove,
    }
    for number in range(_watch(story)):
        for name, way in ways.items():
            attempt = functools.partial(_disturbed, story, number, way, may_refuse=True)
            yield f"{name} before operation {number}", attempt


def _cut(shortened, logdir):
    for path in event_files(logdir / SCENARIO.name):
        os.truncate(path, shortened(path.stat().st_size))


def _remove(logdir):
    for path in event_files(logdir / SCENARIO.name):
        path.unlink()


def _disturbed(story, at, disturb, may_refuse=False):
    """Disturb the training before one of its file operations, and go on from what it leaves."""
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as logdir:
        write_tree(story.start, Path(logdir))

        def operation():
            if next(numbers) == at:
                disturb(Path(logdir))

        with closing(Disk(Path(logdir))) as disk, disk.watched(operation):
            told(story.command, Path(logdir))
        tree = read_tree(Path(logdir))
    return gone_on(story, tree, may_refuse)


def crowded(story: Story) -> Attempts:
    """Disks that have room for only a part of what is written."""
    written = sum(map(len, filter(None, story.finished.values())))
    for kib in range(4, written // 1024 + 16, 4):
        yield f"{kib} KiB", functools.partial(_on_a_small_disk, story, kib)


def _on_a_small_disk(story, kib):
    with tempfile.TemporaryDirectory() as logdir, _mounted(logdir, kib):
        told(story.command, Path(logdir))
        tree = read_tree(Path(logdir))
    return gone_on(story, tree)


@contextlib.contextmanager
def _mounted(folder, kib):
    options = ["-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", folder]
    subprocess.run(["mount", *options], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def may_mount() -> bool:
    """Whether this process may mount a disk."""
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(OSError):
        try:
            with _mounted(folder, 4):
                return True
        except subprocess.CalledProcessError:
            pass
    return False


def damaged(story: Story, tree: Tree, *names: str) -> Attempts:
    """Files of these names in a log folder, or all, each removed, cut or filled with other text."""
    for path, content in _files(tree, names):
        ways = {
            "emptied": b"",
            "cut to the half": content[: len(content) // 2],
            "cut by a byte": content[:-1],
            "longer": content + b"more",
            "zeros": bytes(len(content)),
            "foreign": b"Something else.\n",
            "nested": b"[" * 100_000,
        }
        changed = {way: tree | {path: other} for way, other in ways.items()}
        changed["removed"] = {name: kept for name, kept in tree.items() if name != path}
        for way, other in changed.items():
            yield f"{path} {way}", functools.partial(gone_on, story, other, may_refuse=True)


def flipped(story: Story, tree: Tree, *names: str) -> Attempts:
    """The same files with a flipped bit, anywhere."""
    chance = random.Random(0)
    for path, content in _files(tree, names):
        for _ in range(FLIPS if content else 0):
            at, bit = chance.randrange(len(content)), chance.randrange(8)
            other = content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
            attempt = functools.partial(gone_on, story, tree | {path: other}, may_refuse=True)
            yield f"{path}, bit {bit} of byte {at} flipped", attempt


def _files(tree, names):
    for path, content in tree.items():
        if content is not None and (not names or Path(path).name in names):
            yield path, content


class Attacks:
    """Tries attacks, and prints what came of them.

    Args:
        every: tries every n-th attack of a kind.
    """

    def __init__(self, every: int):
        self._every = every
        self.failures = 0
        print(f"| attack | tried | {SAME} | {REFUSED} | {FAILED} |\n|---|---|---|---|---|")

    def try_all(self, kind: str, attempts: Attempts) -> None:
        """Try attacks of one kind, and print a row of the table."""
        outcomes = Counter(
            self._outcome(f"{kind}, {what}", attempt)
            for what, attempt in itertools.islice(attempts, None, None, self._every)
        )
        self.failures += outcomes[FAILED]
        counts = [outcomes.total(), *(outcomes[column] for column in (SAME, REFUSED, FAILED))]
        print(f"| {kind} | {' | '.join(map(str, counts))} |", flush=True)

    def _outcome(self, what, attempt):
        try:
            return attempt()
        except Exception as error:  # Whatever it is, it is a finding.
            print(f"{what}: {type(error).__name__}: {error}", file=sys.stderr)
            return FAILED


def _do_not_sync(*descriptor):
    """The model of a disk knows what is synced; the disk of this machine need not."""


@mock.patch.multiple("os", fsync=_do_not_sync, sync=_do_not_sync)
# XLA has nothing to do with the attacks, and takes seconds to compile.
@mock.patch.object(Trainer, "jit_compile", False)
def main(every: int = 1) -> None:
    """Attack and print; of each kind every `every`-th attack."""
    stories, sweep = run_stories(), sweep_story()
    attacks = Attacks(every)
    for name, story in {**stories, "sweep": sweep}.items():
        attacks.try_all(f"{name}: kill", killed(story))
        attacks.try_all(f"{name}: power cut", cut_off(story))
        attacks.try_all(f"{name}: disk error", failing(story))
    new, resumed = stories["new run"], stories["resumed run"]
    if may_mount():
        attacks.try_all("new run: disk too small", crowded(new))
    attacks.try_all("new run: event file cut meanwhile", cut_short(new))
    events = [path.name for path in map(Path, new.finished) if path.suffix == EVENT_SUFFIX]
    for name, way in {"damaged file": damaged, "flipped bit": flipped}.items():
        attacks.try_all(f"unfinished run: {name}", way(resumed, resumed.start))
        names = () if way is damaged else (*events, CHECKPOINT_FILE)
        attacks.try_all(f"finished run: {name}", way(new, new.finished, *names))
        attacks.try_all(f"sweep.json: {name}", way(sweep, sweep.finished, SWEEP_FILE))
    if not may_mount():
        print("\nSmall disks were left out: this process may not mount any.")
    if attacks.failures:
        sys.exit(1)


if __name__ == "__main__":
    run(main, __doc__, takes="7 minutes", smoke={"every": 200})
