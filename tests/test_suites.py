"""Every suite, with small networks, and the script that writes docs/experiments.md."""

import collections
import dataclasses
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import without_xla

from mnist_vg import SUITES, UsageError
from mnist_vg.driver import train_all
from mnist_vg.runs.run import find_runs
from mnist_vg.scenarios.scenario import program_key
from mnist_vg.scenarios.suites import DEPTHS

sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))

import claims
import experiments

SMALLER = {
    "circles": {"iterations": 320, "log_every": 16, "num_layers": 4},
    "circles_uniform": {"iterations": 500, "log_every": 50, "num_layers": 3},
}
"""Settings for suites with claims about records: as many records as these claims need."""


def small(name, scenario):
    if scenario.name == "explodes":  # With fewer layers, it does not explode.
        return dataclasses.replace(scenario, iterations=6, dataset="digits")
    short = {"iterations": min(scenario.iterations, 6), "log_every": 3, "dataset": "digits"}
    # One size for all, so that few structures are left.
    sizes = {"num_layers": 5, "hidden_size": min(scenario.hidden_size, 10), "batch_size": 30}
    return dataclasses.replace(scenario, **SMALLER.get(name, short | sizes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiments")
    suite_of = {small(name, s).with_seed(0): name for name, suite in SUITES.items() for s in suite}
    # Some small networks differ only in their names: one run is enough for them.
    named = collections.defaultdict(list)
    for scenario in suite_of:
        named[dataclasses.replace(scenario, name="any")].append(scenario)

    def train(scenarios):
        # Those that share a program follow each other, so that few programs are in memory.
        scenarios = sorted(scenarios, key=lambda scenario: str(program_key(scenario)))
        for scenario, run in zip(scenarios, train_all(scenarios, folder / "runs"), strict=True):
            assert (run.name, run.status) == (scenario.name, "finished")
            for same in named[dataclasses.replace(scenario, name="any")]:
                copy = shutil.copytree(run.folder, folder / suite_of[same] / same.name)
                dataclasses.replace(run, folder=copy, settings=same.settings()).save()

    firsts = {same[0] for same in named.values()}
    # How values overflow depends on XLA.
    exploding = {scenario for scenario in firsts if scenario.name == "explodes-seed0"}
    train(exploding)
    with without_xla():
        train(firsts - exploding)
    return folder


def test_every_suite_trains_and_every_claim_is_answered(folder, tmp_path):
    page = tmp_path / "experiments.md"
    experiments.main(folder, page)
    text = page.read_text(encoding="utf-8")
    for claim in claims.CLAIMS:
        assert claim.text in text
    rows = text.partition("\n## ")[2]  # Past the summary.
    answers = re.findall(r"\| (holds|does not hold|answered)(?: \(\d+\))? \|$", rows, re.MULTILINE)
    assert len(answers) == len(claims.CLAIMS)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        columns = {len(re.split(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1
    pictures = re.findall(r"!\[.*\]\((.*)\)", text)
    assert len(pictures) == sum(map(len, experiments.PICTURES.values()))
    for picture in pictures:
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_a_suite_that_lacks_a_scenario_is_named(folder, tmp_path):
    lacking = tmp_path / "lacking"
    for name in experiments.INTRODUCTIONS:
        (lacking / name).parent.mkdir(exist_ok=True)
        (lacking / name).symlink_to(folder / name)
    (lacking / "depth").unlink()
    (lacking / "depth").symlink_to(folder / "circles")
    with pytest.raises(UsageError, match=r"depth-relu-10, .*make depth"):
        experiments.main(lacking, tmp_path / "page.md")
    assert not (tmp_path / "page.md").exists()


def test_full_records_have_the_weights_before_and_after_training(folder):
    suite = claims.Suite.of(find_runs(folder / "circles"))
    for run in suite.runs["circles-tanh"]:
        history = run.history
        assert history["step"].tolist() == [*range(0, 320, 16), 319, 320]
        assert np.isfinite(history["weight_std"]).all()
        assert np.isnan(history["gradient_mean"][-1]).all()
        assert np.isfinite(history["gradient_mean"][:-1]).all()
        kernel = history["kernels/layer2"]
        assert kernel.shape == (22, 5, 5)
        np.testing.assert_allclose(
            kernel.mean(axis=(1, 2)), history["weight_mean"][:, 1], rtol=1e-4
        )


def test_only_a_shared_initializer_gives_layers_equal_weights(folder):
    suite = claims.Suite.of(find_runs(folder / "circles"))
    [shared, *_], [own, *_] = suite.runs["circles-tanh-shared"], suite.runs["circles-tanh"]
    assert np.array_equal(shared.history["kernels/layer2"][0], shared.history["kernels/layer3"][0])
    assert not np.array_equal(own.history["kernels/layer2"][0], own.history["kernels/layer3"][0])


def test_the_explosion_is_recorded_to_the_end(folder):
    for run in claims.Suite.of(find_runs(folder / "initializers")).runs["explodes"]:
        history = run.history
        assert run.status == "finished"
        assert history["step"].tolist() == list(range(6))
        assert np.isfinite(history["gradient_mean_abs"][0]).all()
        assert history["gradient_mean_abs"][0].max() > 1e5
        # In TensorFlow, the slope of a ReLU at NaN is 0, so not every layer's gradient is NaN.
        assert np.isnan(history["gradient_mean_abs"][-1, -3:]).all()
        assert (history["gradient_nonfinite"][-1, -3:] > 0).all()
        assert run.results["test_loss"] is None


class Told:
    """A suite with given records."""

    def __init__(self, **histories):
        self._histories = histories

    def histories(self, scenario):
        return self._histories[scenario.replace("-", "_")]


def find(text):
    [claim] = [claim for claim in claims.CLAIMS if text in claim.text]
    return claim.measure


@pytest.mark.parametrize(("factor", "holds"), [(0.2, True), (0.3, False)])
def test_the_factor_per_layer_is_found(factor, holds):
    def history(depth):
        gradients = 7.0 * factor ** np.arange(depth)[::-1]
        gradients[[0, -1]] = 1e9  # These kernels have other shapes, so they do not count.
        return {"gradient_mean_abs": gradients[np.newaxis]}

    told = {f"depth_sigmoid_{depth}": [history(depth)] for depth in DEPTHS}
    finding = find("sigmoid: toward the input")(Told(**told))
    assert finding.holds is holds
    assert finding.ours.count(f"{factor:.3f}") == 4
    assert bool(finding.why) is not holds


@pytest.mark.parametrize(
    ("last", "holds"), [([1.5, 0.6, 1, 1, 0.1], True), ([1, 1, 1, 3, 0.1], False)]
)
def test_averages_count_as_alike_within_a_factor_of_two(last, holds):
    means = np.concatenate([np.ones((90, 5)), np.tile(last, (10, 1))])
    suite = Told(circles_relu=[{"gradient_mean": means}, {"gradient_mean": -means}])
    assert find("averages are alike")(suite).holds is holds


@pytest.mark.parametrize(("moved", "words"), [(0.5, "tanh 50.0%"), (0.038, "tanh 3.8%")])
def test_the_movement_of_weights_is_relative_to_their_norm(moved, words):
    def history(share):
        kernels = np.zeros((51, 2, 5))
        kernels[5] = 3.0  # Epoch 50.
        kernels[10] = 3.0 * (1 + share)
        return {"step": np.append(np.arange(50) * 160, 7999), "kernels/layer1": kernels}

    suite = Told(uniform_tanh=[history(moved)], uniform_relu=[history(0.49)])
    finding = find("How far layer 1's weights move")(suite)
    assert words in finding.ours
    assert finding.holds is (moved == 0.038)


@pytest.mark.parametrize(("third", "holds"), [(1 / 3, True), (0.45, False)])
def test_the_variance_per_layer_is_found(third, holds):
    rms = np.sqrt(third ** np.arange(6)[::-1])
    slopes = np.full((1, 5), 0.9)
    told = Told(standard=[{"backpropagated_rms": rms[np.newaxis], "activation_slope": slopes}])
    finding = find("U[-1/√n, 1/√n]")(told)
    assert finding.holds is holds
    assert f"{third:.3f}" in finding.ours
    assert f"{0.9**2 / 3:.3f}" in finding.why


def test_a_published_number_is_compared_at_its_own_precision():
    assert claims.within(np.array([0.5876, 0.6]), [0.588])
    assert not claims.within(np.array([0.5886, 0.6]), [0.588])
    assert claims.within(np.array([0.3, np.nan, 0.7]), [0.588, 0.652])
    assert not claims.within(np.array([0.3, 0.6]), [0.588, 0.652])
