"""A scenario to what it is made of: its network, its optimizer and their trainer."""

import keras

from mnist_vg.datasets import Dataset
from mnist_vg.model import Model
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.training.trainer import Trainer


def make_model(scenario: Scenario, dataset: Dataset) -> Model:
    """The scenario's network for a data set.

    Raises:
        ValueError: they do not fit each other.
    """
    return Model(
        dataset.input_size,
        dataset.label_size,
        scenario.activation,
        scenario.num_layers,
        scenario.hidden_size,
        kernel_initializer=scenario.kernel_initializer,
        normalization=scenario.normalization,
        skip_connections=scenario.skip_connections,
        seed=scenario.seed,
        output=scenario.output,
        output_initializer=scenario.output_initializer,
        shared_initializer=scenario.shared_initializer,
        bias_initializer=scenario.bias_initializer,
    )


def make_optimizer(scenario: Scenario) -> keras.optimizers.Optimizer:
    """The scenario's Keras optimizer, at Keras' own defaults where it is silent."""
    config = {
        name: getattr(scenario, name) for name in ("learning_rate", "momentum", "global_clipnorm")
    }
    return keras.optimizers.deserialize(
        {
            "class_name": scenario.optimizer,
            "config": {name: value for name, value in config.items() if value is not None},
        }
    )


def make_trainer(scenario: Scenario, dataset: Dataset, kind: type[Trainer] = Trainer) -> Trainer:
    """The scenario's trainer, of this kind, at its beginning, not compiled yet.

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
    )
