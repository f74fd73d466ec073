"""Runs on two workers and on two devices against the same runs on one device."""

import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import assert_refused, run_command

from mnist_vg import Run, Scenario, UsageError
from mnist_vg.driver import train_all
from mnist_vg.training import tf_config

# The epoch ends with a batch of 12, at step 38, which is recorded.
RELU = Scenario(
    dataset="circles",
    activation="relu",
    num_layers=3,
    batch_size=26,
    partial_batches=True,
    iterations=80,
    log_every=19,
)
SEEDS = tuple(RELU.with_seed(seed) for seed in range(2))
FULL = Scenario(
    name="full",
    dataset="circles",
    activation="tanh",
    normalization="batch",
    num_layers=2,
    optimizer="sgd",  # Adam would blow up the rounding in biases that normalization cancels.
    learning_rate=0.1,
    global_clipnorm=0.05,
    measures="full",
    iterations=60,
    log_every=7,
)
ODD = Scenario(name="odd", dataset="circles", num_layers=2, batch_size=31)
LEFT = Scenario(name="left", dataset="circles", num_layers=2)
SCENARIOS = (*SEEDS, FULL)

WORKER = """
import os, sys
from mnist_vg import RunFailed, UsageError, driver
from mnist_vg.cli import cli
from test_distributed import FULL, LEFT, ODD, SEEDS

driver.import_tensorflow()
import tensorflow as tf

strategy, logdir = sys.argv[1:]
workers = strategy == "multiworker"
if not workers:
    [cpu] = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

def train(scenario, watch=lambda *_: None):
    try:
        driver.train(scenario, logdir, strategy=strategy, checkpoint_seconds=0, watch=watch)
    except (KeyboardInterrupt, RunFailed, UsageError) as error:
        print(error, file=sys.stderr)

def stop(scenario, block, symptoms):
    if block.step >= 38:
        raise KeyboardInterrupt

train(FULL)
train(ODD)
if not workers:
    os._exit(0)

train(SEEDS[0], stop)
command = "train --activation relu --seeds 2 --dataset circles --num-layers 3 --batch-size 26"
options = "--partial-batches --iterations 80 --log-every 19 --logdir"
arguments = [*command.split(), *options.split(), logdir, "--strategy", strategy]
cli.main(arguments, standalone_mode=False)

from mnist_vg.training.trainer import Trainer
if '"index": 1' in os.environ["TF_CONFIG"]:
    Trainer.advance = lambda *_: os._exit(0)
train(LEFT)
sys.stdout.flush()
os._exit(0)
"""


def task(index, workers, **changes):
    """The environment variable TF_CONFIG of a worker."""
    task = {"type": "worker", "index": index, **changes}
    return json.dumps({"cluster": {"worker": workers}, "task": task})


def free_addresses(count):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    addresses = [f"localhost:{free.getsockname()[1]}" for free in sockets]
    for free in sockets:
        free.close()
    return addresses


def start(strategy, logdir, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, strategy, logdir],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=os.path.dirname(__file__),
        env={**os.environ, **environment},
    )


def outputs(processes, seconds=300):
    """What the processes printed; all are killed if one fails or takes too long."""
    end = time.monotonic() + seconds
    try:
        while any(process.poll() is None for process in processes):
            assert time.monotonic() < end, "hangs"
            assert not any(process.poll() for process in processes)
            time.sleep(0.05)
    finally:
        for process in processes:
            process.kill()
        printed = [process.communicate() for process in processes]
        print(printed)
    assert not any(process.returncode for process in processes)
    return printed


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folders of runs on one device and with each strategy, and what these printed."""
    folder = tmp_path_factory.mktemp("distributed")
    addresses = free_addresses(2)
    workers = [
        start("multiworker", folder / "multiworker", TF_CONFIG=task(index, addresses))
        for index in range(2)
    ]
    mirrored = start("mirrored", folder / "mirrored")
    list(train_all(SCENARIOS, folder / "one"))
    printed = outputs([*workers, mirrored])
    return folder, dict(zip(["chief", "worker", "mirrored"], printed, strict=True)), workers


ROUNDING = 1e-4
"""Tolerance relative to the largest value. A sum in another order differs by 1e-7 of it, and these
differences add up in training."""


def assert_equal_to_rounding(ours, theirs):
    scale = np.nanmax(np.abs(theirs))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=ROUNDING * scale + 1e-12)


@pytest.mark.parametrize(
    ("strategy", "scenario"),
    [("mirrored", FULL), *(("multiworker", scenario) for scenario in SCENARIOS)],
    ids=lambda given: getattr(given, "name", given),
)
def test_two_devices_record_the_same_as_one(trained, strategy, scenario):
    ours, theirs = (Run.load(trained[0] / kind / scenario.name) for kind in (strategy, "one"))
    assert set(ours.history) == set(theirs.history)
    for name, values in theirs.history.items():
        if values.dtype.kind != "f":
            np.testing.assert_array_equal(ours.history[name], values)
        elif values.shape[2:] == (30, 3):
            *edges, counts = np.moveaxis(ours.history[name], -1, 0)
            assert_equal_to_rounding(edges, np.moveaxis(values, -1, 0)[:2])
            # A value at the edge of a bucket may fall into the next one.
            up_to, theirs_up_to = counts.cumsum(axis=-1), values[..., 2].cumsum(axis=-1)
            assert not (up_to[..., 1:] < theirs_up_to[..., :-1]).any()
            assert not (theirs_up_to[..., 1:] < up_to[..., :-1]).any()
        else:
            assert_equal_to_rounding(ours.history[name], values)
    assert ours.results == pytest.approx(theirs.results, rel=ROUNDING)
    assert ours.verdict == theirs.verdict


def test_a_stopped_run_continues_from_the_chiefs_checkpoint(trained):
    """The test above compares its records with those of one device."""
    folder, printed, _ = trained
    assert len(list((folder / "multiworker" / SEEDS[0].name).glob("events*"))) == 2
    line = f"run {SEEDS[0].name!r}: the chief stopped at step 39 of 80; the same command"
    assert line in printed["worker"][1]


def test_the_chief_alone_writes_and_prints(trained):
    folder, printed, (chief, _) = trained
    assert "Which network could learn?" in printed["chief"][0]
    assert printed["worker"][0] == ""
    for scenario in SCENARIOS:
        names = [path.name for path in (folder / "multiworker" / scenario.name).iterdir()]
        written = {name for name in names if name.startswith("events")}
        assert all(f".{chief.pid}." in name or "resumed" in name for name in written)
        alone = [path.name for path in (folder / "one" / scenario.name).iterdir()]
        assert set(names) - written == {n for n in alone if not n.startswith("events")}


def test_a_batch_that_cannot_be_shared_evenly_is_refused(trained):
    folder, printed, _ = trained
    for _, errors in printed.values():
        assert "batch_size: 31 makes a batch of 31 examples, which 2 replicas" in errors
    assert not (folder / "mirrored" / ODD.name).exists()


def test_a_lost_worker_ends_the_run_of_the_others_with_one_line(trained):
    folder, printed, _ = trained
    *_, line = printed["chief"][1].splitlines()
    assert line.startswith("run 'left' broke at step 0 of 2500: another worker has gone; ")
    assert Run.load(folder / "multiworker" / LEFT.name).status == "running"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("", "not set"),
        ("{", "is not JSON"),
        ("[1]", "is not JSON that tells"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker"}}', "is not JSON that tells"),
        ('{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}', "of workers"),
        (task(0, ["a"]), "host:port"),
        (task(0, ["a:1", "a:1"]), "twice"),
        (task(2, ["a:1", "b:1"]), "has no worker 2"),
        (task("0", ["a:1", "b:1"]), "has no worker '0'"),
        (
            '{"cluster": {"worker": ["a:1"], "chief": ["b:1", "c:1"]}, '
            '"task": {"type": "chief", "index": 0}}',
            "one chief",
        ),
    ],
)
def test_a_wrong_tf_config_gets_one_line(monkeypatch, config, words):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(UsageError, match=words) as caught:
        tf_config.leads("multiworker")
    assert str(caught.value).startswith("TF_CONFIG: ")
    assert "\n" not in str(caught.value)
    assert tf_config.leads("mirrored")


@pytest.mark.parametrize(
    ("job", "index", "chief"),
    [("worker", 0, False), ("worker", 1, False), ("chief", 0, True)],
)
def test_the_chief_is_the_task_named_chief_or_the_first_worker(monkeypatch, job, index, chief):
    for jobs, leads in [
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, chief),
        ({"worker": ["b:1", "c:1"]}, index == 0),
    ]:
        if job in jobs:
            config = {"cluster": jobs, "task": {"type": job, "index": index}}
            monkeypatch.setenv("TF_CONFIG", json.dumps(config))
            assert tf_config.leads("multiworker") is leads


def test_the_command_refuses_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    done = run_command("train", "--strategy", "multiworker", "--logdir", tmp_path / "logs")
    assert_refused(done, "TF_CONFIG", "not set")
    assert not (tmp_path / "logs").exists()
    with pytest.raises(UsageError, match="strategy: 'parameter_server' is not one of"):
        list(train_all([RELU], tmp_path / "logs", strategy="parameter_server"))
