"""A sweep on a real Ray cluster gives the same table as in this process."""

import contextlib
import importlib.util
import signal
import sys
import time

import pandas
import psutil
import pytest

from mnist_vg.errors import UsageError
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.sweeps import table
from mnist_vg.sweeps.sweep import Sweep
from mnist_vg.sweeps.sweeper import Sweeper

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is optional")

BASE = Scenario(dataset="digits", batch_size=20, iterations=20, log_every=10)


def sweeper(folder, workers):
    """Three groups of two networks."""
    return Sweeper(Sweep("depth", BASE, {"num_layers": (1, 2, 3)}, 2), folder, workers=workers)


def at_work(process):
    """Whether it is a worker of Ray's that trains: Ray renames a worker after its task."""
    return process.cmdline()[:1] == ["ray::_train"]


def kill_one_at_work():
    """Kill a worker in the middle of a group, and return its process."""
    for _ in range(200):
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # It has just ended.
                if not at_work(process):
                    continue
                process.suspend()  # So that it cannot finish its group in between.
                if at_work(process):
                    process.kill()
                    return process
                process.resume()
        time.sleep(0.05)
    raise AssertionError("no worker is training")


def listening():
    """IP addresses at which this process and its children listen."""
    found = []
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # It has just ended.
            found += process.net_connections("tcp")
    return {at.laddr.ip.removeprefix("::ffff:") for at in found if at.status == "LISTEN"}


def names(folder):
    """The paths of everything that a sweep has written."""
    return {path.relative_to(folder) for path in folder.rglob("*")}


@needs_ray
def test_a_killed_worker_changes_nothing(tmp_path, capfd):
    killed, addresses, trained = [], set(), []

    def watch(number, outcome):
        trained.append(number)
        addresses.update(listening())
        if not killed:
            killed.append(kill_one_at_work())

    on_sigterm = signal.getsignal(signal.SIGTERM)
    on_ray = sweeper(tmp_path / "ray", 2).run("local", watch)
    assert sorted(trained) == [0, 1, 2]
    assert not killed[0].is_running()
    assert addresses == {"127.0.0.1"}
    # Ray has printed nothing, and left no process and no signal handler.
    assert capfd.readouterr() == ("", "")
    assert signal.getsignal(signal.SIGTERM) == on_sigterm
    assert not [p for p in psutil.Process().children(recursive=True) if "ray" in p.name()]

    here = sweeper(tmp_path / "here", 0).run()
    rows = table.read_table(on_ray)
    assert len(rows) == 6 * 3
    pandas.testing.assert_frame_equal(rows, table.read_table(here), check_exact=True)
    assert names(on_ray) == names(here)


@pytest.fixture(scope="module")
def waiting(tmp_path_factory):
    """A sweep that has not been trained."""
    return sweeper(tmp_path_factory.mktemp("logs"), 1)


def refused(waiting, cluster):
    """The error about a cluster; it must come at once, with nothing written."""
    start = time.monotonic()
    with pytest.raises(UsageError) as error:
        waiting.run(cluster=cluster)
    assert time.monotonic() - start < 5
    assert not waiting.folder.exists()
    [line] = str(error.value).splitlines()
    return line


def test_without_ray_it_says_what_to_install(waiting, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'mnist_vg[cluster]'" in refused(waiting, "local")


@needs_ray
@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ("nonsense", "not one of local, auto or ray://HOST:PORT"),
        ("127.0.0.1:6379", "not one of local, auto or ray://HOST:PORT"),
        ("ray://127.0.0.1:99999", "not one of local, auto or ray://HOST:PORT"),
        ("ray://127.0.0.1:1", "no answer from 127.0.0.1:1"),
    ],
)
def test_a_wrong_address_is_refused(waiting, cluster, words):
    assert words in refused(waiting, cluster)


@needs_ray
def test_auto_without_a_running_ray_is_refused(waiting, monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert "found no Ray cluster" in refused(waiting, "auto")
    (tmp_path / "ray").mkdir()
    # As a cluster leaves it that has crashed.
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1\n")
    assert "no answer from 127.0.0.1:1" in refused(waiting, "auto")
