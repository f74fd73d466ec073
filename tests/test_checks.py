"""`check`: what it finds before training, what it leaves as it was, and what it skips."""

import json
import random
import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from mnist_vg import UsageError, check

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

from _check_cases import CLASSES, FAULTS, HEALTHY, NUMBERS, SPARSE, VECTORS, classifier, network

SLOW = ("MobileNetV2", "EfficientNetB0, inputs of 0 to 255", "ResNet50", "finished")


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(7)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_first_and_its_twin_has_no_finding(name):
    words, make = FAULTS[name]
    found = check(*make(True)).findings
    assert found
    assert words in repr(found[0])
    assert check(*make(False)).findings == ()


@pytest.mark.parametrize("name", [name for name in HEALTHY if name not in SLOW])
def test_a_healthy_model_has_no_finding(name):
    assert check(*HEALTHY[name]()).findings == ()


def test_the_example_of_the_page_prints_what_the_page_says(capsys):
    page = (Path(__file__).parent.parent / "docs" / "checks.md").read_text()
    keras.utils.set_random_seed(1)
    exec(re.search("```python\n(.*?)```", page, re.S)[1], {})
    printed, shown = capsys.readouterr().out, re.search("```\n\n```\n(.*?)```", page, re.S)[1]
    numbers = r"-?\d[\d.,]*"  # Their last digits differ by machine.
    assert re.sub(numbers, "…", printed).split() == re.sub(numbers, "…", shown).split()


class Draw(keras.layers.Layer):
    """Draws from every kind of random state that there is, and counts its calls.

    Python's and NumPy's are drawn from while a function is traced, so only where that is meant.
    """

    def __init__(self, traced):
        super().__init__()
        self.traced = traced

    def build(self, shape):
        self.calls = tf.Variable(0.0, trainable=False)
        self.generator = tf.random.Generator.from_seed(3)

    def call(self, inputs):
        self.calls.assign_add(1.0)
        self.add_loss(1e-3 * tf.reduce_mean(inputs**2))
        drawn = tf.random.normal(tf.shape(inputs)) + self.generator.normal(tf.shape(inputs))
        drawn += tf.random.get_global_generator().normal(tf.shape(inputs))
        drawn += keras.random.normal(tf.shape(inputs))
        if self.traced:
            drawn += np.random.rand() + random.random()
        return inputs + 0.1 * drawn


def restless(built=True):
    """A model of which every part has a state."""
    L = keras.layers
    normed = L.SpectralNormalization(L.Dense(8, "relu"))
    layers = [
        normed,
        L.BatchNormalization(),
        L.Dropout(0.3),
        Draw(traced=built),
        L.Dense(3, "softmax"),
    ]
    model = keras.Sequential([keras.Input((6,)), *layers] if built else layers)
    model.compile("adam", SPARSE, metrics=["accuracy"], jit_compile=False)
    return model


def state(model):
    """Everything that a training could depend on."""
    layers = [model, *model._flatten_layers(include_self=False)]
    tracked = [model.get_weights(), *([np.asarray(v) for v in model.optimizer.variables],)]
    metrics = [np.asarray(v) for metric in model.metrics for v in metric.variables]
    own = [layer.calls.numpy() for layer in layers if hasattr(layer, "calls")]
    own += [layer.generator.state.numpy() for layer in layers if hasattr(layer, "generator")]
    draws = [random.getstate(), np.random.get_state()[1].tolist()]
    draws += [tf.random.get_global_generator().state.numpy().tolist()]
    functions = [model.train_function, model.test_function, model._compile_loss.built]
    names = [sorted(vars(layer)) for layer in layers]
    losses = [len(layer._losses) for layer in layers]
    tracked = [value.tolist() for value in keras.tree.flatten([*tracked, metrics, own])]
    return [tracked, draws, functions, names, losses]


@pytest.mark.parametrize("trained", [False, True])
def test_nothing_changes(trained):
    model = restless()
    if trained:
        model.fit(VECTORS, CLASSES, verbose=0)
    before = state(model)
    tf.random.set_seed(5)
    assert check(model, VECTORS, CLASSES).skipped == ()
    after = state(model)
    for what, one, other in zip(
        ("tracked", "draws", "functions", "names", "losses"), before, after, strict=True
    ):
        assert one == other, what
    drawn = tf.random.normal((3,)).numpy()
    tf.random.set_seed(5)
    assert drawn.tolist() == tf.random.normal((3,)).numpy().tolist()


@pytest.mark.parametrize("built", [False, True])
def test_a_checked_model_trains_as_one_that_is_not(built):
    def trained(checks):
        keras.backend.clear_session()
        keras.utils.set_random_seed(7)
        tf.random.set_global_generator(tf.random.Generator.from_seed(1))
        model = restless(built)
        data = tf.data.Dataset.from_tensor_slices((VECTORS, CLASSES)).shuffle(64).batch(8)
        if checks:
            check(model, data)
        model.fit(data, epochs=2, verbose=0)
        return model.get_weights()

    for one, other in zip(trained(True), trained(False), strict=True):
        assert np.array_equal(one, other)


class Batches(keras.utils.PyDataset):
    """Two batches, the second with labels out of range."""

    def __len__(self):
        return 2

    def __getitem__(self, number):
        return VECTORS[:8], CLASSES[:8] + 2 * number


def test_it_takes_what_fit_takes():
    assert "units stand for" in check(classifier(), Batches()).findings[0].words
    labels = tf.data.Dataset.from_tensor_slices((VECTORS, CLASSES + 1)).batch(8)
    assert "units stand for" in check(classifier(), labels).findings[0].words
    inputs = {"left": keras.Input((6,)), "right": keras.Input((6,))}
    outputs = keras.layers.Dense(1)(keras.layers.Add()(list(inputs.values())))
    model = keras.Model(inputs, outputs)
    model.compile("adam", "mse")
    holes = np.where(VECTORS > 2, np.nan, VECTORS)
    [finding] = check(model, {"left": VECTORS, "right": holes}, NUMBERS).findings
    assert f"x['right'] has {(VECTORS > 2).sum()} values" in finding.words


def test_labels_of_all_rows_count_and_not_only_those_that_pass_through():
    labels = np.zeros(5000, int)
    labels[1:] = np.arange(4999) % 3
    labels[1234] = 3
    assert (
        "units stand for"
        in check(classifier(), np.tile(VECTORS, (79, 1))[:5000], labels).findings[0].words
    )


def test_weights_of_classes_and_examples_count():
    labels = (np.arange(64) >= 62).astype(float)
    model = classifier(keras.layers.Dense(1, "sigmoid"), "binary_crossentropy")
    assert "times as many" in check(model, VECTORS, labels).findings[0].words
    assert check(model, VECTORS, labels, class_weight={0: 0.5, 1: 16.0}).findings == ()
    nothing = check(model, VECTORS, CLASSES % 2, sample_weight=np.zeros(64))
    assert "exactly 0" in nothing.findings[0].words


def test_what_is_skipped_is_said_with_its_reason():
    plain = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    skipped = check(plain, VECTORS).skipped
    assert [line.partition(": ")[2] for line in skipped] == ["the model is not compiled"] * 2
    assert "there are no targets" in check(network(keras.layers.Dense(1)), VECTORS).skipped[0]

    class Broken(keras.Model):
        def call(self, inputs):
            raise RuntimeError("not today\nnor tomorrow")

    broken = Broken()
    broken.compile("adam", "mse")
    result = check(broken, np.full((40, 6), np.nan), NUMBERS[:40])
    assert "40 rows" in result.findings[0].words
    assert "not today" in result.skipped[0]
    assert "tomorrow" not in result.skipped[0]


def test_a_layer_is_named_as_in_a_record():
    inner = keras.Sequential([keras.layers.Dense(8, "tanh", name="first")], name="tower")
    zero = keras.layers.Dense(3, name="second", trainable=False)
    model = network(inner, zero, keras.layers.Lambda(tf.round), keras.layers.Dense(1))
    [finding] = check(model, VECTORS, NUMBERS).findings
    assert (finding.check, finding.layer) == ("network", "tower/first")


def test_the_result_as_text_and_as_json():
    result = check(classifier(), VECTORS, CLASSES + 1)
    text = repr(result)
    assert text.startswith(
        "1 finding\n1. labels: the labels go from 1 to 3, and 3 units stand for 0 to 2\n   why: "
    )
    assert max(map(len, text.splitlines())) <= 88
    assert "looked at: data: the values of all 64 rows" in text
    assert json.loads(result.json())["findings"][0]["check"] == "labels"
    assert repr(check(classifier(), VECTORS, CLASSES)).startswith("no findings\n")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((iter([VECTORS]),), "x: list_iterator cannot be read twice"),
        ((VECTORS[:0], CLASSES[:0]), "at least 1"),
        ((VECTORS, CLASSES[:5]), "the same number of rows"),
        ((tf.data.Dataset.range(3), CLASSES), "leave y out"),
        ((tf.data.Dataset.range(0),), "no batch"),
    ],
)
def test_data_that_cannot_be_checked_is_refused_in_one_line(data, words):
    with pytest.raises(UsageError, match=words) as refused:
        check(classifier(), *data)
    assert "\n" not in str(refused.value)


def test_only_a_model_is_checked():
    with pytest.raises(UsageError, match="model: a Dense; give a keras"):
        check(keras.layers.Dense(1), VECTORS)
