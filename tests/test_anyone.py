"""Small models of other people: what is found before the first step, and the verdict at the end."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import call_command
from keras import layers as L

from mnist_vg import GradientLogger, Recorder, Run, UsageError, diagnose

RNG = np.random.default_rng(0)
X = RNG.normal(size=(512, 8)).astype("float32")
CLASSES = (X @ RNG.normal(size=(8, 3))).argmax(1)
NUMBERS = X[:, :1] + 0.5 * RNG.normal(size=(512, 1)).astype("float32")


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)


def dense(*head, loss="mse", optimizer="adam", **options):
    model = keras.Sequential([keras.Input((8,)), L.Dense(32, "relu", name="hidden"), *head])
    model.compile(optimizer, loss, jit_compile=False, **options)
    return model


def classifier(**options):
    head = L.Dense(3, "softmax", name="head")
    return dense(head, loss="sparse_categorical_crossentropy", **options)


def trained(model, x, y, folder, **options):
    """The diagnosis of a fit, with the checks before its first step."""
    options = {"epochs": 3, "verbose": 0} | options
    model.fit(x, y, callbacks=[GradientLogger(folder / "run", check=True)], **options)
    return diagnose(folder / "run")


def test_a_finding_is_told_at_once_and_comes_first_in_the_diagnosis(tmp_path, capsys):
    with pytest.raises(tf.errors.InvalidArgumentError):
        trained(classifier(), X, CLASSES + 1, tmp_path)
    printed = capsys.readouterr().out
    assert "run before its first step: labels: the labels go from 1 to 3" in printed
    assert diagnose(tmp_path / "run").verdict == "unsuitable labels"
    assert Run.load(tmp_path / "run").findings[0]["check"] == "labels"
    assert call_command("diagnose", tmp_path, "--json") == 1
    [run] = json.loads(capsys.readouterr().out)
    assert run["symptoms"][0]["symptom"] == "unsuitable labels"


def test_a_healthy_fit_is_checked_in_silence_and_trains_the_same(tmp_path, capsys):
    weights = []
    for options in ({"check": True}, {"check": False}, None):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([L.Dense(16, "relu"), L.Dropout(0.5), L.Dense(3, "softmax")])
        model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
        logger = [] if options is None else [GradientLogger(tmp_path / "run", **options)]
        model.fit(X, CLASSES, epochs=2, verbose=0, callbacks=logger)
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    assert "before its first step" not in capsys.readouterr().out
    np.testing.assert_array_equal(weights[0], weights[2])
    np.testing.assert_array_equal(weights[1], weights[2])


def test_data_from_python_are_left_alone(tmp_path):
    taken = []

    def batches():
        for begin in range(0, 512, 64):
            taken.append(begin)
            yield 300 * X[begin : begin + 64], CLASSES[begin : begin + 64]

    spec = tf.TensorSpec((None, 8)), tf.TensorSpec((None,), tf.int64)
    dataset = tf.data.Dataset.from_generator(batches, output_signature=spec)
    trained(classifier(), dataset, None, tmp_path, epochs=1)
    assert len(taken) == 8
    assert Run.load(tmp_path / "run").findings == []


def test_a_model_that_has_trained_is_not_checked_again(tmp_path, capsys):
    model = classifier()
    trained(model, 300 * X, CLASSES, tmp_path, epochs=1)
    trained(model, 300 * X, CLASSES, tmp_path / "later", epochs=1)
    assert capsys.readouterr().out.count("before its first step") == 1


def test_a_frozen_model_leaves_a_run_that_says_so(tmp_path):
    model = classifier()
    model.trainable = False
    with pytest.raises(UsageError, match="all of its layers are frozen"):
        trained(model, X, CLASSES, tmp_path)
    assert diagnose(tmp_path / "run").verdict == "unsuitable network"


def test_constant_weights_do_not_oscillate(tmp_path):
    model = dense(L.Dense(1), optimizer=keras.optimizers.Adam(1e-9))
    told = trained(model, X, NUMBERS, tmp_path, epochs=4, batch_size=16)
    names = [evidence.symptom for evidence in told.evidence]
    assert names[:2] == ["unsuitable optimizer", "updates too small"]
    assert "oscillating loss" not in names
    assert not any("lower" in option for e in told.evidence for option in e.advice)


def test_a_layer_that_has_nothing_to_do_yet_is_not_sick(tmp_path):
    """A query begins without a gradient; at the end the best accuracy of 80% is reached."""
    words = RNG.integers(1, 60, (1024, 8))
    labels = (words < 5).any(1) ^ (RNG.uniform(size=1024) < 0.2)
    inputs = keras.Input((8,))
    embedded = L.Embedding(60, 16)(inputs)
    mixed = L.LayerNormalization()(embedded + L.MultiHeadAttention(2, 16)(embedded, embedded))
    pooled = L.Dense(16, "relu")(L.GlobalMaxPooling1D()(mixed))
    model = keras.Model(inputs, L.Dense(1, "sigmoid")(pooled))
    model.compile(keras.optimizers.Adam(5e-3), "binary_crossentropy", jit_compile=False)
    told = trained(model, words, labels, tmp_path, epochs=6, batch_size=64)
    assert (told.verdict, told.evidence) == ("healthy", [])
    assert ("vanishing gradients", 0) in [(remark.symptom, remark.step) for remark in told.remarks]


def test_a_finished_model_is_healthy(tmp_path):
    model = classifier(optimizer=keras.optimizers.Adam(0.01))
    model.fit(X, CLASSES, epochs=30, verbose=0)
    model.compile(keras.optimizers.Adam(1e-5), model.loss, jit_compile=False)
    told = trained(model, X, CLASSES, tmp_path, epochs=4)
    assert (told.verdict, told.evidence) == ("healthy", [])


def test_labels_that_mean_nothing_are_not_learned(tmp_path):
    labels = RNG.integers(0, 3, 512)
    told = trained(dense(L.Dense(1)), X[:, :8] * 0 + RNG.normal(size=(512, 8)), labels, tmp_path)
    assert not told.healthy or told.verdict == "still improving"
    assert told.learned_share < 0.1


@pytest.mark.parametrize("momentum", [0.99, 0.5])
def test_moving_averages_that_are_behind(momentum, tmp_path):
    hidden = [
        part
        for _ in range(3)
        for part in (L.Dense(24, use_bias=False), L.BatchNormalization(momentum=momentum), L.ReLU())
    ]
    model = keras.Sequential([keras.Input((8,)), *hidden, L.Dense(3, "softmax")])
    optimizer, loss = keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, jit_compile=False)
    more = {"epochs": 4, "batch_size": 64, "validation_split": 0.25}
    told = trained(model, X * 3 + 4, CLASSES, tmp_path, **more)
    assert ("moving averages behind" in told.verdict) is (momentum == 0.99)
    left = Run.load(tmp_path / "run").history["moving_average/of_start"]
    np.testing.assert_allclose(left[np.isfinite(left)], momentum ** np.array([6, 12, 18, 24]))


@pytest.mark.parametrize(
    ("strong", "verdict"), [(True, "rising loss"), (False, "no symptom found")]
)
def test_a_loss_that_only_rises(strong, verdict, tmp_path):
    """A generator against a discriminator that is too strong has no other sign than its loss."""
    model = keras.Sequential([keras.Input((4,)), L.Dense(4)])
    with Recorder(tmp_path / "run", model, every=1) as recorder:
        for step in range(30):
            with tf.GradientTape() as tape:
                loss = (1 + strong * step) * tf.reduce_mean(model(X[:8, :4]) ** 2)
            variables = model.trainable_variables
            recorder.record(step, tape.gradient(loss, variables), variables, loss=loss)
    assert diagnose(tmp_path / "run").verdict == verdict
