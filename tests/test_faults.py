"""Runs whose files another program damages, or that a power cut ends.

`benchmarks/faults.py` attacks many more states than these.
"""

import io
import json
import os
import random
import shutil
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from conftest import without_xla
from test_resume import assert_same_bits

from mnist_vg import Run, Scenario, UsageError, train
from mnist_vg.errors import RunFailed
from mnist_vg.runs.events import EVENT_SUFFIX, event_files
from mnist_vg.runs.folder import CHECKPOINT_FILE, remove_run
from mnist_vg.runs.run import RUN_FILE
from mnist_vg.training.checkpoint import NOTES

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

from _disk import Disk, write_tree

TINY = Scenario(dataset="circles", num_layers=2, iterations=8, log_every=3, name="tiny")

pytestmark = pytest.mark.usefixtures("_quick")


@pytest.fixture(scope="module")
def _quick(shared_programs):
    with without_xla():
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(TINY, tmp_path_factory.mktemp("trained")).folder


@pytest.fixture
def finished(trained, tmp_path):
    """A finished run that a test may damage."""
    return shutil.copytree(trained, tmp_path / TINY.name)


class Stop(Exception):
    """Ends a run before the checkpoint that would count on its newest record."""


def train_half(logdir):
    def watch(scenario, block, symptoms):
        if block.step == 3:
            raise Stop

    with pytest.raises(Stop):
        train(TINY, logdir, watch=watch, checkpoint_seconds=0)


def cut(path, share):
    os.truncate(path, int(share * path.stat().st_size))


DAMAGES = {
    "emptied": lambda path: cut(path, 0),
    "halved": lambda path: cut(path, 0.5),
    "removed": Path.unlink,
}


@pytest.mark.parametrize("step", [3, 7], ids=["between two records", "after the last record"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_an_event_file_that_is_cut_while_it_is_written_breaks_the_run(tmp_path, damage, step):
    def watch(scenario, block, symptoms):
        if block.step == step:
            [path] = event_files(tmp_path / TINY.name)
            damage(path)

    with pytest.raises(RunFailed, match=r"^run 'tiny' broke at step"):
        train(TINY, tmp_path, watch=watch, checkpoint_seconds=0)
    assert Run.load(tmp_path / TINY.name).status == "running"
    with pytest.raises(UsageError, match=r"^logdir: .* (missing|damaged) .*--overwrite"):
        train(TINY, tmp_path)


def test_a_damaged_length_of_a_record_is_noticed_on_resume(tmp_path):
    """The records before it are sound, and those behind it cannot be found."""
    train_half(tmp_path)
    [path] = event_files(tmp_path / TINY.name)
    content = path.read_bytes()
    first = 16 + int.from_bytes(content[:8], "little")
    path.write_bytes(content[: first + 7] + b"\x7f" + content[first + 8 :])
    with pytest.raises(UsageError, match=r"^logdir: .* is damaged at record 1 .*--overwrite"):
        train(TINY, tmp_path)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("kind", [EVENT_SUFFIX, CHECKPOINT_FILE])
def test_a_damaged_file_of_a_finished_run_is_noticed(finished, kind, damage):
    [path] = finished.glob(f"*{kind}")
    damage(path)
    with pytest.raises(
        UsageError, match=rf"^logdir: .*{kind} is not as the finished .*--overwrite"
    ):
        train(TINY, finished.parent)
    assert train(TINY, finished.parent, overwrite=True).status == "finished"


@pytest.mark.parametrize("begin", [lambda logdir: None, train_half], ids=["new", "resumed"])
def test_what_a_finished_run_leaves_is_on_the_disk(tmp_path, trained, begin):
    logdir = tmp_path / "logs"
    logdir.mkdir()
    begin(logdir)
    with closing(Disk(logdir)) as disk:
        with disk.watched(lambda: None):
            train(TINY, logdir, checkpoint_seconds=0)
        only_synced, *_ = disk.after_a_power_cut(random.Random(0))
    write_tree(only_synced, tmp_path / "cut")
    assert Run.load(tmp_path / "cut" / TINY.name).status == "finished"
    train(TINY, tmp_path / "cut")  # Its checksums fit.
    assert_same_bits(tmp_path / "cut" / TINY.name, trained)


def power_cuts(folder, command):
    """Call a command, and return what a power cut may leave at each of its file operations."""
    chance, trees = random.Random(0), []
    with closing(Disk(folder)) as disk:

        def operation():
            for _ in range(10):
                trees.extend(disk.after_a_power_cut(chance))

        with disk.watched(operation):
            command()
        operation()
    return trees


def test_a_checkpoint_counts_on_nothing_that_a_power_cut_takes(tmp_path):
    trees = power_cuts(tmp_path, lambda: train(TINY, tmp_path, checkpoint_seconds=0))
    held = 0
    for tree in trees:
        checkpoint = tree.get(f"{TINY.name}/{CHECKPOINT_FILE}")
        if checkpoint is None:
            continue
        held += 1
        with np.load(io.BytesIO(checkpoint)) as state:
            [length] = json.loads(state[NOTES].item())["lengths"]
        [written] = (content for name, content in tree.items() if name.endswith(EVENT_SUFFIX))
        assert len(written) >= length
        assert not written[:length].endswith(bytes(8))
    assert held > 100


def test_a_power_cut_never_leaves_half_of_a_run_that_is_removed(finished):
    whole = {path.name for path in finished.iterdir()}
    trees = power_cuts(finished, lambda: remove_run(finished))
    assert any(RUN_FILE not in tree for tree in trees)
    for tree in trees:
        assert RUN_FILE not in tree or tree.keys() == whole
