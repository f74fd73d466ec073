"""docs/trainability.py, on a sweep with known accuracies."""

import functools
import itertools
import json
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest

from mnist_vg import Scenario, UsageError
from mnist_vg.cli import cli
from mnist_vg.sweeps import table
from mnist_vg.sweeps.sweep import Sweep, parse_axes

sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))

import trainability

ROOT = Path(__file__).parent.parent
VARIANCES = [2.5, 1.0, 1.5]  # As given, not as shown.
LAYERS = [10, 150, 20, 80]
SEEDS = 3
CHANCE = 0.1


def initializer(variance):
    return f"variance_scaling(scale={variance}, mode='fan_in', distribution='uniform')"


def write(folder, accuracies, **settings):
    """Write a sweep with these last accuracies, `[layers, variances, seeds]`; the first is 0.9."""
    axes = {"num_layers": LAYERS, "kernel_initializer": list(map(initializer, VARIANCES))}
    base = Scenario(**{"activation": "tanh", "bias_initializer": "random_normal(stddev=0.2)"})
    base = base.settings() | settings
    folder.mkdir(exist_ok=True)
    facts = {"base": base, "axes": axes, "seeds": SEEDS}
    (folder / table.SWEEP_FILE).write_text(json.dumps(facts))
    rows = []
    cells = itertools.product(*axes.values(), range(SEEDS))
    for (layers, text, seed), accuracy in zip(cells, np.ravel(accuracies), strict=True):
        varied = {"num_layers": layers, "kernel_initializer": text, "seed": seed}
        facts = {"name": f"{len(rows)}", "chance": CHANCE, "verdict": "healthy"}
        for step, shown in ((0, 0.9), (9, accuracy)):
            measured = {"test_accuracy": shown, "log10_gradient_ratio": 0.0}
            rows.append(base | varied | facts | measured | {"step": step})
    table.write_part(folder, 0, pyarrow.Table.from_pylist(rows, table.schema()))
    return folder


@pytest.fixture(scope="module")
def accuracies():
    return np.random.default_rng(1).uniform(0.1, 0.4, (len(LAYERS), len(VARIANCES), SEEDS))


@pytest.fixture(scope="module")
def swept(accuracies, tmp_path_factory):
    return trainability.read(write(tmp_path_factory.mktemp("sweep"), accuracies))


@functools.cache
def reach(variance, bias=0.04, activation=np.tanh):
    """6ξ from the papers' formulas, with iteration and quadrature instead of `theory`'s methods."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(101)
    weights /= weights.sum()
    q, c = 1.0, 0.5
    for _ in range(3000):
        q = variance * (weights @ activation(math.sqrt(q) * nodes) ** 2) + bias
    u = math.sqrt(q) * nodes[:, None] * np.ones(101)

    def correlate(c):
        v = math.sqrt(q) * (c * nodes[:, None] + math.sqrt(1 - c**2) * nodes)
        return (variance * (weights @ (activation(u) * activation(v)) @ weights) + bias) / q

    for _ in range(3000):
        c = correlate(min(c, 1 - 1e-9))
    if c > 1 - 1e-6:
        slope = variance * (weights @ np.cosh(math.sqrt(q) * nodes) ** -4)
    else:
        slope = (correlate(c + 1e-4) - correlate(c - 1e-4)) / 2e-4
    return 6 / abs(math.log(slope))


def by_hand(accuracies):
    """For each network, the number of hidden layers, 6ξ, and whether it trains."""
    far = {variance: reach(variance) for variance in VARIANCES}
    return np.array(
        [
            (layers - 1, far[variance], (accuracies[row, column, seed] - CHANCE) / 0.9 > 0.2)
            for row, layers in enumerate(LAYERS)
            for column, variance in enumerate(VARIANCES)
            for seed in range(SEEDS)
        ]
    ).T


def test_agreement_equals_a_plain_count(swept, accuracies):
    depth, far, trains = by_hand(accuracies)
    within, trains = depth <= far, trains == 1
    assert 0 < within.mean() < 1
    found = trainability.agree(swept.networks)
    assert found.right == np.mean(within == trains)
    assert found.within == np.sum(within & trains) / np.sum(within)
    assert found.beyond == np.sum(~within & ~trains) / np.sum(~within)
    assert found.constant == max(np.mean(trains), np.mean(~trains))
    limits = np.linspace(0, 30, 3001)
    at_limits = [np.mean((depth <= limit * far / 6) == trains) for limit in limits]
    assert found.right_at_multiple == max(at_limits)
    at_found = (depth <= (found.multiple + 0.01) * far / 6) == trains
    assert np.mean(at_found) == found.right_at_multiple
    of_depth = {limit: np.mean((depth <= limit) == trains) for limit in depth}
    assert found.right_at_depth == max(of_depth.values()) == of_depth[found.depth]


def test_the_page_says_how_often_the_theory_is_right(tmp_path):
    far = np.array([reach(variance) for variance in VARIANCES])
    right = np.array(LAYERS)[:, None, None] - 1 <= far[:, None]
    folder = write(tmp_path, np.broadcast_to(np.where(right, 0.4, 0.2), (4, 3, SEEDS)))
    found = trainability.agree(trainability.read(folder).networks)
    assert found[:3] == (1, 1, 1)
    assert found.constant < found.right_at_depth < found.right_at_multiple == 1
    page = tmp_path / "page.md"
    trainability.main(folder, page)
    text = page.read_text()
    assert "they do not** | **100.0%**" in text
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    deepest = [max(np.array(LAYERS)[right[:, column, 0]]) for column in (1, 2, 0)]
    assert "| σ_w² | 1 | 1.5 | 2.5 |" in text
    assert f"right for {1 - right.mean():.1%}," in text  # None is better than fair.
    assert f"train | {' | '.join(map(str, deepest))} |" in text


def test_the_line_is_drawn_at_its_variances_and_layers(swept):
    place, row = trainability.curve(swept)
    assert (place[0], place[-1]) == (-0.5, 2.5)
    for column, variance in enumerate(sorted(VARIANCES)):
        [at] = row[np.isclose(place, column)]
        wanted = np.interp(reach(variance) + 1, sorted(LAYERS), range(len(LAYERS)))
        assert 0 < wanted < 3
        assert at == pytest.approx(wanted, abs=0.01)
    # A line beyond the grid is outside the picture.
    assert row.max() == len(LAYERS)


def test_the_picture_has_the_line_and_a_dot_where_all_seeds_train(swept, accuracies):
    panel = trainability.draw(swept).axes[0]
    assert (*panel.get_xlim(), *panel.get_ylim()) == (-0.5, 2.5, -0.5, 3.5)
    dots, line = panel.lines
    np.testing.assert_array_equal(line.get_data(), trainability.curve(swept))
    all_train = ((accuracies - CHANCE) / 0.9 > 0.2).all(axis=-1)
    on_grid = all_train[np.ix_(np.argsort(LAYERS), np.argsort(VARIANCES))]
    assert on_grid.any()
    np.testing.assert_array_equal(np.transpose(dots.get_data()), np.argwhere(on_grid)[:, ::-1])


def test_the_theory_uses_the_sweeps_activation_and_biases(tmp_path, accuracies):
    # For a ReLU without biases, χ₁ is half of the weight variance (Schoenholz et al. 2017).
    folder = write(tmp_path, accuracies, activation="relu", bias_initializer="zeros")
    networks = trainability.read(folder).networks
    for variance in VARIANCES:
        [found] = set(networks["xi"][networks["kernel_initializer"] == initializer(variance)])
        assert found == pytest.approx(1 / abs(math.log(variance / 2)), rel=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"axes": {"num_layers": LAYERS, "activation": ["tanh", "relu"]}}, "varies num_layers, ac"),
        (
            {"axes": {"num_layers": [10], "kernel_initializer": list(map(initializer, VARIANCES))}},
            "over two values",
        ),
        ({"seeds": SEEDS + 1}, "has 36 of 48 networks"),
    ],
)
def test_another_sweep_is_refused_in_one_line(tmp_path, accuracies, change, words):
    path = write(tmp_path, accuracies) / table.SWEEP_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UsageError, match=words):
        trainability.read(tmp_path)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (trainability.weight_variance, "he_normal"),
        (trainability.weight_variance, "variance_scaling(scale=1,mode='fan_avg')"),
        (trainability.bias_variance, "ones"),
        (trainability.bias_variance, "random_normal(mean=1,stddev=1)"),
    ],
)
def test_initializers_without_a_single_variance_are_refused(function, text):
    with pytest.raises(UsageError, match=re.escape(text)):
        function(text)


def test_the_make_target_trains_the_sweep_of_the_page():
    command = ["make", "-n", "trainability-map", "VENV=.venv"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    [line] = [line for line in said.replace("\\\n", "").splitlines() if " sweep " in line]
    arguments = shlex.split(line)[2:]
    given = cli.commands["sweep"].make_context("sweep", arguments).params
    axes = parse_axes(given["vary"])
    assert sorted(axes) == ["kernel_initializer", "num_layers"]
    variances = list(map(trainability.weight_variance, axes["kernel_initializer"]))
    assert (variances[0], variances[-1], len(variances)) == (1, 3.85, 20)
    assert trainability.bias_variance(given["bias_initializer"]) == pytest.approx(0.05, rel=1e-3)
    count = len(Sweep(given["name"], Scenario(), axes, given["seeds"]).scenarios)
    assert f"Train {count} networks" in (ROOT / "Makefile").read_text()
