"""From a scenario to its network, its optimizer and its trainer."""

from collections.abc import Iterable

import keras

from mnist_vg.datasets import Dataset
from mnist_vg.model import Model
from mnist_vg.scenarios.scenario import Scenario, chooses_activation
from mnist_vg.training.trainer import Trainer


def make_model(scenario: Scenario, dataset: Dataset) -> Model:
    """The scenario's network for a data set.

    Raises:
        ValueError: scenario and data set do not fit each other.
    """
    return Model(dataset.input_size, dataset.label_size, **scenario.part("model"))


def make_optimizer(scenario: Scenario) -> keras.optimizers.Optimizer:
    """The scenario's Keras optimizer, with Keras' defaults for settings that are None."""
    given = {name: value for name, value in scenario.part("optimizer").items() if value is not None}
    return keras.optimizers.deserialize({"class_name": scenario.optimizer, "config": given})


def make_trainer(
    scenario: Scenario,
    dataset: Dataset,
    kind: type[Trainer] = Trainer,
    activations: Iterable[str] = (),
) -> Trainer:
    """The scenario's trainer at step 0, not compiled yet.

    Args:
        scenario: what to train.
        dataset: the scenario's.
        kind: class of the trainer.
        activations: others that `restart` is to choose among, by name.

    Raises:
        ValueError: scenario and data set do not fit each other.
    """
    return kind(
        make_model(scenario, dataset),
        make_optimizer(scenario),
        dataset.train,
        scenario.batch_size,
        scenario.batch_seed,
        partial_batches=scenario.partial_batches,
        full=scenario.measures == "full",
        activations=_choice(scenario, kind, activations),
    )


def _choice(scenario, kind, names):
    """The activations among which the program chooses, if it does.

    It does so even if only one is needed. So a scenario has the same bits alone and among others.
    """
    if not chooses_activation(scenario) or not kind.jit_compile:
        return ()
    names = list(dict.fromkeys([scenario.activation, *names]))
    if len(names) == 1:
        names.append("sigmoid" if names == ["relu"] else "relu")
    return [keras.activations.get(name) for name in names]
