"""The training service: its queue, its workers, and what clients get."""

import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pandas
import psutil
import pytest
from conftest import COMMAND, PROCESS, assert_refused, run_command
from servers import free_port
from services import service
from test_resume import assert_same_bits

from mnist_vg import SCENARIOS, Run, RunFailed, Scenario, UsageError, connect, train
from mnist_vg.cure import cure
from mnist_vg.runs.folder import claim_folder
from mnist_vg.runs.run import run_folders
from mnist_vg.service import Queue, worker
from mnist_vg.service.crew import Crew
from mnist_vg.service.limits import Limits
from mnist_vg.service.messages import Ended, Place, Task
from mnist_vg.service.service import Service
from mnist_vg.sweeps import read_table

pytestmark = pytest.mark.usefixtures("shared_programs")

TINY = Scenario(dataset="digits", activation="relu", num_layers=2, iterations=40, log_every=10)
LONG = dataclasses.replace(TINY, num_layers=3, iterations=20_000, log_every=200, name="long")
ENDLESS = dataclasses.replace(LONG, iterations=1_000_000, name="endless")
FULL = dataclasses.replace(
    SCENARIOS["circles-tanh"], num_layers=3, iterations=100, log_every=20, name="full"
)
FULL = Scenario(**FULL.settings())  # Without the text of the named one.


def named(name, **changes):
    return dataclasses.replace(TINY, name=name, **changes)


# The queue.

REQUEST = {"kind": "train", "settings": {"activation": "tanh"}}


@pytest.fixture
def queue(tmp_path):
    queue = Queue(tmp_path / "queue.sqlite3", most=4)
    yield queue
    queue.close()


def numbers(queue):
    return [job.number for job in queue.jobs()]


def test_jobs_are_taken_in_their_order_once_each(queue):
    submitted = [queue.submit(REQUEST, name).number for name in "abc"]
    queue.move(submitted[2], before=submitted[0])
    assert numbers(queue) == [3, 1, 2]
    queue.move(1, before=None)
    taken = [queue.take().number for _ in range(3)]
    assert taken == [3, 2, 1]
    assert queue.take() is None
    assert [job.state for job in queue.jobs()] == ["training"] * 3


def test_a_job_can_be_moved_any_number_of_times(queue):
    for name in "abc":
        queue.submit(REQUEST, name)
    for turn in range(300):
        first, second, _ = numbers(queue)
        queue.move(second, before=first)
        assert numbers(queue) == [second, first, 3], f"after {turn} moves"
    queue.move(3, before=3)
    assert numbers(queue)[-1] == 3


@pytest.mark.parametrize("number", [0, 7, -1, 2**63, 10**30])
def test_a_job_that_is_not_there_gets_one_line(queue, number):
    queue.submit(REQUEST, "a")
    for ask in (
        lambda: queue.job(number),
        lambda: queue.move(number, None),
        lambda: queue.move(1, number),
        lambda: queue.change(number, "stopped", ["waiting"]),
    ):
        with pytest.raises(UsageError, match=rf"^job: there is no job {number}$"):
            ask()
    assert numbers(queue) == [1]


def test_only_so_many_jobs_wait_and_none_has_the_name_of_another(queue):
    for name in "abcd":
        queue.submit(REQUEST, name)
    with pytest.raises(UsageError, match=r"^queue: this service lets at most 4 jobs wait"):
        queue.submit(REQUEST, "e")
    queue.take()
    with pytest.raises(UsageError, match=r"^name: 'a' is the name of job 1"):
        queue.submit(REQUEST, "a")
    queue.end(1, "stopped")
    again = queue.submit(REQUEST, "a").number
    with pytest.raises(UsageError, match=f"^name: 'a' is the name of job {again}"):
        queue.change(1, "waiting", ["stopped"])
    assert queue.job(1).state == "stopped"


def test_a_change_of_state_that_makes_no_sense_is_refused(queue):
    queue.submit(REQUEST, "a")
    with pytest.raises(UsageError, match=r"^job: 1 is waiting; this is for jobs that are stopped"):
        queue.change(1, "waiting", ["stopped", "failed"])


def test_a_job_that_kills_its_worker_gets_five_attempts(queue):
    queue.submit(REQUEST, "a")
    for _ in range(7):  # These are no fault of the job either: it went on meanwhile.
        queue.take()
        queue.went_on(1)
        assert queue.lost(1).state == "waiting"
    for _ in range(3):
        queue.take()
        assert queue.lost(1).state == "waiting"
    for _ in range(5):  # Restarts of the service are no fault of the job.
        queue.take()
        queue.put_back()
    queue.take()
    failed = queue.lost(1)
    assert (failed.state, failed.attempts) == ("failed", 5)
    assert "killed 5 times" in failed.reason
    queue.change(1, "waiting", ["failed"])
    queue.take()
    assert queue.lost(1).state == "waiting"


def test_so_many_ended_jobs_are_remembered_and_no_other_is_forgotten(tmp_path):
    queue = Queue(tmp_path / "queue.sqlite3", most_ended=2)
    for name in "abcdef":
        queue.submit(REQUEST, name)
    for number in (2, 1, 3):
        queue.change(number, "stopped", ["waiting"])
        queue.end(number, "finished")
    assert numbers(queue) == [1, 3, 4, 5, 6]
    queue.take()
    assert numbers(queue) == [1, 3, 4, 5, 6]
    queue.close()


def test_a_queue_without_outcomes_is_read(tmp_path, queue):
    """One of an earlier version."""
    queue.submit(REQUEST, "a")
    program = (
        "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('ALTER TABLE jobs DROP outcome')"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "queue.sqlite3"], check=True)
    queue.close()
    again = Queue(tmp_path / "queue.sqlite3")
    again.end(1, "finished", outcome={"before": "b"})
    assert again.job(1).outcome == {"before": "b"}
    again.close()


def test_what_a_method_has_returned_from_outlives_a_kill(tmp_path, queue):
    program = f"""
import os, signal
from mnist_vg.service import Queue
queue = Queue({str(tmp_path / "queue.sqlite3")!r})
queue.submit({REQUEST!r}, "a"); queue.submit({REQUEST!r}, "b")
queue.move(2, 1); queue.take()
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], check=False)
    assert [(job.number, job.state) for job in queue.jobs()] == [(2, "training"), (1, "waiting")]
    assert queue.job(1).request == REQUEST


def test_a_full_disk_refuses_a_job_and_loses_none(queue):
    """A limit on the size of files acts as a full disk."""
    queue.submit(REQUEST, "a")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        with pytest.raises(UsageError, match=r"^queue: it cannot be written \(.*disk full\?$"):
            queue.submit({**REQUEST, "more": "x" * 100_000}, "b")
        with pytest.raises(UsageError, match=r"^queue: it cannot be written"):
            queue.submit({**REQUEST, "more": "x" * 100_000}, "c")
        assert [job.name for job in queue.jobs()] == ["a"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert queue.take().name == "a"
    queue.submit(REQUEST, "d")
    assert [job.name for job in queue.jobs()] == ["a", "d"]


def garbage(path):
    path.write_bytes(b"this is no queue" * 1000)


def damaged(path):
    queue = Queue(path)
    for number in range(100):
        queue.submit(REQUEST, f"job{number}")
    queue.close()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + os.urandom(4096) + content[8192:])


def other_table(path):
    program = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('CREATE TABLE jobs (x)')"
    subprocess.run([sys.executable, "-c", program, path], check=True)


@pytest.mark.parametrize("make", [garbage, damaged, other_table, os.mkdir])
def test_a_file_that_is_no_queue_gets_one_line(tmp_path, make):
    path = tmp_path / "queue.sqlite3"
    make(path)
    with pytest.raises(UsageError, match=rf"^queue: {path} cannot be used \(.*\); move it away$"):
        Queue(path)


# The service.


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A warm service with one worker."""
    with service(tmp_path_factory.mktemp("served"), "--checkpoint-seconds", "0.2") as served:
        yield served


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What `train` makes of the long scenario."""
    return train(LONG, tmp_path_factory.mktemp("whole")).folder


@pytest.mark.parametrize(
    "scenario",
    [TINY, FULL, SCENARIOS["leaky_relu"]],
    ids=["default measures", "full measures", "a named one"],
)
def test_a_job_leaves_what_train_leaves_bit_for_bit(served, tmp_path, scenario):
    job = served.wait(served.submit(scenario))
    assert job["state"] == "finished", job
    ours, theirs = Run.load(served.logdir / job["name"]), train(scenario, tmp_path)
    assert_same_bits(ours.folder, theirs.folder)
    assert (ours.settings, ours.results) == (theirs.settings, theirs.results)
    assert (ours.verdict, ours.versions) == (theirs.verdict, theirs.versions)


def test_connect_returns_what_train_returns(served, tmp_path):
    scenario = named("from-python", seed=3)
    ours = connect(served.url, served.token).submit(scenario, tmp_path / "ours")
    theirs = train(scenario, tmp_path / "theirs")
    same = ("settings", "results", "verdict", "dataset", "versions", "status", "steps_per_epoch")
    assert [getattr(ours, name) for name in same] == [getattr(theirs, name) for name in same]
    assert list(ours.history) == list(theirs.history)
    for name, values in theirs.history.items():
        np.testing.assert_array_equal(ours.history[name], values)
    # The copy is a run as any other.
    assert train(scenario, tmp_path / "ours").results == theirs.results


def test_a_job_that_fails_says_why_where_it_was_asked_for(served, tmp_path):
    with pytest.raises(RunFailed, match=r"^job \d+ failed: dataset: .*no_such_set"):
        connect(served.url, served.token).submit(named("absent", dataset="no_such_set"))
    assert not (served.logdir / "absent").exists()


def test_a_job_that_is_stopped_and_killed_ends_bit_for_bit(served, whole):
    number = served.submit(LONG)
    served.wait_for_step(number, 1000)
    assert served.post(f"jobs/{number}/stop", {}).code == 200
    assert served.wait(number)["state"] == "stopped"
    run = Run.load(served.logdir / LONG.name)
    assert run.status == "interrupted"
    assert served.post(f"jobs/{number}/continue", {}).code == 200
    served.wait_for_step(number, 8000)
    [worker] = served.workers()
    worker.kill()
    assert served.wait(number)["state"] == "finished"
    assert served.job(number)["attempts"] == 1, "it went on between"
    [other] = served.workers()
    assert other.pid != worker.pid
    assert_same_bits(run.folder, whole)


def test_a_job_that_is_stopped_while_it_compiles_stops_soon(served):
    deep = named("deep", num_layers=25, hidden_size=11)
    [worker] = served.workers()
    number = served.submit(deep)
    served.wait(number, "training")
    time.sleep(0.3)
    begun = time.monotonic()
    served.post(f"jobs/{number}/stop", {})
    assert served.wait(number)["state"] == "stopped"
    assert time.monotonic() - begun < 8
    assert [worker.pid] == [each.pid for each in served.workers()], "it is still warm"


def test_a_job_that_never_goes_on_fails_and_the_queue_goes_on(served):
    number = served.submit(named("fatal", iterations=1_000_000, log_every=1_000_000))
    after = served.submit(named("after"))
    for attempt in range(1, 6):
        while (job := served.job(number))["attempts"] < attempt or job["state"] != "training":
            time.sleep(0.02)
        [worker] = served.workers()
        worker.kill()
    failed = served.wait(number)
    assert failed["state"] == "failed"
    assert "killed 5 times" in failed["reason"]
    assert served.wait(after)["state"] == "finished"


def test_a_run_is_removed_when_it_is_asked_for_by_name_and_nothing_else(served):
    number = served.submit(named("unwanted"))
    served.wait(number)
    folder = served.logdir / "unwanted"
    (folder / "notes.txt").write_text("mine")
    (folder / "below").mkdir()
    train(named("mine"), folder / "below")
    for body in ({}, {"name": ""}, {"name": "other"}, {"name": "../unwanted"}):
        refused = served.post(f"jobs/{number}", body, method="DELETE")
        assert (refused.code, refused.json["setting"]) == (400, "name")
    assert Run.load(folder).status == "finished"
    assert served.post(f"jobs/{number}", {"name": "unwanted"}, method="DELETE").code == 200
    assert served.get(f"jobs/{number}").code == 404
    assert sorted(path.name for path in folder.iterdir()) == ["below", "notes.txt"]
    assert Run.load(folder / "below" / "mine").status == "finished"


def test_a_job_that_was_never_begun_takes_no_records_with_it(served):
    first = served.submit(named("orig"))
    served.wait(first)
    busy = served.submit(dataclasses.replace(ENDLESS, name="busy"))
    again = served.submit(named("orig"))
    refused = served.post(f"jobs/{first}", {"name": "orig"}, method="DELETE")
    assert (refused.code, refused.json["setting"]) == (400, "job")
    assert f"{again}, of the same name, is waiting" in refused.json["error"]
    assert served.post(f"jobs/{again}", {"name": "orig"}, method="DELETE").code == 200
    assert served.job(first)["state"] == "finished"
    assert connect(served.url, served.token).run(first).status == "finished"
    served.post(f"jobs/{busy}/stop", {})
    served.wait(busy)
    assert served.post(f"jobs/{first}", {"name": "orig"}, method="DELETE").code == 200
    assert not (served.logdir / "orig").exists()


def test_a_removal_that_is_refused_changes_nothing(served):
    number = served.submit(named("held"))
    before = served.wait(number)
    with claim_folder(served.logdir / "held"):
        refused = served.post(f"jobs/{number}", {"name": "held"}, method="DELETE")
    assert "another process is writing" in refused.json["error"]
    assert served.job(number) == before
    (served.logdir / "held" / "run.json").write_text("{")
    assert served.post(f"jobs/{number}", {"name": "held"}, method="DELETE").code == 200
    assert not (served.logdir / "held").exists()


def test_several_jobs_are_accepted_all_or_none(served):
    names = [job["name"] for job in served.get("jobs").json["jobs"]]
    wanted = [{"settings": named(name).settings()} for name in ("one", "two", "one")]
    refused = served.post("batches", {"requests": wanted})
    assert (refused.code, refused.json["setting"]) == (400, "name")
    assert [job["name"] for job in served.get("jobs").json["jobs"]] == names
    jobs = served.post("batches", {"requests": wanted[:2]}).json["jobs"]
    assert [job["name"] for job in jobs] == ["one", "two"]
    for job in jobs:
        assert served.wait(job["number"])["state"] == "finished"


def test_a_run_that_is_not_the_jobs_is_not_removed(served):
    """It came there while the job was waiting."""
    first, second = served.submit(ENDLESS), served.submit(named("claimed", seed=1))
    train(named("claimed", seed=2), served.logdir)
    refused = served.post(f"jobs/{first}", {"name": ENDLESS.name}, method="DELETE")
    assert refused.code == 400
    assert "is training" in refused.json["error"]
    served.post(f"jobs/{first}/stop", {})
    failed = served.wait(second)
    assert "holds a run with seed 2 and not 1" in failed["reason"]
    assert served.post(f"jobs/{second}", {"name": "claimed"}, method="DELETE").code == 200
    assert Run.load(served.logdir / "claimed").settings["seed"] == 2


def test_jobs_that_wait_change_places(served):
    endless = served.submit(dataclasses.replace(ENDLESS, name="in-front"))
    first, second = served.submit(named("first")), served.submit(named("second"))
    served.wait(endless, "training")
    assert served.post(f"jobs/{second}/move", {"before": first}).code == 200
    assert served.post(f"jobs/{first}/move", {"before": "second"}).json["setting"] == "before"
    assert served.post(f"jobs/{first}/move", {"before": 10**30}).code == 404
    served.post(f"jobs/{endless}/stop", {})
    assert served.wait(first)["started"] > served.wait(second)["started"]


def test_a_network_that_explodes_is_listed_as_any_other(served):
    sick = named("exploded", activation="linear", optimizer="sgd", learning_rate=1e30)
    number = served.submit(dataclasses.replace(sick, iterations=200_000))
    served.wait_for_step(number, 100)
    [progress] = [job["progress"] for job in served.get("jobs").json["jobs"] if job["progress"]]
    assert progress["loss"] == "nan"
    served.post(f"jobs/{number}/stop", {})
    served.wait(number)


WRONG = [
    {"activation": "relo"},
    {"num_layers": 0},
    {"num_layers": 2.5},
    {"iterations": True},
    {"learning_rate": -1},
    {"learning_rate": 10**400},
    {"momentum": 0.5},
    {"name": "../escape"},
    {"kernel_initializer": "random_normal(stddev=__import__('os'))"},
    {"kernel_initializer": ["he_normal"]},
    {"dataset": "../mnist"},
    {"seed": -1},
    {"batch_size": None},
    {"output": "sigmoid_twice", "num_layers": 1},
]


@pytest.mark.parametrize("settings", WRONG, ids=lambda settings: next(iter(settings)))
def test_wrong_settings_get_the_line_of_the_command_at_their_field(served, tmp_path, settings):
    answer = served.post("jobs", {"settings": settings})
    assert answer.code == 400
    with pytest.raises(UsageError) as refused:
        train(Scenario(**settings), tmp_path)
    assert answer.json["error"] == str(refused.value)
    assert answer.json["setting"] == str(refused.value).partition(":")[0]


def test_a_folder_with_another_run_gets_the_line_of_the_command(served):
    train(named("theirs"), served.logdir)
    other = named("theirs", seed=7)
    answer = served.post("jobs", {"settings": other.settings()})
    with pytest.raises(UsageError) as refused:
        train(other, served.logdir)
    assert (answer.code, answer.json["error"]) == (400, str(refused.value))


def test_more_than_the_service_takes_gets_the_limit_and_its_option(served):
    for name in ("iterations", "hidden_size", "num_layers", "batch_size"):
        most = getattr(Limits, name)
        answer = served.post("jobs", {"settings": {name: most + 1}})
        assert answer.code == 400
        assert answer.json["error"].startswith(f"{name}: {most + 1} is more than this service")
        assert f"--most-{name.replace('_', '-')}" in answer.json["error"]
    answer = served.post("jobs", {"kind": "cure", "run": "relu", "seeds": 10**6})
    assert answer.json["error"].startswith("seeds: 1000000 is more than this service takes")


def test_a_finished_run_is_not_trained_again(served):
    number = served.submit(named("once"))
    served.wait(number)
    path = served.logdir / "once" / "run.json"
    before = path.stat().st_mtime_ns
    again = served.submit(named("once"))
    assert again != number
    assert served.wait(again)["state"] == "finished"
    assert path.stat().st_mtime_ns == before


def test_a_cure_is_a_job_and_trains_what_cure_trains(served, tmp_path):
    sick = named("pale", hidden_size=32, learning_rate=1e-8, iterations=200)
    served.wait(served.submit(sick))
    job = served.wait(served.ask(kind="cure", run="pale", seeds=1))
    assert job["state"] == "finished", job
    assert shlex.split(job["command"])[:5] == ["mnist-vg", "cure", "pale", "--seeds", "1"]
    found = cure(sick, tmp_path, seeds=1)
    ours, theirs = (run_folders(at / "cure" / "pale") for at in (served.logdir, tmp_path))
    assert [folder.name for folder in ours] == [folder.name for folder in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert_same_bits(one, other)
    recommended = found.recommended
    assert recommended, "or nothing is compared below"
    outcome = job["outcome"]
    assert outcome["before"] == "cure/pale/pale-seed0"
    assert outcome["after"] == f"cure/pale/{recommended.scenario.name}-seed0"
    assert outcome["accuracy_before"] == found.before.accuracy < outcome["accuracy_after"]
    assert job["reason"] == f"recommended: {', '.join(recommended.words)}"
    assert served.get(f"jobs/{job['number']}/run").code == 400
    removed = served.post(f"jobs/{job['number']}", {"name": "cure/pale"}, method="DELETE")
    assert removed.code == 200
    assert not any(folder.exists() for folder in ours)


GRID = {"vary": ["num_layers=2,3", "learning_rate=none,0.1"], "seeds": 2}


def test_a_sweep_is_a_job_and_leaves_the_table_of_the_command(served, tmp_path):
    base = named("grid")
    plan = served.post("plan", {"kind": "sweep", "settings": base.settings(), **GRID})
    assert plan.json == {"name": "grid", "networks": 8}
    assert not (served.logdir / "grid").exists()
    job = served.wait(served.submit(base, kind="sweep", **GRID))
    assert (job["state"], job["reason"]) == ("finished", "8 networks")
    command = shlex.split(job["command"].replace(str(served.logdir), str(tmp_path)))
    done = run_command(*command[1:])
    assert done.returncode == 0, done.stderr
    ours, theirs = (read_table(at / "grid") for at in (served.logdir, tmp_path))
    pandas.testing.assert_frame_equal(ours, theirs)
    found = served.get(f"jobs/{job['number']}/map").json
    assert found["x"]["field"] == "num_layers"
    assert found["y"]["values"] == [None, 0.1]
    last = theirs[theirs["step"] == theirs["step"].max()]
    for row, rate in zip(found["accuracy"], (None, 0.1), strict=True):
        of_rate = last[
            last["learning_rate"].isna() if rate is None else last["learning_rate"] == rate
        ]
        expected = of_rate.groupby("num_layers")["test_accuracy"].median()
        np.testing.assert_allclose(row, expected.loc[[2, 3]])
    assert set(np.ravel(found["verdict"])) <= set(found["colours"])
    again = served.post("jobs", {"kind": "sweep", "settings": base.settings(), "vary": ["seed=1"]})
    assert (again.code, again.json["setting"]) == (400, "vary")
    again = served.post("jobs", {"kind": "sweep", "settings": base.settings(), **GRID, "seeds": 3})
    assert "holds a sweep with --seeds 2 and not 3" in again.json["error"]
    removed = served.post(f"jobs/{job['number']}", {"name": "grid"}, method="DELETE")
    assert removed.code == 200
    assert not (served.logdir / "grid").exists()


def test_a_sweep_is_stopped_and_goes_on(served):
    base = named("slow-grid", iterations=2000, log_every=100)
    vary = ["num_layers=2:6:1"]
    number = served.submit(base, kind="sweep", vary=vary)
    while not (progress := served.job(number)["progress"].get("networks")):
        time.sleep(0.05)
    assert served.get(f"jobs/{number}/map").json["x"]["values"] == list(range(2, 7))
    [worker] = served.workers()
    training = [each for each in worker.children() if "spawn_main" in " ".join(each.cmdline())]
    assert training
    served.post(f"jobs/{number}/stop", {})
    assert served.wait(number)["state"] == "stopped"
    _, left = psutil.wait_procs(training, timeout=5)
    assert not left, "or they would train on"
    kept = {path: path.stat().st_mtime_ns for path in served.logdir.glob("slow-grid/records/*")}
    assert len(kept) >= progress
    served.post(f"jobs/{number}/continue", {})
    assert served.wait(number, seconds=120)["state"] == "finished"
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "not trained again"
    assert len(read_table(served.logdir / "slow-grid")["name"].unique()) == 5


def worn_soon(pipe, place):
    """A worker that is worn after each program."""
    worker.WORN_AFTER = 1
    worker.work(pipe, place)


def start_worn_soon(place):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "work", worn_soon)
        return worker.start(place)


def trainers():
    """The workers of this process."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # It has just ended.
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def test_a_fresh_worker_takes_over_before_a_worn_one_leaves(tmp_path, queue):
    place = Place(str(tmp_path), None, 10, 1)
    crew = Crew(queue, 1, lambda: start_worn_soon(place), lambda kind, facts: None)
    for seed in range(3):
        scenario = named(f"n{seed}", seed=seed)
        queue.submit({"kind": "train", "settings": scenario.settings()}, scenario.name)
    crew.start()
    try:
        deadline = time.monotonic() + 60
        while any(job.state != "finished" for job in queue.jobs()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        times = sorted((job.started, job.ended) for job in queue.jobs())
        pauses = [later - ended for (_, ended), (later, _) in itertools.pairwise(times)]
        # A start takes three seconds and more. The worn worker goes on meanwhile.
        assert max(pauses) < 2
        [worn, *_] = before = trainers()
        while worn in (now := trainers()) or not now:
            assert time.monotonic() < deadline, (before, now)
            time.sleep(0.1)
    finally:
        crew.close()


def test_events_tell_how_a_job_goes(served):
    client = connect(served.url, served.token)
    seen = client.events()
    number = client.start(named("watched", iterations=400))["number"]
    kinds = []
    for kind, facts in seen:
        if facts["job"] == number:
            kinds.append(kind)
            if facts.get("state") == "finished":
                break
    assert kinds[0] == "state"
    assert "progress" in kinds


def test_tensorboard_shows_a_finished_run(served):
    served.wait(served.submit(named("shown")))
    deadline = time.monotonic() + 20
    shown = False
    while not shown and time.monotonic() < deadline:
        answer = served.request("GET", "/data/plugin/mnist_vg/runs", headers=served.bearer)
        states = {run["name"]: run["state"] for run in answer.json["runs"]}
        shown = states.get("shown") == "finished"
    assert shown, states


def test_submit_asks_the_service_of_the_log_folder(served):
    flags = ["--logdir", served.logdir, "--dataset", "digits", "--num-layers", "2"]
    flags += ["--iterations", "20", "--log-every", "10"]
    done = run_command("submit", "--name", "by-command", *flags, "--activation", "relu", "--wait")
    assert (done.returncode, done.stderr) == (0, "")
    first, last = done.stdout.splitlines()
    assert first.startswith("by-command: job ")
    assert last == "by-command: finished"
    wrong = run_command("submit", "--activation", "relo", *flags)
    assert_refused(wrong, "activation: 'relo'", "did you mean relu")
    token = run_command("submit", *flags, "--server", served.url, "--token", "wrong")
    assert_refused(token, "token: ")


@pytest.mark.parametrize(
    "server", ["http://127.0.0.1:1", "localhost:6006", "ftp://localhost", "http://[", "nonsense"]
)
def test_a_server_that_is_none_gets_one_line(server):
    with pytest.raises(UsageError, match=r"^server: no service answers at "):
        connect(server, "token")


def test_a_log_folder_without_a_service_gets_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"^server: no service runs on .*mnist-vg serve --logdir"):
        connect(logdir=str(tmp_path))


def test_a_second_service_on_a_log_folder_is_refused(served):
    done = run_command("serve", "--logdir", served.logdir, "--port", served.port)
    assert_refused(done, f"port: 127.0.0.1:{served.port} cannot be used")
    done = run_command("serve", "--logdir", served.logdir, "--port", free_port())
    assert_refused(done, "another service works on", "mnist-vg submit")
    assert served.get("jobs").code == 200


def test_a_run_that_another_process_trains_fails_in_one_line(served):
    with claim_folder(served.logdir / "elsewhere"):
        failed = served.wait(served.submit(named("elsewhere")))
    assert failed["state"] == "failed"
    assert "another process is writing" in failed["reason"]


def test_a_log_folder_that_cannot_be_one_gets_one_line(tmp_path):
    (tmp_path / "file").write_text("mine")
    for logdir in (tmp_path / "file", "gs://bucket/logs"):
        with pytest.raises(UsageError, match=r"^logdir: "):
            Service(logdir)


INTERRUPTED = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):
        pass
except KeyboardInterrupt:
    raise ImportError("initialization failed")  # As packages say it that pybind11 has made.
"""


@pytest.mark.parametrize(("do", "sound"), [("import half_there", False), (INTERRUPTED, True)])
def test_a_worker_ends_after_an_interrupted_import_and_after_nothing_else(
    tmp_path, monkeypatch, do, sound
):
    (tmp_path / "half_there.py").write_text(INTERRUPTED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(worker, "_train_run", lambda *given: exec(do))
    task = Task(1, {"kind": "train", "settings": TINY.settings()}, "tiny")
    before = signal.getsignal(signal.SIGINT)
    ours, theirs = multiprocessing.Pipe()
    try:
        ended = worker.perform(task, Place(str(tmp_path), None, 10, 1), None, ours)
    finally:
        signal.signal(signal.SIGINT, before)
        ours.close(), theirs.close()
    assert ended == (Ended(1, "stopped", "", {}), sound)


def test_a_job_that_was_stopped_stays_so_at_the_next_start(tmp_path):
    with service(tmp_path) as served:
        number = served.submit(ENDLESS)
        served.wait_for_step(number, 100)
        assert served.post(f"jobs/{number}/stop", {}).code == 200
        served.end()
    with service(tmp_path) as served:
        assert served.job(number)["state"] == "stopped"


def test_restarts_and_kills_lose_nothing(tmp_path, whole):
    with service(tmp_path, "--checkpoint-seconds", "0.2") as served:
        number = served.submit(LONG)
        served.wait_for_step(number, 2000)
        assert served.end() == ""
    assert Run.load(tmp_path / LONG.name).status == "interrupted"
    with service(tmp_path, "--checkpoint-seconds", "0.2") as served:
        assert served.job(number)["attempts"] <= 1, "a restart is no attempt"
        client = submitting(tmp_path, "--dataset", "digits", "--name", "waits")
        served.wait_for_step(number, 6000)
        waiting = served.get("jobs").json["jobs"][-1]
        workers = served.workers()
        served.kill()
        _, said = client.communicate(timeout=20)
        assert (client.returncode, waiting["state"]) == (2, "waiting")
        assert re.fullmatch(r"mnist-vg: server: no service answers at .*\n", said)
        for worker in workers:
            worker.wait(5)  # It does not outlive the service.
    with service(tmp_path) as served:
        assert served.wait(number)["state"] == "finished"
        assert served.wait(waiting["number"])["state"] == "finished"
    assert_same_bits(tmp_path / LONG.name, whole)


def submitting(logdir, *flags):
    """A client that has submitted a job, and waits for it."""
    client = subprocess.Popen(
        [*COMMAND, "submit", "--logdir", str(logdir), *flags, "--wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **PROCESS,
    )
    assert "is waiting" in client.stdout.readline()
    return client


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this process may not mount a disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(path):
    """Take all room that a disk has left."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(512))


def test_a_full_disk_loses_no_job(small_disk, whole):
    with service(small_disk, "--checkpoint-seconds", "0.2") as served:
        number = served.submit(LONG)
        served.wait_for_step(number, 4000)
        fill(small_disk / "filler")
        refused = served.post("jobs", {"settings": named("refused").settings()})
        assert refused.code in (400, 503)
        assert refused.json["setting"] in ("queue", "logdir")
        [job] = served.get("jobs").json["jobs"]
        assert job["state"] in ("training", "failed")
        time.sleep(2)
        (small_disk / "filler").unlink()
        if served.wait(number)["state"] == "failed":
            assert served.post(f"jobs/{number}/continue", {}).code == 200
        assert served.wait(number)["state"] == "finished"
        assert served.wait(served.submit(named("later")))["state"] == "finished"
        assert_same_bits(small_disk / LONG.name, whole)
