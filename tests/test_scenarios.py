import dataclasses
import inspect
import json
import subprocess
import sys

import keras
import pytest
from keras.src import activations, initializers, optimizers

from mnist_vg import SCENARIOS, SUITES, Scenario, UsageError
from mnist_vg.scenarios import initializers as names
from mnist_vg.scenarios import scenario as module
from mnist_vg.scenarios.suites import find_scenario, find_scenarios


def test_the_defaults_are_the_tutorials_experiment():
    assert Scenario().settings() == {
        "name": "sigmoid",
        "dataset": "mnist",
        "num_layers": 6,
        "hidden_size": 10,
        "activation": "sigmoid",
        "output": "softmax",
        "kernel_initializer": "glorot_uniform",
        "output_initializer": None,
        "bias_initializer": "zeros",
        "shared_initializer": False,
        "normalization": "none",
        "skip_connections": False,
        "optimizer": "adam",
        "learning_rate": None,
        "momentum": None,
        "global_clipnorm": None,
        "iterations": 2500,
        "batch_size": 30,
        "partial_batches": False,
        "log_every": 200,
        "measures": "default",
        "seed": 0,
        "data_seed": None,
    }
    assert [s.name for s in SUITES["tutorial"]] == ["sigmoid", "relu", "leaky_relu"]
    for scenario in SUITES["tutorial"]:
        assert scenario == Scenario(activation=scenario.name)
        assert "Great Learning" in scenario.source


def test_the_known_names_are_those_of_keras():
    snake_case = {name for name in initializers.ALL_OBJECTS_DICT if name.islower()}
    known = {
        module.ACTIVATIONS: set(activations.ALL_OBJECTS_DICT),
        # STFT initializes kernels with three axes, and Initializer is the base class.
        names.KERNEL_INITIALIZERS: snake_case - {"stft", "initializer"},
        # The others wrap another optimizer.
        module.OPTIMIZERS: set(optimizers.ALL_OBJECTS_DICT)
        - {"lossscaleoptimizer", "multioptimizer", "optimizer", "optimizermap"},
    }
    for ours, theirs in known.items():
        assert theirs <= set(ours)
        # Keras 3.12, the last one for Python 3.10, does not have all of them.
        assert theirs == set(ours) or keras.__version__.startswith("3.12.")


def test_keras_makes_every_optimizer():
    from mnist_vg.training.build import make_optimizer

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
        ("dataset", "two circles", "circles, close_circles, digits"),
        ("output", "tanh", "softmax, sigmoid, sigmoid_twice"),
        ("measures", "everything", "default, full"),
        ("partial_batches", 1, "True or False"),
        ("shared_initializer", "no", "True or False"),
        ("momentum", 1.0, "from 0 up to, not including, 1"),
        ("momentum", -0.1, "from 0 up to, not including, 1"),
        ("momentum", float("nan"), "from 0 up to, not including, 1"),
        ("momentum", True, "from 0 up to, not including, 1"),
        ("output_initializer", "he", "he_normal"),
        ("kernel_initializer", None, "random_normal(stddev=1)"),
        ("kernel_initializer", 1.0, "random_normal(stddev=1)"),
        ("kernel_initializer", "random_normal(std=1)", "random_normal takes mean=…, stddev=…"),
        ("kernel_initializer", "random_normal(1)", "random_normal takes mean=…, stddev=…"),
        ("kernel_initializer", "random_normal(seed=1)", "random_normal takes mean=…, stddev=…"),
        ("kernel_initializer", "random_normal(stddev=1, stddev=2)", "takes mean=…, stddev=…"),
        ("kernel_initializer", "random_normal(**{'stddev': 1})", "takes mean=…, stddev=…"),
        ("kernel_initializer", "he_normal(scale=2)", "he_normal takes none"),
        ("kernel_initializer", "he_normal(*[])", "he_normal takes none"),
        ("kernel_initializer", "random_normal(stddev=nan)", "stddev, allowed: a finite number"),
        ("kernel_initializer", "random_normal(stddev=1e999)", "stddev, allowed: a finite number"),
        ("kernel_initializer", f"random_normal(stddev=1{400 * '0'})", "a finite number"),
        ("kernel_initializer", "random_normal(stddev=10**9)", "stddev, allowed: a finite number"),
        ("kernel_initializer", "random_normal(stddev=True)", "stddev, allowed: a finite number"),
        ("kernel_initializer", "random_normal(stddev='1')", "stddev, allowed: a finite number"),
        ("kernel_initializer", "random_normal(stddev=1j)", "stddev, allowed: a finite number"),
        ("kernel_initializer", "random_normal(stddev=[1])", "stddev, allowed: a finite number"),
        ("kernel_initializer", "random_normal(mean=None)", "mean, allowed: a finite number"),
        ("kernel_initializer", "variance_scaling(mode='fan')", "fan_in, fan_out, fan_avg"),
        ("kernel_initializer", "variance_scaling(mode=1)", "fan_in, fan_out, fan_avg"),
        ("kernel_initializer", "variance_scaling(distribution=['uniform'])", "uniform"),
        ("kernel_initializer", "random_normal(stddev=1", "has no closing bracket"),
        ("kernel_initializer", "keras.he_normal()", "did you mean he_normal"),
        ("kernel_initializer", "random_normal(stddev=1)(2)", "did you mean random_normal"),
        ("kernel_initializer", "random_normal(stddev=open('/etc/passwd'))", "a finite number"),
        ("kernel_initializer", "random_normal(stddev=__import__('os'))", "a finite number"),
        ("kernel_initializer", "__import__('os').abort()", "choose from constant"),
        ("kernel_initializer", "__import__('os')", "choose from constant"),
        ("kernel_initializer", "lambda: 1", "choose from constant"),
        ("kernel_initializer", "", "choose from constant"),
        ("kernel_initializer", "one\ntwo", "not one of those known"),
        ("kernel_initializer", "ones\x00", "did you mean ones"),
        ("kernel_initializer", "(" * 500, "choose from constant"),
        ("kernel_initializer", f"{20000 * '-'}1", "choose from constant"),
        ("kernel_initializer", f"constant(value={3000 * '-'}1)", "constant"),
    ],
)
def test_a_bad_value_gets_one_line_with_field_value_and_what_is_allowed(field, value, words):
    with pytest.raises(UsageError) as caught:
        Scenario(**{field: value})
    message = str(caught.value)
    assert message.startswith(f"{field}: {value!r} ")
    assert words in message
    assert "\n" not in message


def test_spellings_of_a_name_are_one_setting():
    assert Scenario(kernel_initializer="HeNormal") == Scenario(kernel_initializer="he_normal")
    assert Scenario(optimizer="Adam") == Scenario()


@pytest.mark.parametrize(
    ("canonical", "spellings"),
    [
        (
            "random_normal(stddev=1.0)",
            ["random_normal(stddev=1)", " RandomNormal( stddev = 1e0 )\n"],
        ),
        (
            "random_uniform(minval=-0.5, maxval=2.0)",
            ["random_uniform(maxval=2,minval=-.5)", "RandomUniform(minval=-5e-1, maxval=+2)"],
        ),
        (
            "variance_scaling(scale=2.0, mode='fan_out')",
            [
                'VarianceScaling(mode="fan_out", scale=2)',
                "variance_scaling(scale=2, mode='fan_out')",
            ],
        ),
        ("he_normal", ["he_normal()", "HeNormal()", "HeNormal", "he_normal"]),
        ("constant(value=0.1)", ["constant(value=0.1)", "Constant(value=1e-1)"]),
    ],
)
def test_spellings_of_an_initializer_are_one_setting(canonical, spellings):
    made = [Scenario(kernel_initializer=text) for text in [canonical, *spellings]]
    assert {scenario.kernel_initializer for scenario in made} == {canonical}
    assert len(set(made)) == 1
    assert Scenario(output_initializer=spellings[0]).output_initializer == canonical


def test_an_initializer_survives_formatting_and_parsing():
    assert names.parse_initializer("random_normal(stddev=1)") == ("random_normal", {"stddev": 1.0})
    assert type(names.parse_initializer("constant(value=1)")[1]["value"]) is float
    for value in (0.1, 1 / 3, 1e-300, 1.7976931348623157e308, -0.05, 5e-324):
        text = f"random_normal(mean={value!r}, stddev={value!r})"
        assert names.parse_initializer(text)[1] == {"mean": value, "stddev": value}
        assert Scenario(kernel_initializer=text).kernel_initializer == text


def test_initializers_take_the_arguments_of_keras_classes():
    # These arguments say which axes are inputs, which is clear for a dense kernel. Keras 3.12 does
    # not have them.
    ours_to_give = {"seed", "input_axes", "output_axes"}
    for name in set(names.KERNEL_INITIALIZERS) & set(initializers.ALL_OBJECTS_DICT):
        parameters = inspect.signature(initializers.ALL_OBJECTS_DICT[name]).parameters.values()
        named = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        theirs = tuple(p for p in named if p not in ours_to_give)
        assert names.INITIALIZER_ARGUMENTS.get(name, ()) == theirs, name
    for mode in names.INITIALIZER_WORDS["mode"]:
        for distribution in names.INITIALIZER_WORDS["distribution"]:
            keras.initializers.VarianceScaling(mode=mode, distribution=distribution)


def test_only_sgd_and_rmsprop_take_momentum():
    from mnist_vg.training.build import make_optimizer

    for name in module.OPTIMIZERS:
        if name in ("sgd", "rmsprop"):
            optimizer = make_optimizer(Scenario(optimizer=name, momentum=0.75))
            assert optimizer.momentum == 0.75
            assert make_optimizer(Scenario(optimizer=name)).momentum == 0
            Scenario(optimizer=name, momentum=0)
        else:
            words = f"momentum: 0.75 .*{name} has no momentum; use sgd or rmsp"
            with pytest.raises(UsageError, match=words):
                Scenario(optimizer=name, momentum=0.75)
            assert Scenario(optimizer=name).momentum is None


def test_sigmoid_twice_needs_two_layers():
    assert Scenario(output="sigmoid_twice", num_layers=2).num_layers == 2
    assert Scenario(output="sigmoid", num_layers=1).output == "sigmoid"
    with pytest.raises(
        UsageError, match=r"^output: 'sigmoid_twice' needs num_layers of 2 or more$"
    ):
        Scenario(output="sigmoid_twice", num_layers=1)


def test_with_seed_changes_only_seed_and_name():
    base = Scenario(activation="relu", name="mine", about="why", source="where", iterations=7)
    other = base.with_seed(3)
    changed = {"name": "mine-seed3", "seed": 3}
    assert other.settings() == {**base.settings(), **changed}
    assert (other.about, other.source) == ("why", "where")
    assert other.structure() == base.structure()
    assert base.seed == 0
    with pytest.raises(UsageError, match=r"^seed: -1 "):
        base.with_seed(-1)


def test_scenarios_with_the_same_data_seed_see_the_same_batches():
    assert [Scenario(seed=seed).batch_seed for seed in (0, 1)] == [0, 1]
    assert {Scenario(seed=seed, data_seed=3).batch_seed for seed in (0, 1)} == {3}
    with pytest.raises(UsageError, match=r"^data_seed: -1 must be a whole number of 0 or more"):
        Scenario(data_seed=-1)


def test_scenarios_of_one_structure_differ_only_in_values():
    base = Scenario(optimizer="sgd", momentum=0.5)
    values_only = {
        "name": "other",
        "kernel_initializer": "he_normal",
        "output_initializer": "zeros",
        "bias_initializer": "ones",
        "shared_initializer": True,
        "learning_rate": 0.5,
        "iterations": 7,
        "log_every": 3,
        "seed": 1,
        "data_seed": 2,
    }
    structural = {
        "dataset": "digits",
        "num_layers": 3,
        "hidden_size": 4,
        "activation": "relu",
        "output": "sigmoid",
        "normalization": "batch",
        "skip_connections": True,
        "optimizer": "rmsprop",
        "momentum": None,
        "global_clipnorm": 1.0,
        "batch_size": 7,
        "partial_batches": True,
        "measures": "full",
    }
    assert {*values_only, *structural} == set(base.settings())
    for field, value in values_only.items():
        changed = dataclasses.replace(base, **{field: value})
        assert changed != base
        assert changed.structure() == base.structure(), field
    found = {base.structure()}
    for field, value in structural.items():
        found.add(dataclasses.replace(base, name=base.name, **{field: value}).structure())
    assert len(found) == 1 + len(structural)


def test_suites_have_unique_names_descriptions_and_sources():
    names = [scenario.name for suite in SUITES.values() for scenario in suite]
    assert len(names) == len(set(names)) == len(SCENARIOS)
    assert not set(names) & set(SUITES)
    assert list(SCENARIOS) == names
    for name, scenario in SCENARIOS.items():
        assert scenario.name == name
        for text in (scenario.about, scenario.source):
            assert text == text.strip() != ""
            assert "\n" not in text


def test_settings_of_every_named_scenario_survive_json():
    for scenario in SCENARIOS.values():
        again = Scenario(**json.loads(json.dumps(scenario.settings())))
        assert again == scenario
        assert hash(again) == hash(scenario)
        assert again.settings() == scenario.settings()


def test_scenarios_and_suites_are_found_by_name():
    assert find_scenario("relu") is SCENARIOS["relu"]
    assert find_scenarios("relu") == (SCENARIOS["relu"],)
    for name, suite in SUITES.items():
        assert find_scenarios(name) == suite


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("rleu", "did you mean relu"),
        ("circels", "did you mean circles"),
        ("uniform-tanhh", "uniform-tanh"),
        ("???", "mnist-vg list shows every name"),
        ("", "mnist-vg list shows every name"),
    ],
)
def test_an_unknown_name_gets_suggestions(given, words):
    for find in (find_scenario, find_scenarios):
        with pytest.raises(UsageError) as caught:
            find(given)
        assert str(caught.value).startswith(f"scenario: {given!r} is not known; ")
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="'tutorial' is not known; did you mean tutorial"):
        find_scenario("tutorial")


def test_replaced_settings_are_checked_and_settings_are_plain_values():
    variant = dataclasses.replace(Scenario(), iterations=10, name="short")
    assert variant.name == "short"
    assert json.loads(json.dumps(variant.settings())) == variant.settings()
    with pytest.raises(UsageError):
        dataclasses.replace(variant, iterations=-10)


def test_scenarios_runs_and_reports_import_no_tensorflow():
    code = (
        "import sys, mnist_vg.scenarios.scenario, mnist_vg.runs.run, mnist_vg.diagnosis.diagnosis, "
        "mnist_vg.report, mnist_vg.cli, mnist_vg; "
        "print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
