"""A service that trains on a real Ray cluster: the same bits, whatever is killed."""

import contextlib
import dataclasses
import importlib.util
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import pandas
import psutil
import pytest
from conftest import PROCESS, assert_refused, run_command
from servers import free_port
from services import service
from test_resume import assert_same_bits
from test_service import LONG, named, worn_soon

from mnist_vg import Run, Scenario, UsageError, train
from mnist_vg.cure import cure
from mnist_vg.runs.folder import claim_folder
from mnist_vg.runs.run import run_folders
from mnist_vg.service import worker
from mnist_vg.service.messages import Ended, Place, Ready, Task
from mnist_vg.service.node import Node
from mnist_vg.service.service import FOLDER, Service
from mnist_vg.service.snapshots import PATTERN, pack, settle, snapshot_path
from mnist_vg.sweeps.sweep import Sweep, parse_axes
from mnist_vg.sweeps.sweeper import Sweeper
from mnist_vg.sweeps.table import read_table

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is optional")

pytestmark = pytest.mark.usefixtures("shared_programs")

OFTEN = ("--checkpoint-seconds", "0.2")

LONGER = dataclasses.replace(LONG, iterations=60_000, log_every=600, name="longer")


# Snapshots, for which no Ray is needed.


@pytest.fixture
def packed(tmp_path):
    """A snapshot, and the run in it."""
    run = train(named("packed"), tmp_path / "there")
    path = snapshot_path(tmp_path, 1)
    path.write_bytes(pack(tmp_path / "there", "packed"))
    return path, run


def test_a_snapshot_settles_as_the_run_that_it_is_of(packed, tmp_path):
    path, run = packed
    settle(path, tmp_path / "here")
    assert_same_bits(tmp_path / "here" / "packed", run.folder)
    assert train(named("packed"), tmp_path / "here").results == run.results
    assert not path.exists()
    settle(path, tmp_path / "here")


def test_a_snapshot_is_kept_where_it_cannot_settle(packed, tmp_path):
    path, _ = packed
    train(named("packed", seed=1), tmp_path / "here")
    with pytest.raises(UsageError, match="holds a run with seed 1 and not 0"):
        settle(path, tmp_path / "here")
    with (
        claim_folder(tmp_path / "else" / "packed"),
        pytest.raises(UsageError, match="another process is writing"),
    ):
        settle(path, tmp_path / "else")
    assert path.exists()


def test_a_service_puts_what_a_killed_one_has_left_into_the_log_folder(packed, tmp_path):
    path, run = packed
    folder = tmp_path / "here" / FOLDER
    folder.mkdir(parents=True)
    path.rename(snapshot_path(folder, 1))
    Service(tmp_path / "here").close()
    assert_same_bits(tmp_path / "here" / "packed", run.folder)
    assert not list(folder.glob(PATTERN))


def test_a_node_replaces_a_worn_worker_by_itself(monkeypatch):
    """The cluster may have no core for a second actor."""
    monkeypatch.setattr(worker, "work", worn_soon)
    node = Node(Place("", None, 10, 1))
    try:
        [ready] = said(node)
        worn, scenario = node._process, named("on-node")
        node.begin(Task(1, {"kind": "train", "settings": scenario.settings()}, scenario.name), None)
        while not isinstance((ended := said(node))[-1], Ended):
            pass
        assert said(node) == [ready] == [Ready(worn=False)]
        assert (ended[-1].state, worn.is_alive()) == ("finished", False)
    finally:
        node._process.kill()
        shutil.rmtree(node._logdir)


def said(node):
    """Wait until it says something."""
    deadline = time.monotonic() + 60
    while not (messages := node.news()[0]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return messages


# What is refused.


def test_without_ray_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'mnist_vg\[cluster\]'"):
        Service(tmp_path / "logs", cluster="local")
    assert not (tmp_path / "logs").exists()


@needs_ray
@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ("nonsense", "not one of local, auto or ray://HOST:PORT"),
        ("ray://127.0.0.1:1", "no answer from 127.0.0.1:1"),
    ],
)
def test_a_wrong_address_is_refused(tmp_path, cluster, words):
    flags = ("--logdir", tmp_path / "logs", "--port", free_port(), "--cluster", cluster)
    assert_refused(run_command("serve", *flags), "cluster: ", words)
    assert not (tmp_path / "logs").exists()


# What is trained.


@pytest.fixture(scope="module")
def address():
    """A Ray cluster of one node with two cores."""
    # A short path, since Ray makes sockets below it. Without the two settings, Ray cannot be
    # reached on loopback, and its client's server may fail to start for the first client.
    settings = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "GRPC_ENABLE_FORK_SUPPORT": "0"}
    settings |= {"RAY_AUTH_MODE": "disabled"}
    ports = [free_port() for _ in range(3)]
    words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    words += ["--num-cpus", "2", "--include-dashboard", "false", "--disable-usage-stats"]
    names = ("port", "ray-client-server-port", "dashboard-agent-listen-port")
    for name, port in zip(names, ports, strict=True):
        words += [f"--{name}", str(port)]
    with (
        tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in settings.items():
            patch.setitem(PROCESS["env"], name, value)
        head = subprocess.Popen(
            [*words, "--temp-dir", folder, "--min-worker-port", "0", "--max-worker-port", "0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            env=PROCESS["env"],
        )
        try:
            _wait_for_answer(ports[1])
            yield f"ray://127.0.0.1:{ports[1]}"
        finally:
            # Ray would take ten seconds to end by itself.
            for process in [*psutil.Process(head.pid).children(recursive=True), head]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            head.wait()


def _wait_for_answer(port):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.1)
    raise AssertionError("Ray does not answer")


@pytest.fixture(scope="module")
def served(tmp_path_factory, address):
    """A service with one worker on the cluster."""
    folder = tmp_path_factory.mktemp("served")
    with service(folder, "--cluster", address, *OFTEN) as served:
        yield served


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What `train` makes of the longer scenario."""
    return train(LONGER, tmp_path_factory.mktemp("whole")).folder


def on_nodes():
    """The processes that train on nodes, which are the children of Ray's actors."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):  # It has just ended.
            spawned = "spawn_main" in " ".join(process.cmdline())
            # Ray names an actor after what it is doing.
            if spawned and process.parent().cmdline()[0].startswith("ray::Node"):
                found.append(process)
    return found


def at(served, number, step):
    """Wait until a job has trained so far, and a snapshot of that has arrived."""
    served.wait_for_step(number, step)
    path, begun = snapshot_path(served.logdir / FOLDER, number), time.time()
    while not path.exists() or path.stat().st_mtime < begun:
        assert served.job(number)["state"] in ("waiting", "training")
        time.sleep(0.02)


@needs_ray
@pytest.mark.parametrize("settings", [{}, {"measures": "full"}], ids=["default", "full"])
def test_a_job_leaves_what_train_leaves_bit_for_bit(served, tmp_path, settings):
    scenario = named("tiny-" + "-".join(settings), **settings)
    job = served.wait(served.submit(scenario))
    assert job["state"] == "finished", job
    ours, theirs = Run.load(served.logdir / job["name"]), train(scenario, tmp_path)
    assert_same_bits(ours.folder, theirs.folder)
    same = ("settings", "results", "verdict", "versions", "dataset", "status")
    assert [getattr(ours, name) for name in same] == [getattr(theirs, name) for name in same]
    assert not list((served.logdir / FOLDER).glob(PATTERN))


@needs_ray
def test_a_job_that_is_stopped_and_killed_ends_bit_for_bit(served, whole):
    number = served.submit(LONGER)
    served.wait_for_step(number, 1000)
    assert served.post(f"jobs/{number}/stop", {}).code == 200
    assert served.wait(number)["state"] == "stopped"
    run = Run.load(served.logdir / LONGER.name)
    assert run.status == "interrupted"
    assert served.post(f"jobs/{number}/continue", {}).code == 200
    at(served, number, 12_000)
    [worker] = on_nodes()
    worker.kill()
    at(served, number, 30_000)
    [bridge] = served.workers()
    bridge.kill()
    job = served.wait(number, seconds=120)
    assert (job["state"], job["attempts"]) == ("finished", 1), job
    assert_same_bits(run.folder, whole)


@needs_ray
def test_a_cure_trains_what_cure_trains(served, tmp_path):
    sick = named("pale", hidden_size=32, learning_rate=1e-8, iterations=200)
    served.wait(served.submit(sick))
    number = served.ask(kind="cure", run="pale", seeds=1)
    path = snapshot_path(served.logdir / FOLDER, number)
    while not path.exists():
        time.sleep(0.02)
    served.post(f"jobs/{number}/stop", {})
    assert served.wait(number)["state"] == "stopped"
    assert served.post(f"jobs/{number}/continue", {}).code == 200
    job = served.wait(number, seconds=120)
    assert job["state"] == "finished", job
    found = cure(sick, tmp_path, seeds=1)
    ours, theirs = (run_folders(at / "cure" / "pale") for at in (served.logdir, tmp_path))
    assert [folder.name for folder in ours] == [folder.name for folder in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert_same_bits(one, other)
    assert job["reason"] == f"recommended: {', '.join(found.recommended.words)}"


@needs_ray
def test_a_sweep_leaves_the_table_of_the_command(served, tmp_path):
    base = named("grid", iterations=400)
    grid = {"vary": ["num_layers=2,3"], "seeds": 2}
    number = served.submit(base, kind="sweep", **grid)
    job = served.wait(number, seconds=120)
    assert (job["state"], job["reason"]) == ("finished", "4 networks")
    sweep = Sweep("grid", Scenario(**base.settings()), parse_axes(grid["vary"]), 2)
    theirs = read_table(Sweeper(sweep, tmp_path, workers=0).run())
    pandas.testing.assert_frame_equal(read_table(served.logdir / "grid"), theirs, check_exact=True)
    # The worker has left its core to the sweep, and there is another one.
    assert served.wait(served.submit(named("after")), seconds=120)["state"] == "finished"


@needs_ray
def test_a_service_that_is_killed_goes_on_and_leaves_no_process(tmp_path, whole):
    """With a Ray of its own, which listens on loopback alone."""
    with service(tmp_path, "--cluster", "local", *OFTEN) as served:
        number = served.submit(LONGER)
        at(served, number, 12_000)
        left = psutil.Process(served.process.pid).children(recursive=True)
        addresses = {
            found.laddr.ip.removeprefix("::ffff:")
            for process in left
            for found in process.net_connections("tcp")
            if found.status == "LISTEN"
        }
        assert addresses == {"127.0.0.1"}
        served.kill()
    _, alive = psutil.wait_procs(left, 10)
    # Two helpers of Ray's own notice it a minute later.
    assert {process.name() for process in alive} <= {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
    assert list((tmp_path / FOLDER).glob(PATTERN))
    with service(tmp_path, *OFTEN) as served:  # This one needs no cluster for it.
        run = Run.load(tmp_path / LONGER.name)
        assert served.wait(number)["state"] == "finished"
    assert_same_bits(run.folder, whole)
