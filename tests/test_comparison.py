"""A run beside a good one: `mnist-vg diagnose --against`."""

import dataclasses
import json

import numpy as np
import pytest
from conftest import assert_refused, call_command, run_command

from mnist_vg.report import comparison_parts
from mnist_vg.runs.comparison import Comparison, compare


def recorded(records=6, **changes):
    """A history of three layers with one value throughout, but for changes."""
    history = {
        "step": 10 * np.arange(records),
        "loss/train": np.full(records, 2.0),
        "layers": np.array(["first", "second", "last"]),
        "activation_layers": np.array(["first", "second"]),
    }
    for measure, value in [("gradient_mean_abs", 0.02), ("update_ratio", 0.001)]:
        history[measure] = np.full((records, 3), value)
    history["gradient_nonfinite"] = np.zeros((records, 3))
    history["units_dead"] = np.full((records, 2), 0.1)
    return history | changes


def changed(measure, rows, column, value):
    table = recorded()[measure]
    table[rows, column] = value
    return recorded(**{measure: table})


def differences(history, good):
    return [(d.step, d.layer, d.measure) for d in compare(history, good).differences]


def test_a_run_does_not_differ_from_itself():
    assert compare(recorded(), recorded()) == Comparison(6, [], [], [])


@pytest.mark.parametrize(
    ("measure", "bad", "fine"),
    [
        ("gradient_mean_abs", 0.002, 0.0021),
        ("gradient_mean_abs", 0.2, 0.19),
        ("gradient_mean_abs", 0.0, 0.02),
        ("update_ratio", 0.01, 0.009),
        ("units_dead", 0.6, 0.59),
    ],
)
def test_a_measure_differs_from_the_first_of_two_records_on(measure, bad, fine):
    found = [(30, "second", measure)]
    for rows in (slice(3, 5), slice(3, None)):
        assert differences(changed(measure, rows, 1, bad), recorded()) == found
        assert differences(recorded(), changed(measure, rows, 1, bad)) == found
    assert differences(changed(measure, 3, 1, bad), recorded()) == []
    assert differences(changed(measure, slice(3, 5), 1, fine), recorded()) == []


def test_too_large_and_then_too_small_is_no_lasting_difference():
    swinging = changed("gradient_mean_abs", slice(None), 1, [2, 2e-4] * 3)
    assert differences(swinging, recorded()) == []


def test_one_nan_is_enough_and_a_good_run_may_have_some():
    sick = changed("gradient_nonfinite", 5, 2, 1.0)
    assert differences(sick, recorded()) == [(50, "last", "gradient_nonfinite")]
    assert differences(recorded(), sick) == differences(sick, sick) == []


def test_differences_are_ordered_by_step_and_then_by_layer():
    history = recorded()
    history["update_ratio"][:, 0] = 1.0
    history["gradient_mean_abs"][2:] = 2e-5
    assert differences(history, recorded()) == [
        (0, "first", "update_ratio"),
        *[(20, layer, "gradient_mean_abs") for layer in ("first", "second", "last")],
    ]


def test_near_its_optimum_a_run_is_not_compared_by_factors():
    late = changed("gradient_mean_abs", slice(3, None), 1, 1e-6)
    late["loss/train"][3:] = 0.2
    late["units_dead"][3:] = 0.9
    assert {d.measure for d in compare(late, recorded()).differences} == {"units_dead"}
    # That the good run is near its own does not matter, and a loss may be negative.
    assert differences(changed("gradient_mean_abs", slice(3, None), 1, 1.0), late) != []
    late["loss/train"][3:] = -5.0
    assert (30, "second", "gradient_mean_abs") in differences(late, recorded())


def test_records_are_matched_by_step_and_layers_by_name():
    good = recorded(step=np.array([0, 5, 10, 20, 99, 100]))
    good["gradient_mean_abs"][[1, 4, 5]] = 1e3  # At steps that the run does not have.
    assert compare(recorded(), good) == Comparison(3, [], [], [])
    other = recorded(layers=np.array(["last", "new", "first"]))
    other["gradient_mean_abs"][:] = [2e-4, 9.0, 0.02]
    found = compare(recorded(), other)
    assert (found.only_here, found.only_good) == (["second"], ["new"])
    assert [(d.step, d.layer) for d in found.differences] == [(0, "last")]
    assert compare(recorded(), recorded(step=np.arange(1, 7))).records == 0


def test_what_only_one_of_the_two_has_recorded_is_not_compared():
    history = changed("units_dead", slice(None), 1, 1.0)
    good = recorded()
    del good["units_dead"]
    assert differences(history, good) == differences(good, history) == []
    rare = recorded()
    rare["gradient_mean_abs"][1::2] = np.nan  # Two records in a row of those that both have.
    assert differences(changed("gradient_mean_abs", [2, 4], 0, 9.0), rare) == [
        (20, "first", "gradient_mean_abs")
    ]


def test_differences_are_told_in_words():
    history = changed("gradient_mean_abs", slice(None), 0, 0.02 / 340)
    history["gradient_mean_abs"][:, 1] = 0.0
    history["update_ratio"][:, 2] = 0.02
    history["units_dead"][:, 0] = 1.0
    assert [d.words for d in compare(history, recorded()).differences] == [
        "mean absolute gradient 1/340 as large: 5.9e-05, and 0.02 in the good run",
        "mean absolute gradient: 0, and 0.02 in the good run",
        "update relative to the weights 20 times as large: 0.02, and 0.001 in the good run",
        "share of dead units: 100%, and 10% in the good run",
    ]


def test_lines_tell_what_was_not_compared_and_how_many_differences_are_left_out():
    [difference] = compare(changed("units_dead", slice(None), 0, 1.0), recorded()).differences
    many = [dataclasses.replace(difference, step=step) for step in range(20)]
    [table, *lines] = comparison_parts(
        {
            "many": Comparison(9, many, ["a", "b", "c", "d", "e"], []),
            "same": Comparison(9, [], [], ["x"]),
            "elsewhen": Comparison(0, [], [], []),
        },
        "good",
    )
    assert len(table.rows) == 12
    assert lines == [
        "many: 8 more differences (--json has them all)",
        "many: not compared, only here: a, b, c and 2 more",
        "same: no layer differs, at 9 records",
        "same: not compared, only in the good run: x",
        "elsewhen: no record at a step that the good run has, too; nothing was compared",
    ]


def test_diagnose_compares_with_a_run_of_the_folder_or_of_another(logdir, capsys):
    assert call_command("diagnose", logdir, "--against", "relu", "--json") == 1
    told = {run["run"]: run for run in json.loads(capsys.readouterr().out)}
    assert "against" not in told["relu"]
    first = told["sigmoid"]["against"]["differences"][0]
    assert (first["step"], first["layer"], first["measure"]) == (0, "layer1", "gradient_mean_abs")
    assert first["value"] < first["good"] / 100
    assert told["leaky_relu"]["against"]["differences"] == []
    assert call_command("diagnose", logdir, "relu", "--against", logdir / "sigmoid") == 0
    printed = capsys.readouterr()
    assert f"Different from {logdir / 'sigmoid'}" in printed.out
    assert printed.err == f"against: {logdir / 'sigmoid'} is no healthy run: vanishing gradients\n"


def test_a_good_run_that_is_not_there_is_refused(logdir):
    refused = run_command("diagnose", logdir, "--against", "rely")
    assert_refused(refused, "against: 'rely' is no run", "did you mean relu")
