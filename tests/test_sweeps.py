"""Sweeps: the grid, its groups, and the sweep's folder."""

import dataclasses
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas
import pytest
from conftest import call_command, without_xla
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_vg import datasets, diagnose
from mnist_vg.cli import cli
from mnist_vg.driver import train
from mnist_vg.errors import UsageError
from mnist_vg.report import SweepDisplay, plan_lines, settings_table
from mnist_vg.runs.events import event_files, read_facts
from mnist_vg.runs.history import History
from mnist_vg.runs.run import Run, find_runs
from mnist_vg.scenarios.scenario import Scenario, group_key, stackable
from mnist_vg.sweeps import table
from mnist_vg.sweeps.group import train_group
from mnist_vg.sweeps.plan import MAX_GROUP_WEIGHTS, MAX_REPLICAS, Plan
from mnist_vg.sweeps.sweep import Sweep, parse_axes, parse_axis
from mnist_vg.sweeps.sweeper import Sweeper

DATASETS = {"digits": datasets.load("digits")}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("num_layers=2:14:4", (2, 6, 10, 14)),
        ("num-layers=3,2:4:2", (3, 2, 4)),
        ("learning_rate=0.05:0.2:0.05", (0.05, 0.1, 0.15, 0.2)),
        ("learning_rate=none,1e-3", (None, 0.001)),
        ("activation=tanh,ReLU", ("tanh", "relu")),
        ("skip_connections=true,false", (True, False)),
        ("hidden_size=30:10:-10", (30, 20, 10)),
        (
            "kernel_initializer=he_normal,random_normal(mean=0:1:1,stddev=0.1:0.3:0.2)",
            (
                "he_normal",
                "random_normal(mean=0.0, stddev=0.1)",
                "random_normal(mean=0.0, stddev=0.3)",
                "random_normal(mean=1.0, stddev=0.1)",
                "random_normal(mean=1.0, stddev=0.3)",
            ),
        ),
    ],
)
def test_lists_and_ranges(text, values):
    assert parse_axis(text)[1] == values


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("layers=1,2", "did you mean num_layers"),
        ("num_layers", "not field=values"),
        ("seed=1,2", "--seeds"),
        ("num_layers=0,2", "num_layers: 0 must be a whole number of 1 or more"),
        ("num_layers=2.5", "whole number"),
        ("num_layers=2:10:-1", "not a range"),
        ("num_layers=2:10:0", "not a range"),
        ("num_layers=3:9", "num_layers '3:9' has no step; give first:last:step"),
        ("kernel_initializer=random_normal(stddev=0.1:0.3)", "'0.1:0.3' has no step"),
        ("kernel_initializer=random_normal(mean=0:1:1,stddev=1e-2:1)", "'1e-2:1' has no step"),
        ("num_layers=1:1e9:1", "not a range"),
        ("activation=tanh,tanh", "twice"),
        ("activation=tan", "did you mean"),
        ("learning_rate=1,-1", "positive"),
        ("kernel_initializer=random_normal(sd=1:2:1)", "stddev"),
    ],
)
def test_a_wrong_vary_option_is_refused_in_one_line(text, words):
    with pytest.raises(UsageError, match=r"^vary: ") as refusal:
        parse_axis(text)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_field_given_twice_is_refused():
    with pytest.raises(UsageError, match="twice"):
        parse_axes(["num_layers=2", "num_layers=3"])


def mixed_sweep(**base):
    axes = {
        "num_layers": (2, 5),
        "optimizer": ("adam", "muon"),
        "global_clipnorm": (None, 1.0, 2.0),
        "learning_rate": tuple(np.linspace(0.01, 0.2, 12)),
        "iterations": (10, 20),
    }
    return Sweep("mixed", Scenario(dataset="digits", seed=3, **base), axes, seeds=3)


def test_the_grid_has_each_combination_under_each_seed_on_the_same_batches():
    sweep = mixed_sweep()
    found = [
        (*(getattr(scenario, field) for field in sweep.axes), scenario.seed)
        for scenario in sweep.scenarios
    ]
    assert found == list(itertools.product(*sweep.axes.values(), (3, 4, 5)))
    assert {scenario.batch_seed for scenario in sweep.scenarios} == {3}
    names = [scenario.name for scenario in sweep.scenarios]
    assert len(set(names)) == len(names)
    assert names == sorted(names)


def test_networks_that_may_train_together_are_grouped():
    sweep = mixed_sweep()
    groups = Plan.of(sweep, DATASETS).groups
    assert sorted(scenario.name for group in groups for scenario in group) == [
        scenario.name for scenario in sweep.scenarios
    ]
    for group in groups:
        assert len({group_key(scenario) for scenario in group}) == 1
        assert len(group) <= (MAX_REPLICAS if stackable(group[0]) else 1)
    # Two depths and two numbers of iterations, 108 networks each.
    stacked = [group for group in groups if stackable(group[0])]
    assert list(map(len, stacked)) == [54] * 8
    assert all(group[0].optimizer == "muon" for group in groups if group not in stacked)


def test_a_part_of_no_group_of_the_plan_is_no_group_that_is_done():
    sweep = Sweep("two", Scenario(dataset="digits"), {"num_layers": (2, 3)})
    plan = Plan.of(sweep, DATASETS, done=[1, 99])
    assert (plan.done, plan.left) == ({1}, [0])


def test_large_networks_make_small_groups():
    sweep = Sweep("wide", Scenario(dataset="digits", hidden_size=1000), {}, seeds=20)
    weights = 65 * 1000 + 4 * 1001 * 1000 + 1001 * 10
    sizes = list(map(len, Plan.of(sweep, DATASETS).groups))
    assert max(sizes) * weights <= MAX_GROUP_WEIGHTS
    assert sum(sizes) == 20
    assert max(sizes) - min(sizes) <= 1


def test_a_sweep_of_too_many_networks_is_refused():
    with pytest.raises(UsageError, match="1,000,000 networks"):
        Sweep("huge", Scenario(), {"learning_rate": tuple(range(1, 1001))}, seeds=1000)


AXES = {
    "kernel_initializer": ("random_normal(stddev=0.05)", "glorot_uniform"),
    "num_layers": (3, 4),
}
BASE = Scenario(dataset="digits", activation="tanh", iterations=40, log_every=20, batch_size=20)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small sweep with every run folder, trained in this process."""
    logdir = tmp_path_factory.mktemp("sweep")
    sweep = Sweep("small", BASE, AXES, seeds=2)
    seen = []
    sweeper = Sweeper(sweep, logdir, workers=0, record="all")
    folder = sweeper.run(watch=lambda number, outcome: seen.append(number))
    assert seen == [0, 1]
    return sweep, folder


def test_the_table_has_one_row_per_network_and_record(trained):
    sweep, folder = trained
    records = table.read_table(folder)
    assert list(records.columns) == table.schema().names
    assert sorted(set(records["name"])) == [scenario.name for scenario in sweep.scenarios]
    by_name = {scenario.name: scenario for scenario in sweep.scenarios}
    for name, rows in records.groupby("name", observed=True):
        assert rows["step"].tolist() == [0, 20, 39]
        for field, value in by_name[name].settings().items():
            assert (rows[field].isna() if value is None else rows[field] == value).all()
        assert all(len(each) == by_name[name].num_layers for each in rows["gradient_mean_abs"])
        assert rows["verdict"].nunique() == 1


def test_diagnose_reads_a_sweep(trained, monkeypatch, capsys):
    sweep, folder = trained
    monkeypatch.chdir(folder.parent)
    codes, told = [], []
    for words in (["small"], ["--logdir", "small"], [folder]):
        codes.append(call_command("diagnose", *words, "--json"))
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == told[1] == told[2]
    last = table.last_records(table.read_table(folder)).set_index("name")
    assert [network["run"] for network in told[0]] == [s.name for s in sweep.scenarios]
    for scenario, network in zip(sweep.scenarios, told[0], strict=True):
        fields = ("kernel_initializer", "num_layers", "seed")
        assert network["settings"] == {field: getattr(scenario, field) for field in fields}
        assert network["verdict"] == last.loc[scenario.name, "verdict"]
        run = diagnose(folder / "runs" / scenario.name)
        assert (network["judged"], network["healthy"]) == (run.judged, run.healthy)
    healthy = [network["healthy"] for network in told[0]]
    assert codes == [0 if all(healthy) else 1] * 3
    # Its runs stay apart from those of the log folder.
    with pytest.raises(UsageError, match=r"holds no run but those in .*small; name one of these"):
        find_runs(folder.parent)
    assert len(find_runs(folder)) == 8


def test_the_last_table_has_the_settings_that_were_varied(trained):
    _, folder = trained
    records, axes = table.read_sweep(folder)
    drawn = settings_table(records, axes)
    assert [column.header for column in drawn.columns[:2]] == list(AXES)
    assert [row.cells[:2] for row in drawn.rows] == [
        (initializer, str(layers)) for initializer, layers in itertools.product(*AXES.values())
    ]
    last = table.last_records(records)
    for row in drawn.rows:
        initializer, layers = row.cells[0], int(row.cells[1])
        its = last[(last.kernel_initializer == initializer) & (last.num_layers == layers)]
        low, high = its["test_accuracy"].min(), its["test_accuracy"].max()
        assert row.cells[3] == f"{its['test_accuracy'].median():.2%} ({low:.2%}–{high:.2%})"
        for verdict in its["verdict"]:
            assert verdict in row.cells[5]


def test_of_many_settings_the_best_and_the_worst_are_in_the_table():
    layers = list(range(1, 41))
    networks = pandas.DataFrame(
        {
            "name": [f"n{n}" for n in layers],
            "step": 0,
            "num_layers": layers,
            "test_accuracy": [1 - n / 100 for n in layers],
            "chance": 0.1,
            table.GRADIENT_RATIO: np.nan,
            "verdict": "healthy",
        }
    )
    drawn = settings_table(networks, {"num_layers": layers})
    shown = [int(row.cells[0]) for row in drawn.rows]
    assert shown == [*range(1, 11), *range(31, 41)]
    assert {row.cells[3] for row in drawn.rows} == {"not finite"}


def test_a_network_records_the_same_as_when_trained_alone(trained, tmp_path):
    sweep, folder = trained
    scenario = sweep.scenarios[3]
    alone = train(scenario, tmp_path)
    together = Run.load(folder / "runs" / scenario.name)
    assert together.settings == alone.settings
    assert together.results == pytest.approx(alone.results, rel=1e-3)
    assert together.verdict == alone.verdict
    assert set(together.history) == set(alone.history)
    for key in alone.history:
        if key in ("layers", "activation_layers"):
            assert together.history[key].tolist() == alone.history[key].tolist()
        else:
            np.testing.assert_allclose(
                together.history[key], alone.history[key], rtol=2e-3, atol=1e-5, err_msg=key
            )
    [rows] = [r for n, r in table.read_table(folder).groupby("name") if n == scenario.name]
    np.testing.assert_array_equal(rows["test_accuracy"], together.history["accuracy/test"])
    np.testing.assert_allclose(
        np.stack(rows["gradient_mean_abs"]), together.history["gradient_mean_abs"]
    )
    assert rows["verdict"].iloc[0] == together.verdict
    # TensorBoard's own reader finds the same tags.
    found = [EventAccumulator(str(run.folder)).Reload().Tags() for run in (alone, together)]
    assert set(found[0]["tensors"]) == set(found[1]["tensors"])
    facts = [read_facts(run.folder) for run in (alone, together)]
    for key in ("layers", "activation_layers", "verdict", "health"):
        assert facts[0][key] == facts[1][key]
    named = [[(s["symptom"], s["kind"], s["step"]) for s in each["symptoms"]] for each in facts]
    assert named[0] == named[1]


def test_run_folders_of_large_networks_hold_norms_as_those_of_train_do(tmp_path, monkeypatch):
    monkeypatch.setattr("mnist_vg.sweeps.group.LARGE", 10)
    scenarios = [dataclasses.replace(BASE, name=name, iterations=3) for name in "ab"]
    with without_xla():
        outcome = train_group(scenarios, DATASETS["digits"], record="all")
    for path, content in outcome.files.items():
        if "tfevents" in path:
            (tmp_path / path).parent.mkdir(parents=True)
            (tmp_path / path).write_bytes(content)
            history = History.read((tmp_path / path).parent)
            assert {"gradient_norm", "weight_norm"} < set(history)


def test_a_missing_part_is_trained_again_and_the_others_are_left_alone(trained):
    sweep, folder = trained
    before = table.read_table(folder)
    parts = [table.part_path(folder, number) for number in (0, 1)]
    kept = parts[0].stat().st_mtime_ns
    parts[1].unlink()
    sweeper = Sweeper(sweep, folder.parent, workers=0, record="all")
    assert sweeper.plan.left == [1]
    sweeper.run()
    assert parts[0].stat().st_mtime_ns == kept
    assert table.read_table(folder).equals(before)
    assert Sweeper(sweep, folder.parent, workers=0, record="all").plan.left == []
    for scenario in sweep.scenarios:  # No network has two event files.
        assert len(event_files(folder / "runs" / scenario.name)) == 1


@pytest.mark.parametrize(
    ("base", "axes", "options", "words"),
    [
        ({}, AXES, {"seeds": 3}, "--seeds 2 and not 3"),
        ({}, AXES, {"record": "none"}, "--record all and not none"),
        (
            {},
            dict(reversed(AXES.items())),
            {},
            "--vary in the order kernel_initializer, num_layers",
        ),
        (
            {"num_layers": 5},
            {"kernel_initializer": AXES["kernel_initializer"]},
            {},
            "--vary num_layers=3,4 and not --num-layers 5",
        ),
        ({}, AXES | {"num_layers": (*range(3, 15),)}, {}, "3,4 and not --vary num_layers=3,4,…,14"),
        (
            {"batch_size": 30, "learning_rate": 0.1, "skip_connections": True},
            AXES,
            {},
            "--no-skip-connections and not --skip-connections; no --learning-rate and not "
            "--learning-rate 0.1; --batch-size 20 and not --batch-size 30",
        ),
    ],
)
def test_a_different_sweep_with_the_same_name_is_told_what_differs(
    trained, base, axes, options, words
):
    _, folder = trained
    seeds, record = options.get("seeds", 2), options.get("record", "all")
    other = Sweep("small", dataclasses.replace(BASE, **base), axes, seeds)
    with pytest.raises(UsageError, match="holds a sweep with ") as refusal:
        Sweeper(other, folder.parent, workers=0, record=record)
    assert f"{words}; give the same command" in str(refusal.value)


def test_a_sweep_can_be_overwritten(tmp_path):
    base = dataclasses.replace(BASE, iterations=2, log_every=1)
    with without_xla():
        old = Sweep("grid", base, {"num_layers": (2, 3, 4)})
        folder = Sweeper(old, tmp_path, workers=0, record="all").run()
        (folder / "runs" / "notes.txt").write_text("mine")
        new = Sweep("grid", base, {"hidden_size": (3,)}, seeds=2)
        sweeper = Sweeper(new, tmp_path, workers=0, overwrite=True)
        assert len(Sweeper(old, tmp_path, workers=0, record="all").plan.left) == 0  # Not yet.
        sweeper.run()
    assert set(table.read_table(folder)["name"]) == {scenario.name for scenario in new.scenarios}
    assert [*table.parts_of(folder)] == [0]
    left = sorted(path.name for path in (folder / "runs").iterdir())
    assert left == sorted([*(scenario.name for scenario in new.scenarios), "notes.txt"])
    assert Sweeper(new, tmp_path, workers=0).plan.left == []


def test_what_a_killed_overwriting_leaves_is_a_sweep(tmp_path, monkeypatch):
    base = dataclasses.replace(BASE, iterations=2, log_every=1)
    old = Sweep("grid", base, {"num_layers": (2, 3)})
    with without_xla():
        folder = Sweeper(old, tmp_path, workers=0, record="all").run()
        with monkeypatch.context() as patch:
            patch.setattr(table, "remove_run", lambda run: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                table.remove_sweep(folder)
        sweeper = Sweeper(old, tmp_path, workers=0, record="all")
        assert sweeper.plan.left == [0, 1]
        sweeper.run()
    assert len(find_runs(folder)) == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_progress_moves_within_a_group(tmp_path, workers):
    """One group, which trains for several looks of a quarter of a second."""
    sweep = Sweep("slow", dataclasses.replace(BASE, iterations=3000, log_every=100), {}, seeds=50)
    screen = io.StringIO()
    sweeper = Sweeper(sweep, tmp_path, workers=workers)
    console = Console(file=screen, force_terminal=True, width=60)
    with SweepDisplay(console, sweeper.plan) as display:
        sweeper.run(watch=display.watch, advanced=display.advanced)
    shares = [int(share) for share in re.findall(r"(\d+)%", screen.getvalue())]
    assert shares == sorted(shares)
    assert shares[-1] == 100
    assert len(set(shares)) > 4
    assert "50 of 50 networks" in screen.getvalue()


def test_a_sweep_that_varies_nothing_says_so():
    plan = Plan([[Scenario()]], [1.0], frozenset())
    assert "Nothing is varied but the seed" in plan_lines(plan, {})[-1]
    assert plan_lines(plan, {"num_layers": (2,)}) == plan_lines(plan, {})[:1]


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"output": ("softmax", "sigmoid")}, "is for 2 classes, not 10"),
        ({"bias_initializer": ("zeros", "orthogonal")}, "makes no network"),
        ({"kernel_initializer": ("ones", "variance_scaling(scale=-1)")}, "makes no network"),
    ],
)
def test_an_impossible_network_is_refused_before_anything_is_written(axes, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        Sweeper(Sweep("two", BASE, axes), tmp_path, workers=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("axes", [{"seed": (1, 2)}, {"what": (1,)}, {"num_layers": ()}])
def test_a_sweep_made_in_python_is_checked_too(axes):
    with pytest.raises(UsageError, match=r"^vary: "):
        Sweep("wrong", BASE, axes)


def test_values_are_normalized():
    sweep = Sweep("spelled", BASE, {"kernel_initializer": ("RandomNormal(stddev=1)",)})
    assert sweep.axes == {"kernel_initializer": ("random_normal(stddev=1.0)",)}
    assert sweep.scenarios[0].kernel_initializer == "random_normal(stddev=1.0)"


def test_a_run_is_not_overwritten_by_a_sweep(tmp_path):
    with without_xla():
        train(dataclasses.replace(BASE, name="mine", iterations=1), tmp_path)
    with pytest.raises(UsageError, match="holds a run"):
        Sweeper(Sweep("mine", BASE, AXES), tmp_path, workers=0)


def test_a_sweep_is_not_overwritten_by_a_run(trained):
    _, folder = trained
    with pytest.raises(UsageError, match="holds a sweep"):
        train(dataclasses.replace(BASE, name="small"), folder.parent)


def test_each_network_has_a_row_in_the_hparams_tab(tmp_path):
    sweep = Sweep("rows", dataclasses.replace(BASE, optimizer="muon", iterations=2), {}, seeds=2)
    folder = Sweeper(sweep, tmp_path, workers=0).run()
    second = folder / "runs" / sweep.scenarios[1].name
    assert Run.load(second) is None
    events = EventAccumulator(str(second)).Reload()
    assert set(events.PluginTagToContent("hparams")) == {
        "_hparams_/experiment",
        "_hparams_/session_start_info",
        "_hparams_/session_end_info",
    }
    last = table.last_records(table.read_table(folder)).set_index("name")
    [value] = events.Tensors("accuracy/test")
    assert value.step == 1
    assert value.tensor_proto.float_val[0] == np.float32(
        last.loc[sweep.scenarios[1].name, "test_accuracy"]
    )


def test_a_killed_sweep_continues_with_the_groups_that_are_left(tmp_path):
    command = ["-m", "mnist_vg", "sweep", "killed", "--dataset", "digits", "--workers", "1"]
    command += ["--vary", "num_layers=2,3,4", "--iterations", "40", "--log-every", "20"]
    command = [sys.executable, *command, "--logdir", tmp_path]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    folder = tmp_path / "killed"
    deadline = time.monotonic() + 120
    while not table.part_path(folder, 0).exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = [pid for pid in os.listdir("/proc") if _parent(pid) == process.pid]
    os.kill(process.pid, signal.SIGKILL)
    assert process.communicate()[1] == b""  # Python's resource tracker is silent, too.
    axes = {"num_layers": (2, 3, 4)}
    base = Scenario(dataset="digits", iterations=40, log_every=20)
    sweeper = Sweeper(Sweep("killed", base, axes), tmp_path, workers=0)
    assert 0 not in sweeper.plan.left
    assert sweeper.plan.left
    sweeper.run()
    assert len(table.read_table(folder)) == 9
    assert workers
    while any(os.path.exists(f"/proc/{pid}") for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its sweep"
        time.sleep(0.05)


def _parent(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--vary", "num_layers=x"], "whole number"),
        (["--record", "some"], "is not one of 'none', 'sick', 'all'"),
        (["--scenario", "sigmoit"], "did you mean"),
    ],
)
def test_the_command_refuses_bad_options_in_one_line(arguments, words, tmp_path):
    from click.testing import CliRunner

    command = ["sweep", "bad", "--logdir", str(tmp_path), *arguments]
    result = CliRunner().invoke(cli, command, standalone_mode=False)
    assert words in str(result.exception) + result.output
    assert not list(tmp_path.iterdir())


def test_a_table_may_be_on_a_remote_path(trained):
    import pyarrow.parquet

    _, folder = trained
    for number in (0, 1):
        part = pyarrow.parquet.read_table(table.part_path(folder, number))
        table.write_part("ram://sweeps/small", number, part)
    assert table.read_table("ram://sweeps/small").equals(table.read_table(folder))
