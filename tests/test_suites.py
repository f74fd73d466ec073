"""Every suite, at small size, through the command that writes docs/experiments.md."""

import dataclasses
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from mnist_vg import SUITES
from mnist_vg.driver import train_all
from mnist_vg.runs import find_runs

sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))

import claims
import experiments

SEEDS = 2
SMALLER = {
    "circles": {"iterations": 320, "log_every": 16},
    "circles_uniform": {"iterations": 500, "log_every": 50},
}
"""Where a claim looks at records, as many of them as it needs."""


def small(name, scenario):
    changes = SMALLER.get(name, {"iterations": min(scenario.iterations, 6), "log_every": 3})
    layers = min(scenario.num_layers, 5)
    size = min(scenario.hidden_size, 16)
    return dataclasses.replace(scenario, num_layers=layers, hidden_size=size, **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiments")
    for name, suite in SUITES.items():
        scenarios = [small(name, s).with_seed(seed) for s in suite for seed in range(SEEDS)]
        finished = list(train_all(scenarios, folder / name))
        assert [run.recipe for run in finished] == [s.name for s in suite for _ in range(SEEDS)]
    return folder


def test_every_suite_trains_and_every_claim_is_answered(folder, tmp_path):
    page = tmp_path / "experiments.md"
    experiments.main(folder, page)
    text = page.read_text()
    for claim in claims.CLAIMS:
        assert claim.text in text
    answers = re.findall(r"\| (holds|does not hold|see there)(?: \(\d+\))? \|$", text, re.MULTILINE)
    assert len(answers) == len(claims.CLAIMS)
    pictures = re.findall(r"!\[.*\]\((.*)\)", text)
    assert pictures
    for picture in pictures:
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_full_runs_hold_the_weights_before_training_and_after_the_last_update(folder):
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


def test_a_shared_initializer_starts_layers_alike_and_own_draws_do_not(folder):
    suite = claims.Suite.of(find_runs(folder / "circles"))
    [shared, *_], [own, *_] = suite.runs["circles-tanh-shared"], suite.runs["circles-tanh"]
    assert np.array_equal(shared.history["kernels/layer2"][0], shared.history["kernels/layer3"][0])
    assert not np.array_equal(own.history["kernels/layer2"][0], own.history["kernels/layer3"][0])


def test_the_explosion_is_recorded_to_the_end(folder):
    [run, *_] = claims.Suite.of(find_runs(folder / "initializers")).runs["explodes"]
    assert run.status == "finished"
    assert run.history["step"][-1] == run.settings["iterations"] - 1
