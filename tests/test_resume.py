"""Runs that are killed, interrupted, refused or replaced."""

import dataclasses
import errno
import fcntl
import io
import json
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import time

import numpy as np
import pytest
import tensorflow as tf
from conftest import COMMAND, PROCESS, assert_refused, call_command, run_command
from tensorboard.util.tensor_util import make_ndarray
from test_runs import points, read

from mnist_vg import SCENARIOS, Run, Scenario, UsageError, datasets, train
from mnist_vg.cli.options import INTERRUPTED
from mnist_vg.diagnosis.diagnosis import Diagnosis
from mnist_vg.driver import train_all
from mnist_vg.runs import events
from mnist_vg.runs.folder import CHECKPOINT_FILE, LOCK_FILE, claim_folder, remove_run
from mnist_vg.runs.paths import UNFINISHED
from mnist_vg.runs.run import RUN_FILE
from mnist_vg.training.build import make_trainer
from mnist_vg.training.checkpoint import Checkpoint

pytestmark = pytest.mark.usefixtures("shared_programs")

LONG = Scenario(activation="relu", num_layers=3, iterations=3_000, log_every=50, name="long")
SHORT = Scenario(activation="relu", num_layers=2, iterations=40, log_every=10, name="short")
FULL = dataclasses.replace(
    SCENARIOS["circles-tanh"], num_layers=3, iterations=100, log_every=20, name="full"
)


def arguments(scenario, logdir, *more):
    flags = [
        text
        for key, value in scenario.settings().items()
        if value is not None and not isinstance(value, bool)
        for text in (f"--{key.replace('_', '-')}", str(value))
    ]
    return ["train", "--logdir", str(logdir), *flags, *more]


def start(scenario, logdir, records=1):
    """Start the command in a new process, and wait until it has printed so many records."""
    process = subprocess.Popen(
        [*COMMAND, *arguments(scenario, logdir, "--checkpoint-seconds", "0")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **PROCESS,
    )
    told = (line for line in process.stdout if line.startswith("Iteration"))
    for _ in zip(range(records), told, strict=False):
        pass
    return process


def bits(folder):
    """Everything that a run leaves, except for times: its events and its variables."""
    reader = read(folder)
    tags = [*reader.PluginTagToContent("scalars"), *reader.PluginTagToContent("histograms")]
    read_points = {tag: points(reader, tag) for tag in tags}
    for tag in tags:
        assert len(reader.Tensors(tag)) == len(read_points[tag]), f"{tag} has a step twice"
    for tag in [*reader.PluginTagToContent("text"), *reader.PluginTagToContent("mnist_vg")]:
        # Facts are told twice at the first step: before it is recorded, and once it has layers.
        told = reader.Tensors(tag)
        read_points[tag] = [(event.step, make_ndarray(event.tensor_proto)) for event in told]
    # Read as bytes, since the folder may be remote.
    with np.load(io.BytesIO((folder / CHECKPOINT_FILE).read_bytes())) as state:
        variables = {name: state[name] for name in state.files if name != "notes"}
    return read_points, variables


def assert_same_bits(folder, other):
    for ours, theirs in zip(bits(folder), bits(other), strict=True):
        assert list(ours) == list(theirs)
        for name, value in ours.items():
            if isinstance(value, dict):
                assert list(value) == list(theirs[name])
            tf.nest.map_structure(np.testing.assert_array_equal, value, theirs[name])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return train(LONG, folder).folder


def test_a_run_killed_five_times_ends_as_if_never_killed(tmp_path, uninterrupted):
    chance = random.Random(0)
    steps = []
    for _ in range(5):
        process = start(LONG, tmp_path, records=chance.randint(1, 6))
        time.sleep(chance.uniform(0, 0.1))
        process.kill()
        process.communicate()
        run = Run.load(tmp_path / LONG.name)
        steps.append(run.history["step"].max(initial=-1))
        assert run.status == "running"
    assert steps == sorted(steps), "a kill took back what a checkpoint held"
    assert 0 <= steps[-1] < LONG.iterations - 1
    assert call_command(*arguments(LONG, tmp_path)) == 0
    assert len(events.event_files(tmp_path / LONG.name)) > 1
    assert_same_bits(tmp_path / LONG.name, uninterrupted)


def test_ctrl_c_saves_everything_and_the_same_command_continues(tmp_path, uninterrupted):
    process = start(LONG, tmp_path)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 130
    assert errors.splitlines() == [f"mnist-vg: {INTERRUPTED}"]
    run = Run.load(tmp_path / LONG.name)
    assert run.status == "interrupted"
    with np.load(run.folder / CHECKPOINT_FILE) as state:
        notes = json.loads(state["notes"].item())
    assert run.history["step"][-1] >= notes["steps_done"] - 50
    assert call_command(*arguments(LONG, tmp_path)) == 0
    assert_same_bits(run.folder, uninterrupted)


def test_a_second_process_is_refused_while_the_first_is_alive(tmp_path):
    endless = dataclasses.replace(LONG, iterations=10**9)
    process = start(endless, tmp_path)
    done = run_command(*arguments(endless, tmp_path))
    overwriting = run_command(*arguments(endless, tmp_path, "--overwrite"))
    assert process.poll() is None
    process.kill()
    process.communicate()
    assert_refused(done, "another process is writing", "--logdir")
    assert_refused(overwriting, "another process is writing", "--logdir")
    with claim_folder(tmp_path / endless.name):
        assert Run.load(tmp_path / endless.name).status == "running"


def remove_lock_file(folder, monkeypatch):
    (folder / LOCK_FILE).unlink()


def lock_only_files(folder, monkeypatch):
    flock = fcntl.flock

    def of_files(descriptor, flags):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(descriptor, flags)

    monkeypatch.setattr(fcntl, "flock", of_files)


@pytest.mark.parametrize("lose_a_lock", [remove_lock_file, lock_only_files])
def test_a_folder_is_claimed_by_either_of_its_two_locks(lose_a_lock, tmp_path, monkeypatch):
    with claim_folder(tmp_path):
        lose_a_lock(tmp_path, monkeypatch)
        with pytest.raises(UsageError, match="another process"), claim_folder(tmp_path):
            pass


@pytest.fixture(scope="module")
def trained_short(tmp_path_factory):
    return train(SHORT, tmp_path_factory.mktemp("short"), checkpoint_seconds=0)


@pytest.fixture
def short(tmp_path, trained_short):
    """A finished run that a test may do with as it likes."""
    return Run.load(shutil.copytree(trained_short.folder, tmp_path / SHORT.name))


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_a_finished_run_is_left_alone(short, capsys):
    before = stamps(short.folder)
    again = train(SHORT, short.folder.parent)
    assert (again.status, again.results) == ("finished", short.results)
    assert stamps(short.folder) == before
    assert call_command(*arguments(SHORT, short.folder.parent)) == 0
    assert "nothing left to train" in capsys.readouterr().out
    assert stamps(short.folder) == before


def test_other_settings_in_the_same_folder_are_refused_with_a_hint(short):
    before = stamps(short.folder)
    other = dataclasses.replace(SHORT, seed=7)
    done = run_command(*arguments(other, short.folder.parent))
    assert_refused(done, "seed 0 and not 7", "--logdir", "--name", "--overwrite")
    assert stamps(short.folder) == before


def test_overwriting_removes_only_what_this_program_wrote(short):
    foreign = [
        short.folder / "notes.txt",
        short.folder / "events.out.tfevents.1.keras.v2",
        short.folder / "checkpoint.npz",
    ]
    for path in foreign:
        path.write_text("mine")
    other = dataclasses.replace(SHORT, seed=7)
    run = train(other, short.folder.parent, overwrite=True)
    assert [path.read_text() for path in foreign] == ["mine"] * 3
    assert len(events.event_files(run.folder)) == 1
    assert run.settings["seed"] == 7
    assert run.results != short.results


def unfinish(run):
    """Reset a finished run's `run.json`, as if the run had been killed."""
    path = run.folder / RUN_FILE
    facts = json.loads(path.read_text())
    unfinished = {"status": "running", "results": None, "verdict": None}
    path.write_text(json.dumps({**facts, **unfinished}))


def test_a_run_killed_after_its_last_checkpoint_has_one_result(short, tmp_path, trained_short):
    unfinish(short)
    again = train(SHORT, tmp_path)
    assert again.status == "finished"
    assert again.results == short.results
    assert len(read(again.folder).Tensors("result")) == 1
    assert_same_bits(again.folder, trained_short.folder)


@pytest.mark.parametrize(
    "damaged",
    [
        lambda content: b"x" * 100,
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[:400] + bytes([content[400] ^ 1]) + content[401:],
    ],
    ids=["scribbled", "emptied", "cut short", "a bit flipped"],
)
def test_a_damaged_checkpoint_gets_one_line_and_nothing_is_lost(short, tmp_path, damaged):
    unfinish(short)
    path = short.folder / CHECKPOINT_FILE
    path.write_bytes(damaged(path.read_bytes()))
    before = stamps(short.folder)
    with pytest.raises(UsageError, match=r"^checkpoint: .* is damaged .*--overwrite.*--logdir$"):
        train(SHORT, tmp_path)
    del before[short.folder / LOCK_FILE]
    after = stamps(short.folder)
    assert {path: after[path] for path in before} == before


def test_an_incomplete_first_checkpoint_is_ignored(short, tmp_path):
    """A kill in the middle of the first save leaves a file, but not under its name."""
    unfinish(short)
    (short.folder / CHECKPOINT_FILE).rename(short.folder / f"{UNFINISHED}00000000")
    again = train(SHORT, tmp_path)
    assert again.results == short.results
    assert again.history["step"].tolist() == [0, 10, 20, 30, 39]


def test_a_logdir_whose_name_is_a_pattern_is_a_folder_like_any_other(tmp_path):
    """It neither touches its neighbours nor loses its own checkpoint."""
    trainer = make_trainer(SHORT, datasets.load(SHORT.dataset))
    neighbour = tmp_path / "exp1"
    for number, name in enumerate(("exp1", "exp[12]", "exp*", "exp?", "a\\b"), 1):
        (tmp_path / name).mkdir()
        trainer.steps_done = number
        Checkpoint(tmp_path / name, trainer).save(name=name)
        trainer.steps_done = 0
        notes = Checkpoint(tmp_path / name, trainer).restore()
        assert (trainer.steps_done, notes["name"]) == (number, name)
    assert Checkpoint(neighbour, trainer).restore()["steps_done"] == 1
    remove_run(tmp_path / "exp*")
    assert Checkpoint(tmp_path / "exp*", trainer).restore() is None
    assert Checkpoint(neighbour, trainer).restore()["steps_done"] == 1


def test_an_event_file_with_a_flipped_bit_gets_one_line_and_is_left_as_it_is(short, tmp_path):
    unfinish(short)
    [written] = events.event_files(short.folder)
    content = written.read_bytes()
    with np.load(short.folder / CHECKPOINT_FILE) as state:
        middle = json.loads(state["notes"].item())["lengths"][0] // 2
    damaged = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    written.write_bytes(damaged)
    with pytest.raises(UsageError, match=r"^logdir: .* is damaged at record \d+ .*--overwrite"):
        train(SHORT, tmp_path)
    assert written.read_bytes() == damaged


def test_missing_event_files_get_one_line(short, tmp_path):
    unfinish(short)
    [written] = events.event_files(short.folder)
    written.unlink()
    with pytest.raises(UsageError, match="event files are missing"):
        train(SHORT, tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"status": "finished"}',
        '{"status": "running", "settings": {}, "dataset": null, "versions": {}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_run_json_gets_one_line(short, content):
    (short.folder / RUN_FILE).write_text(content)
    done = run_command(*arguments(SHORT, short.folder.parent))
    assert_refused(done, "run.json is damaged", "--overwrite", "--logdir")


def test_a_full_disk_gets_one_line_and_the_run_can_continue(tmp_path, uninterrupted):
    """A limit on the size of files acts as a full disk."""
    limit = 200_000
    done = run_command(
        *arguments(LONG, tmp_path),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith(f"mnist-vg: run {LONG.name!r} broke at step ")
    assert Run.load(tmp_path / LONG.name).status == "running"
    assert call_command(*arguments(LONG, tmp_path)) == 0
    assert_same_bits(tmp_path / LONG.name, uninterrupted)


def test_a_folder_that_cannot_be_written_gets_one_line(tmp_path):
    (tmp_path / "file").write_text("mine")
    done = run_command("train", "relu", "--logdir", tmp_path / "file")
    assert_refused(done, "is a file", "--logdir")
    if os.geteuid() != 0:  # root may write anywhere
        tmp_path.chmod(0o500)
        done = run_command("train", "relu", "--logdir", tmp_path / "logs")
        assert_refused(done, "cannot be written", "--logdir")


def test_two_scenarios_with_the_same_name_are_refused_before_training(tmp_path):
    from mnist_vg.driver import train_all

    with pytest.raises(UsageError, match="the same name"):
        list(train_all([SHORT, dataclasses.replace(SHORT, seed=1)], tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_full_run_on_partial_batches_continues_bit_for_bit(tmp_path):
    class Broken(Exception):
        pass

    def watch(scenario, block, symptoms):
        if block.step >= 60:
            raise Broken

    whole = train(FULL, tmp_path / "whole")
    with pytest.raises(Broken):
        train(FULL, tmp_path / "broken", watch=watch, checkpoint_seconds=0)
    broken = train(FULL, tmp_path / "broken")
    assert_same_bits(broken.folder, whole.folder)
    for name, part in whole.history.items():
        np.testing.assert_array_equal(broken.history[name], part)
    for name, part in whole.decision.items():
        np.testing.assert_array_equal(broken.decision[name], part)


def test_a_continued_run_does_not_repeat_a_symptom(tmp_path):
    sick = dataclasses.replace(
        SHORT, name="sick", dataset="digits", learning_rate=1e-8, iterations=120
    )
    told = []

    def watch(scenario, block, symptoms):
        told.extend((block.step, evidence.symptom) for evidence in symptoms)
        if block.step == 50:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(sick, tmp_path, watch=watch)
    assert Run.load(tmp_path / sick.name).status == "interrupted"
    first = len(told)
    run = train(sick, tmp_path, watch=watch)
    evidence = Diagnosis.of(run.history, finished=True).evidence
    assert told == [(one.known, one.symptom) for one in evidence]
    assert first == 2
    assert told[first:] == [(90, "stuck at chance")]
    assert run.verdict == "updates too small, frozen layers, stuck at chance"


def test_seeds_that_share_a_program_equal_separate_runs(tmp_path):
    seeds = [dataclasses.replace(FULL, measures="default").with_seed(seed) for seed in (3, 4)]
    _, second = train_all(seeds, tmp_path / "together")
    assert_same_bits(second.folder, train(seeds[1], tmp_path / "alone").folder)


def test_a_resumed_run_knows_what_passed_since_it_was_told(tmp_path):
    """It is at chance for twenty records, and breaks off at the sixteenth."""
    late = dataclasses.replace(
        SHORT, name="late", dataset="digits", activation="sigmoid", num_layers=3, iterations=240
    )

    def watch(scenario, block, symptoms):
        if block.step == 150:
            signal.raise_signal(signal.SIGINT)

    whole = train(late, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(late, tmp_path / "broken", watch=watch)
    resumed = train(late, tmp_path / "broken")
    assert len(events.event_files(resumed.folder)) == 2
    assert_same_bits(resumed.folder, whole.folder)
    [told] = events.read_facts(resumed.folder)["symptoms"]
    assert (told["symptom"], told["kind"], told["until"]) == ("stuck at chance", "passed", 190)
