"""What the tab "Gradient flow" asks of TensorBoard's server, with both of its loaders."""

import json
import shutil
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from flows import DAMAGED, FOREIGN, ODD_NAME, SOUND
from servers import TENSORBOARD, get, serving, wait_for_runs

from mnist_vg import Run, diagnose
from mnist_vg.board import board_plugin
from mnist_vg.recording.event_log import EventLog
from mnist_vg.runs.events import read_facts

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

from _many_runs import write_runs

LONG = "long/run00000"
"""A run of more records than TensorBoard keeps; without a run.json."""

STRANGE = {"strange/empty": {"settings": {}}, "strange/list": [], "strange/text": "facts"}
"""Runs with facts that no version of this package has written."""

PROGRAMS = {"fast loader": {}, "Python": {"program": TENSORBOARD, "options": ["--load_fast=false"]}}


@pytest.fixture(scope="module")
def log(flows, tmp_path_factory):
    folder = shutil.copytree(flows, tmp_path_factory.mktemp("server") / "log")
    write_runs(folder / "long", 1, 3, 1500)
    for name, facts in STRANGE.items():
        (folder / name).mkdir(parents=True)
        strange = EventLog(folder / name)
        strange.tell(0, facts)
        strange.close()
    return folder


@pytest.fixture(scope="module", params=PROGRAMS.values(), ids=PROGRAMS)
def address(request, log):
    """The address of a server, with either loader."""
    with serving(log, **request.param) as (address, _):
        wait_for_runs(address, len(SOUND) + len(DAMAGED) + len(STRANGE) + 1)
        yield address


def ask(address, route, **query):
    """What the plugin answers."""
    return get(address, f"plugin/mnist_vg/{route}?{urllib.parse.urlencode(query, doseq=True)}")


def unpacked(message):
    """The header of a message, and the bytes of its arrays."""
    length = int.from_bytes(message[:4], "little")
    return json.loads(message[4 : 4 + length]), message[4 + length :]


def tables(address, runs, measure, columns=300):
    """Run to layers, steps, values and what is recorded of them."""
    header, content = unpacked(ask(address, "tables", run=runs, measure=measure, columns=columns))
    found, parts = header["tables"], []
    for kind, sizes in (
        ("<f8", [each["records"] for each in found]),
        ("<f4", 2 * [len(each["layers"]) * each["records"] for each in found]),
    ):
        for size in sizes:
            parts.append(np.frombuffer(content, kind, size))
            content = content[parts[-1].nbytes :]
    assert not content
    count = len(found)
    return {
        each["run"]: (
            each["layers"],
            parts[n],
            parts[n + count].reshape(len(each["layers"]), -1),
            parts[n + 2 * count].reshape(len(each["layers"]), -1).astype(bool),
        )
        for n, each in enumerate(found)
    }


@pytest.mark.parametrize(
    "measure", ["gradient_mean_abs", "update_ratio", "units_dead", "relative_sensitivity"]
)
def test_tables_hold_what_the_event_files_hold(address, log, measure):
    # Of an explosion, what cannot be computed is not recorded.
    exploded = ["exploding", ODD_NAME] if measure == "relative_sensitivity" else []
    runs = [run for run in SOUND if measure in Run.load(log / run).history and run not in exploded]
    for run, (layers, steps, values, recorded) in tables(address, runs, measure).items():
        history = Run.load(log / run).history
        names = "activation_layers" if measure == "units_dead" else "layers"
        assert layers == list(history[names])
        np.testing.assert_array_equal(steps, history["step"])
        np.testing.assert_array_equal(values, history[measure].T.astype(np.float32))
        assert recorded.all() or run == ODD_NAME


def test_a_layer_without_records_is_told_from_one_with_nan(address):
    [(_, _, values, recorded)] = tables(address, ODD_NAME, "gradient_mean_abs").values()
    assert recorded.tolist() == [[True] * 4, [True] * 4, [False] * 4, [True] * 4]
    assert np.isnan(values[0, 2])
    assert np.isinf(values[1, 0])


def test_counts_of_what_is_not_finite_are_zero_where_nothing_is_recorded(address, log):
    counted = tables(address, ["exploding", "sigmoid"], "gradient_nonfinite")
    _, _, values, recorded = counted["exploding"]
    wanted = Run.load(log / "exploding").history["gradient_nonfinite"].T
    np.testing.assert_array_equal(values, np.nan_to_num(wanted))
    assert values[:, 1:].all()
    assert recorded.all()
    _, steps, values, recorded = counted["sigmoid"]
    assert values.shape == (10, len(steps))
    assert not values.any()
    assert recorded.all()


def test_a_long_run_has_no_gaps_and_keeps_its_ends(address):
    [(_, steps, _, recorded)] = tables(address, LONG, "gradient_mean_abs", 9999).values()
    assert len(steps) <= 1000
    assert recorded.all()
    assert (np.diff(steps) > 0).all()
    assert steps[-1] == 14990
    [(_, thinned, *_)] = tables(address, LONG, "gradient_mean_abs", 50).values()
    assert len(thinned) == 50
    assert (thinned[0], thinned[-1]) == (steps[0], steps[-1])
    assert set(thinned) <= set(steps)
    assert np.diff(thinned).max() < 3 * np.diff(thinned).mean()


@pytest.mark.parametrize("group", ["gradients", "weights", "activations"])
def test_histograms_hold_what_the_event_files_hold(address, log, group):
    runs, layer = {
        "gradients": (["sigmoid", "relu-seed0"], "layer3"),
        "weights": (["sigmoid", "relu-seed0"], "layer3"),
        "activations": (["my_fit"], "encoder_block_3_projection"),
    }[group]
    header, content = unpacked(ask(address, "histograms", run=runs, group=group, layer=layer))
    found = header["histograms"]
    assert {each["run"] for each in found} == set(runs)
    records = [each["records"] for each in found]
    steps = np.split(np.frombuffer(content, "<f8", sum(records)), np.cumsum(records)[:-1])
    numbers = np.frombuffer(content[8 * sum(records) :], "<f4").reshape(-1, 30, 3)
    buckets = np.split(numbers, np.cumsum(records)[:-1])
    for each, of_run, values in zip(found, steps, buckets, strict=True):
        history = Run.load(log / each["run"]).history
        number = list(history["layers"]).index(layer)
        np.testing.assert_array_equal(of_run, history["step"])
        np.testing.assert_array_equal(values, history[group][:, number].astype(np.float32))


def test_the_listing_says_what_the_runs_say_of_themselves(address, log):
    answer = json.loads(ask(address, "runs"))
    rows = {row["name"]: row for row in answer["runs"]}
    assert set(rows) == {*SOUND, *DAMAGED, *STRANGE, LONG}
    assert FOREIGN not in rows
    for name in SOUND:
        run, row = Run.load(log / name), rows[name]
        assert row["state"] == "finished"
        assert row["verdict"] == run.verdict
        assert row["layers"] == len(run.history["layers"])
        assert row["step"] == run.history["step"][-1]
        if "test_accuracy" in run.results:
            assert row["result"] == {
                "name": "test accuracy",
                "value": run.results["test_accuracy"],
            }
        assert "damage" not in row
    assert all(rows[name]["damage"] for name in (*DAMAGED, *STRANGE))
    assert rows["relu-seed0"]["group"] == rows["relu-seed1"]["group"] == "relu"
    assert {"activation", "num_layers", "optimizer"} <= set(answer["settings"])
    assert not {"name", "seed"} & set(answer["settings"])
    assert {"gradient_mean_abs", "units_dead", "activations"} <= set(answer["measures"])


@pytest.mark.parametrize("run", ["exploding", "my_fit", ODD_NAME])
def test_a_runs_facts_are_those_in_its_event_file(address, log, run):
    answer = json.loads(ask(address, "run", run=run))
    pages = [symptom.pop("page") for symptom in answer["symptoms"]]
    assert answer == read_facts(log / run)
    faults = [s["symptom"] for s in answer["symptoms"] if s["kind"] == "fault"]
    assert faults == [evidence.symptom for evidence in diagnose(log / run).evidence]
    for page in filter(None, pages):
        assert b"<h1" in get(address, f"plugin/mnist_vg/page/{page}")


HOSTILE = [
    "",
    "..",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "\0",
    "sigmoid\0",
    "sigmoid/..",
    "\ud800",
    ".*",
    "9" * 400,
    "-1",
    "1e400",
    "NaN",
    "٣",
    "%s%n",
    "' OR 1=1 --",
    "x" * 20_000,
]
SOUND_QUERIES = {
    "run": {"run": "sigmoid"},
    "tables": {"run": "sigmoid", "measure": "gradient_mean_abs", "columns": "300"},
    "histograms": {"run": "sigmoid", "group": "weights", "layer": "layer1"},
}
QUERIES = [(route, key) for route, query in SOUND_QUERIES.items() for key in query]


def refused(address, route, given, body=None):
    """The answer to a request that may not succeed: one line of plain text."""
    query = urllib.parse.urlencode(given, doseq=True, errors="surrogatepass")
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(f"{address}data/plugin/mnist_vg/{route}?{query}", body)
    with raised.value as answer:
        said = answer.read().decode()
        assert answer.code == 400, said
        assert answer.headers.get_content_type() == "text/plain"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Traceback" not in said
    assert "\n" not in said.strip()
    return said


@pytest.mark.parametrize(("route", "key"), QUERIES)
def test_hostile_parameters_are_refused(address, route, key):
    sound = SOUND_QUERIES[route]
    assert ask(address, route, **sound)
    for value in HOSTILE:
        said = refused(address, route, sound | {key: value})
        assert f"{key}: " in said
        assert len(said) < 1000
    without = {name: value for name, value in sound.items() if name != key}
    assert f"{key}: " in refused(address, route, without)


@pytest.mark.parametrize("route", ["tables", "histograms"])
def test_too_many_runs_and_runs_of_others_are_refused(address, route):
    for runs in (["sigmoid"] * 101, ["a"] * 5000, ["sigmoid", FOREIGN], ["strange/empty"]):
        assert "run: " in refused(address, route, SOUND_QUERIES[route] | {"run": runs})
    doubled = SOUND_QUERIES[route] | {"run": ["sigmoid", "sigmoid"]}
    header, _ = unpacked(ask(address, route, **doubled))
    assert [len(found) for found in header.values()] == [1]


def test_a_histogram_of_what_is_a_scalar_is_refused(address):
    refused(address, "tables", SOUND_QUERIES["tables"] | {"measure": "weights"})
    refused(address, "histograms", SOUND_QUERIES["histograms"] | {"group": "gradient_mean_abs"})


@pytest.mark.parametrize("route", SOUND_QUERIES)
def test_parameters_in_a_body_do_not_count(address, route):
    body = urllib.parse.urlencode(SOUND_QUERIES[route]).encode()
    refused(address, route, {}, body)


@pytest.mark.parametrize("prefix", ["", "plugin/mnist_vg/"], ids=["as others", "as Safari"])
def test_files_of_the_page_have_their_types(address, prefix):
    types = {".js": "text/javascript", ".css": "text/css"}
    files = [path for path in board_plugin.STATIC.rglob("*") if path.suffix in types]
    assert len(files) > 10
    for path in files:
        name = path.relative_to(board_plugin.STATIC).as_posix()
        with urllib.request.urlopen(f"{address}data/plugin/mnist_vg/{prefix}{name}") as answer:
            assert answer.headers.get_content_type() == types[path.suffix]
            assert answer.read() == path.read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "package.json",
        "board_plugin.py",
        "../board_plugin.py",
        "%2e%2e/board_plugin.py",
        "..%2fboard_plugin.py",
        "vendor/../../board_plugin.py",
        "page/../../board_plugin.py",
        "vendor",
        "index.js%00.css",
        "/etc/passwd",
        "..%5c..%5cetc%5cpasswd",
    ],
)
def test_nothing_else_is_served(address, path):
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(f"{address}data/plugin/mnist_vg/{path}")
    with raised.value as answer:
        assert answer.code in (400, 404)
        assert answer.headers.get_content_type() == "text/plain"
