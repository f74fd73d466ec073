import dataclasses
import json
import subprocess
import sys

import keras
import pytest
from keras.src import activations, initializers, optimizers

from mnist_vg import SCENARIOS, Scenario, UsageError
from mnist_vg import scenarios as module


def test_the_defaults_are_the_tutorials_experiment():
    assert Scenario().settings() == {
        "name": "sigmoid",
        "dataset": "mnist",
        "num_layers": 6,
        "hidden_size": 10,
        "activation": "sigmoid",
        "kernel_initializer": "glorot_uniform",
        "normalization": "none",
        "skip_connections": False,
        "optimizer": "adam",
        "learning_rate": None,
        "global_clipnorm": None,
        "iterations": 2500,
        "batch_size": 30,
        "log_every": 200,
        "seed": 0,
    }
    assert list(SCENARIOS) == ["sigmoid", "relu", "leaky_relu"]
    for name, scenario in SCENARIOS.items():
        assert scenario == Scenario(activation=name)
        assert "tutorial" in scenario.about


def test_names_are_those_that_keras_knows():
    snake_case = {name for name in initializers.ALL_OBJECTS_DICT if name.islower()}
    known = {
        module.ACTIVATIONS: set(activations.ALL_OBJECTS_DICT),
        # A short-time Fourier transform's kernel has three axes; the other is the base class.
        module.KERNEL_INITIALIZERS: snake_case - {"stft", "initializer"},
        # Those left out wrap another optimizer.
        module.OPTIMIZERS: set(optimizers.ALL_OBJECTS_DICT)
        - {"lossscaleoptimizer", "multioptimizer", "optimizer", "optimizermap"},
    }
    for ours, theirs in known.items():
        assert theirs <= set(ours)
        # Keras 3.12, the last for Python 3.10, lacks a few.
        assert theirs == set(ours) or keras.__version__.startswith("3.12.")


def test_keras_makes_every_optimizer():
    from mnist_vg.training import make_optimizer

    for name in set(module.OPTIMIZERS) & set(optimizers.ALL_OBJECTS_DICT):
        optimizer = make_optimizer(
            Scenario(optimizer=name, learning_rate=0.125, global_clipnorm=2.0)
        )
        assert type(optimizer).__name__.lower() == name
        assert float(optimizer.learning_rate) == 0.125
        assert optimizer.global_clipnorm == 2.0
    assert float(make_optimizer(Scenario()).learning_rate) == pytest.approx(1e-3)
    assert float(make_optimizer(Scenario(optimizer="sgd")).learning_rate) == pytest.approx(1e-2)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("activation", "reluu", "did you mean relu"),
        ("kernel_initializer", "he", "he_normal"),
        ("optimizer", "adamn", "adam"),
        ("normalization", "groupwise", "none, batch, layer"),
        ("num_layers", 0, "whole number of 1 or more"),
        ("num_layers", 2.5, "whole number of 1 or more"),
        ("hidden_size", -1, "whole number of 1 or more"),
        ("iterations", 0, "whole number of 1 or more"),
        ("batch_size", True, "whole number of 1 or more"),
        ("log_every", "often", "whole number of 1 or more"),
        ("seed", -1, "whole number of 0 or more"),
        ("learning_rate", 0.0, "positive finite number"),
        ("learning_rate", float("nan"), "positive finite number"),
        ("learning_rate", float("inf"), "positive finite number"),
        ("global_clipnorm", -1.0, "positive finite number"),
        ("skip_connections", "yes", "True or False"),
        ("name", "../elsewhere", "letters, digits"),
        ("name", "a/b", "letters, digits"),
        ("dataset", "", "TensorFlow Datasets"),
    ],
)
def test_a_bad_value_gets_one_line_with_field_value_and_what_is_allowed(field, value, words):
    with pytest.raises(UsageError) as caught:
        Scenario(**{field: value})
    message = str(caught.value)
    assert message.startswith(f"{field}: {value!r} ")
    assert words in message
    assert "\n" not in message


def test_keras_spellings_are_one_setting():
    assert Scenario(kernel_initializer="HeNormal") == Scenario(kernel_initializer="he_normal")
    assert Scenario(optimizer="Adam") == Scenario()


def test_variants_are_checked_too_and_settings_are_plain_values():
    variant = dataclasses.replace(Scenario(), iterations=10, name="short")
    assert variant.name == "short"
    assert json.loads(json.dumps(variant.settings())) == variant.settings()
    with pytest.raises(UsageError):
        dataclasses.replace(variant, iterations=-10)


def test_scenarios_runs_and_reports_import_no_tensorflow():
    code = (
        "import sys, mnist_vg.scenarios, mnist_vg.runs, mnist_vg.diagnosis, mnist_vg.report, "
        "mnist_vg.cli, mnist_vg; print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
