"""Run folders on a remote file system: TensorFlow's in-memory one, `ram://`, acts as a bucket."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from test_recorder import network
from test_recorder import train as train_own
from test_resume import assert_same_bits
from test_runs import points, read

from mnist_vg import SCENARIOS, Recorder, Run, UsageError, figures, train
from mnist_vg.cli import cli
from mnist_vg.cure import find_sick
from mnist_vg.diagnosis.diagnosis import diagnose_runs
from mnist_vg.figures import drawings
from mnist_vg.recording.event_log import EventLog
from mnist_vg.runs import events
from mnist_vg.runs.folder import CHECKPOINT_FILE, remove_run
from mnist_vg.runs.paths import UNFINISHED, as_path
from mnist_vg.runs.run import find_runs
from mnist_vg.runs.tags import GRADIENT_PROFILE

pytestmark = pytest.mark.usefixtures("shared_programs")

SHORT = dataclasses.replace(
    SCENARIOS["circles-tanh"], num_layers=2, iterations=60, log_every=20, name="short"
)
REMOTE = "ram://bucket/logs"
RUN = as_path(REMOTE) / SHORT.name


class Broken(Exception):
    pass


def break_at_40(scenario, block, symptoms):
    if block.step >= 40:
        raise Broken


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return train(SHORT, tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="module")
def resumed():
    """A remote run that broke after a checkpoint, and was continued."""
    with pytest.raises(Broken):
        train(SHORT, REMOTE, watch=break_at_40, checkpoint_seconds=0)
    broken = Run.load(RUN)
    beyond = broken.history["step"][-1]
    return beyond, train(SHORT, REMOTE)


def test_a_broken_remote_run_ends_like_an_unbroken_local_one(resumed, local):
    beyond, run = resumed
    assert beyond == 40, "nothing was recorded after the checkpoint"
    assert len(events.event_files(run.folder)) == 2
    assert_same_bits(run.folder, local.folder)
    assert list(run.history) == list(local.history)
    for name, values in local.history.items():
        np.testing.assert_array_equal(run.history[name], values)
    assert (run.results, run.verdict) == (local.results, local.verdict)
    assert {path.name for path in run.folder.glob("*")} == {
        CHECKPOINT_FILE, "run.json", *(path.name for path in events.event_files(run.folder))
    }  # fmt: skip


def test_the_commands_read_remote_runs_like_local_ones(resumed, local, capsys):
    told = []
    for logdir in (REMOTE, str(local.folder.parent)):
        cli.main(["diagnose", logdir, "--json"], standalone_mode=False)
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    cli.main(["plot", REMOTE], standalone_mode=False)
    for name in capsys.readouterr().out.split():
        assert name.startswith(f"{REMOTE}/figures/")
        assert as_path(name).read_bytes().lstrip(b"\x89")[:4] in (b"PNG\r", b"<?xm")


def test_a_remote_path_may_be_text_or_a_path_that_lost_a_slash(resumed):
    for path in (REMOTE, Path(REMOTE), as_path(REMOTE)):
        assert [run.name for run in find_runs(path)] == list(diagnose_runs(path)) == ["short"]
        assert find_sick("short", path).settings() == SHORT.settings()
    with pytest.raises(UsageError, match="logdir: ram://bucket/none holds no run"):
        find_runs("ram://bucket/none")
    assert Run.load("ram://bucket/none") is None


def test_a_continued_loop_removes_later_records_even_if_it_is_killed_meanwhile():
    folder = as_path("ram://bucket/own/loop")
    with Recorder(str(folder), model := network()) as recorder:
        train_own(recorder, model)
    [first] = events.event_files(folder)
    whole = first.read_bytes()
    for _ in range(2):  # The second time, the first file is still next to its copy.
        with Recorder(folder, model := network(), initial_step=3) as recorder:
            train_own(recorder, model, steps=range(3, 6))
        run, reader = Run.load(folder), read(folder)
        steps = [point.step for point in reader.Tensors("loss/train")]
        assert steps == run.history["step"].tolist() == [*range(6)]
        picture = points(reader, GRADIENT_PROFILE)[5][2]
        assert picture == drawings.profile_picture(run)[GRADIENT_PROFILE]
        for path in events.event_files(folder)[1:]:
            path.unlink()
        first.write_bytes(whole)


def test_a_remote_event_file_is_uploaded_whole_and_not_with_every_record():
    folder = as_path("ram://bucket/own/log")
    log = EventLog(folder)
    for step in range(100):
        log.record(step, {"loss/train": 1.0})
    [path] = events.event_files(folder)
    assert [step for step, _, _ in events.read_events(folder)] == [0]
    assert log.lengths() == [path.stat().st_size]
    assert [step for step, _, _ in events.read_events(folder)] == [*range(100)]
    log.record(100, {"loss/train": 1.0})
    log.close()
    assert [point.step for point in read(folder).Tensors("loss/train")] == [*range(101)]


def test_removing_a_remote_run_leaves_what_others_wrote():
    folder = as_path("ram://bucket/others/run")
    foreign = [folder / "notes.txt", folder / "checkpoint" / "weights.h5"]
    ours = ["run.json", "x.tfevents.mnist_vg", CHECKPOINT_FILE, f"{UNFINISHED}00000000"]
    for path in (*foreign, *map(folder.joinpath, ours)):
        path.parent.mkdir()
        path.write_text("mine")
    remove_run(folder)
    assert sorted(folder.glob("*")) == [folder / "checkpoint", folder / "notes.txt"]
    assert [path.read_text() for path in foreign] == ["mine"] * 2


def told_of(folder):
    """The results of each path method, on a small tree of files."""
    deep, none, moved = folder / "a" / "b", folder / "none", folder / "a" / "moved"
    deep.mkdir(parents=True, exist_ok=True)
    file = deep / "run.json"
    file.write_text("é")
    (folder / "new").write_bytes(b"\0\n")
    (folder / "new").replace(moved)
    with file.open("rb") as opened:
        opened.seek(1)
        yield opened.read(1)
    for path in (folder, deep, file, none, file.parent, moved, folder / "new"):
        yield path.exists(), path.is_dir(), path.is_file(), path.suffix
        yield path.relative_to(folder).as_posix(), path == deep, hash(path) == hash(deep)
    yield file.read_text(), file.stat().st_size, moved.read_bytes()
    yield sorted(path.name for path in folder.rglob("run.json")), [*none.rglob("run.json")]
    yield sorted(path.name for path in (folder / "a").glob("*o*d")), [*none.glob("*")]
    none.unlink(missing_ok=True)
    for refused in (none.unlink, none.read_text, deep.read_text):
        try:
            refused()
        except OSError as error:
            yield isinstance(error, FileNotFoundError)
    file.unlink()
    yield file.exists()


def test_a_remote_path_does_what_a_local_one_does(tmp_path):
    assert list(told_of(as_path("ram://bucket/tree"))) == list(told_of(as_path(tmp_path)))


@pytest.mark.parametrize("path", ["logs", "/tmp/x:/y", "./gs:/x", "C:/logs", Path("a/b"), "1://x"])
def test_a_path_without_a_scheme_is_local(path):
    assert as_path(path) == Path(path)
    assert as_path("file:///tmp/x") == Path("/tmp/x")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("zz://bucket/x", "logdir: 'zz://bucket/x' .* does not know"),
        (Path("zz://bucket/x"), "does not know"),
        ("ram:///x", "logdir: 'ram:///x' names no bucket"),
        ("ram://", "names no bucket"),
    ],
)
def test_a_path_with_an_unknown_scheme_is_refused_everywhere(path, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=words):
        train(SHORT, path)
    with pytest.raises(UsageError, match=words):
        figures.save({}, path)
    for call in (find_runs, Run.load, Recorder, diagnose_runs):
        with pytest.raises(UsageError, match=words):
            call(path)
    for command in ("train", "diagnose", "plot", "board", "cure"):
        arguments = [path] if command in ("diagnose", "plot") else ["--logdir", path]
        with pytest.raises(UsageError, match=words):
            cli.main([command, *map(str, arguments)], standalone_mode=False)
    assert list(tmp_path.iterdir()) == []
