"""Stacked networks against each network alone."""

import dataclasses

import numpy as np
import pytest

from mnist_vg import datasets, replicas
from mnist_vg.driver import _prepare
from mnist_vg.replicas import GroupTrainer
from mnist_vg.scenarios import Scenario

DIGITS = Scenario(
    dataset="digits", batch_size=20, num_layers=4, activation="tanh", optimizer="sgd", data_seed=7
)


def variants(scenario, **changes):
    """Three networks of one structure that differ in all that may differ."""
    drawn = ("glorot_uniform", "random_normal(stddev=0.3)", "he_normal")
    rates = (0.5, 0.1, 0.01)
    return [
        dataclasses.replace(
            scenario,
            seed=seed,
            kernel_initializer=kernels,
            bias_initializer="random_normal(stddev=0.1)",
            learning_rate=rate,
            **changes,
        )
        for seed, (kernels, rate) in enumerate(zip(drawn, rates, strict=True))
    ]


def records(trainer, steps):
    """Of each record, by measure: `[layers, networks]`, of one network or more."""
    found = []
    for _ in range(steps):
        block = trainer.advance(1, record=True)
        table = {key: part for _, tables in block.tables for key, part in tables.items()}
        table = {key: np.asarray(part) for key, part in table.items() if not isinstance(part, dict)}
        found.append(table | {"loss": np.array(block.loss), "accuracy": np.array(block.accuracy)})
    return found


CASES = {
    "tanh": DIGITS,
    "deep": dataclasses.replace(DIGITS, num_layers=7),
    "relu, batch": dataclasses.replace(DIGITS, activation="relu", normalization="batch"),
    "layer, skip": dataclasses.replace(DIGITS, normalization="layer", skip_connections=True),
    "parametric": dataclasses.replace(DIGITS, activation="parametric_relu", optimizer="adam"),
    "softmax": dataclasses.replace(DIGITS, activation="softmax", normalization="batch"),
    "one layer": dataclasses.replace(DIGITS, num_layers=1),
    "partial": dataclasses.replace(DIGITS, batch_size=500, partial_batches=True),
    "sigmoid twice": dataclasses.replace(DIGITS, dataset="circles", output="sigmoid_twice"),
    "one initializer": dataclasses.replace(DIGITS, shared_initializer=True),
}


@pytest.mark.parametrize("case", CASES)
def test_a_replica_trains_like_the_network_alone(case, monkeypatch):
    monkeypatch.setattr(replicas, "DEEP", 5)
    scenarios = variants(CASES[case])
    dataset = datasets.load(scenarios[0].dataset)
    group = GroupTrainer(scenarios, dataset)
    together = records(group, 3)
    scores = group.evaluate(dataset.test)
    for number, scenario in enumerate(scenarios):
        full = dataclasses.replace(scenario, measures="full")
        _, trainer = _prepare(full, None)
        for one, of_all in zip(records(trainer, 3), together, strict=True):
            for key, values in of_all.items():
                alone = np.reshape(one[key], np.shape(values[..., number]))
                np.testing.assert_allclose(
                    values[..., number], alone, rtol=1e-4, atol=1e-6, err_msg=key
                )
        for mine, alone in zip(scores, trainer.evaluate(dataset.test), strict=True):
            assert mine[number] == pytest.approx(alone, rel=1e-5)
