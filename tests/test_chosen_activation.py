"""Scenarios that differ in their activation share a program, and no bit tells."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from mnist_vg import datasets
from mnist_vg.driver import train_all
from mnist_vg.scenarios.scenario import CHOOSABLE, Scenario, program_key
from mnist_vg.training.build import make_trainer
from mnist_vg.training.programs import restart, trainers

SMALL = Scenario(
    dataset="circles",
    num_layers=3,
    hidden_size=5,
    output="sigmoid",
    batch_size=32,
    skip_connections=True,
    optimizer="sgd",
)
PARTIAL = dataclasses.replace(SMALL, partial_batches=True, optimizer="adam", skip_connections=False)


def numbers(trainer):
    """Everything that a trainer tells of its first steps, as bytes."""
    blocks = [trainer.advance(1, record=True), trainer.advance(15, record=True)]
    # The sixteenth step ends the epoch, with a smaller batch if there are some.
    told = [dataclasses.asdict(b) if dataclasses.is_dataclass(b) else b._asdict() for b in blocks]
    weights = [variable.numpy() for variable in trainer.model.variables]
    test = trainer.evaluate(datasets.load("circles").test)
    parts = tf.nest.flatten([told, weights, test])
    return [np.asarray(part).tobytes() for part in parts if part is not None]


@pytest.mark.parametrize(
    ("base", "activations"),
    [(SMALL, sorted(CHOOSABLE)), (PARTIAL, ["leaky_relu", "relu", "sigmoid", "tanh"])],
    ids=["all", "partial"],
)
def test_no_bit_depends_on_the_other_activations_of_a_program(base, activations):
    dataset = datasets.load(base.dataset)
    scenarios = [dataclasses.replace(base, activation=name) for name in activations]
    shared = make_trainer(scenarios[-1], dataset, activations=activations)
    for scenario in scenarios:
        restart(scenario, dataset, shared)
        alone = make_trainer(scenario, dataset)
        assert numbers(shared) == numbers(alone), scenario.activation


def test_scenarios_of_one_program_need_not_be_neighbours(tmp_path):
    base = dataclasses.replace(SMALL, iterations=20, log_every=10)
    mixed = [
        dataclasses.replace(base, name=f"{number}", activation=activation, num_layers=layers)
        for number, (activation, layers) in enumerate(
            [("tanh", 3), ("relu", 2), ("log_sigmoid", 3), ("relu", 3), ("tanh", 2)]
        )
    ]
    assert len(set(map(program_key, mixed))) == 3
    given = [trainer for _, trainer in trainers(mixed)]
    assert given[0] is given[3]
    assert given[1] is given[4]
    together = list(train_all(mixed, tmp_path / "together"))
    for scenario, run in zip(mixed, together, strict=True):
        [alone] = train_all([scenario], tmp_path / "alone")
        assert run.results == alone.results
        for name, values in run.history.items():
            np.testing.assert_array_equal(values, alone.history[name], err_msg=name)
