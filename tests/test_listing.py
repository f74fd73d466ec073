"""What the tab's first answer says of runs, read from event files through a data provider."""

import shutil
import threading

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext

from mnist_vg import Recorder
from mnist_vg.board.listing import listing
from mnist_vg.board.local_runs import local_runs
from mnist_vg.board.log import Log


def record(folder, **settings):
    variables = [tf.Variable([[0.5]], name="layer1/kernel")]
    with Recorder(folder, settings=settings) as recorder:
        recorder.record(0, [tf.constant([[0.1]])], variables, loss=1.0)


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    numbered = [(rate, seed) for rate in (0.1, 1) for seed in (0, 1)]
    for number, (rate, seed) in enumerate(numbered):
        record(folder / f"sweep/runs/{number}-rate={rate}-seed{seed}", rate=rate, seed=seed)
    for depth in (3, 5):
        record(folder / f"{depth}-layers-seed0", depth=depth, seed=0)
    record(folder / "alone-seed0", decay=0.1)
    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    log = Log(MultiplexerDataProvider(multiplexer, str(folder)), RequestContext(), "")
    return listing(log, local_runs(folder))


def test_seeds_of_a_scenario_are_a_group_also_where_runs_are_numbered(listed):
    assert {run["name"]: run["group"] for run in listed["runs"]} == {
        "3-layers-seed0": "3-layers",
        "5-layers-seed0": "5-layers",
        "alone-seed0": "alone-seed0",
        "sweep/runs/0-rate=0.1-seed0": "sweep/runs/0-rate=0.1",
        "sweep/runs/1-rate=0.1-seed1": "sweep/runs/0-rate=0.1",
        "sweep/runs/2-rate=1-seed0": "sweep/runs/2-rate=1",
        "sweep/runs/3-rate=1-seed1": "sweep/runs/2-rate=1",
    }


def test_settings_are_listed_where_runs_that_have_them_differ(listed):
    assert listed["settings"] == ["depth", "rate"]
    [alone] = [run for run in listed["runs"] if run["name"] == "alone-seed0"]
    assert alone["settings"] == {}


def test_folders_may_come_and_go_while_they_are_looked_for(tmp_path):
    def come_and_go():
        for _ in range(20):
            for number in range(20):
                (tmp_path / f"{number}/a/b").mkdir(parents=True)
            for number in range(20):
                shutil.rmtree(tmp_path / f"{number}")

    other = threading.Thread(target=come_and_go)
    other.start()
    while other.is_alive():
        assert local_runs(tmp_path) == {}
    other.join()
