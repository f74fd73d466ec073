"""What the same answer for all inputs costs, against NumPy, and where that cannot be known."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

from mnist_vg import GradientLogger, Run
from mnist_vg.keras_models.losses import Losses
from mnist_vg.recording.yardstick import Yardstick
from mnist_vg.runs.tags import LOSS_DATA, LOSS_SAME_ANSWER, OUTPUT_SPREAD

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 4)).astype("float32")
LABELS = np.arange(32) % 3
NUMBERS = RNG.normal(2, 1, size=(32, 1)).astype("float32")


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def cross_entropy(probabilities, labels=LABELS):
    return -np.log(probabilities[np.arange(len(labels)), labels]).mean()


def compiled(head, loss, **options):
    model = keras.Sequential([keras.Input((4,)), L.Dense(head, **options)])
    model.compile("sgd", loss, jit_compile=False)
    return model


def recorded(model, x, y, tmp_path, **options):
    logger = GradientLogger(tmp_path / "run", every=1)
    options = {"batch_size": 32, "shuffle": False, "verbose": 0} | options
    model.fit(x, y, callbacks=[logger], **options)
    return Run.load(tmp_path / "run").history


def first(history):
    return [history[tag][0] for tag in (LOSS_DATA, LOSS_SAME_ANSWER, OUTPUT_SPREAD)]


def spread(outputs):
    return np.sqrt(((outputs - outputs.mean(0)) ** 2).mean() / (outputs**2).mean())


@pytest.mark.parametrize("logits", [False, True])
def test_of_classes_it_is_the_mean_of_the_probabilities(logits, tmp_path):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    model = compiled(3, loss, activation=None if logits else "softmax")
    outputs = model.predict(X, verbose=0)
    answers = softmax(outputs) if logits else outputs
    expected = cross_entropy(answers), cross_entropy(np.tile(answers.mean(0), (32, 1)))
    told = first(recorded(model, X, LABELS, tmp_path))
    assert told == pytest.approx([*expected, spread(outputs)], rel=1e-4)


def test_of_numbers_it_is_the_mean_and_penalties_do_not_count(tmp_path):
    model = compiled(1, "mse", kernel_regularizer=keras.regularizers.L2(0.5))
    outputs = model.predict(X, verbose=0)
    penalty = 0.5 * (model.weights[0].numpy() ** 2).sum()
    expected = ((NUMBERS - outputs) ** 2).mean(), ((NUMBERS - outputs.mean(0)) ** 2).mean()
    history = recorded(model, X, NUMBERS, tmp_path)
    assert first(history) == pytest.approx([*expected, spread(outputs)], rel=1e-4)
    assert history["loss/train"][0] == pytest.approx(expected[0] + penalty, rel=1e-4)


def test_of_several_outputs_it_is_the_weighted_sum(tmp_path):
    inputs = keras.Input((4,))
    heads = {"a": L.Dense(1, name="a")(inputs), "b": L.Dense(3, "softmax", name="b")(inputs)}
    model = keras.Model(inputs, heads)
    losses = {"a": "mse", "b": "sparse_categorical_crossentropy"}
    model.compile("sgd", losses, loss_weights={"a": 0.25, "b": 2.0}, jit_compile=False)
    a, b = (model.predict(X, verbose=0)[name] for name in ("a", "b"))
    same = ((NUMBERS - a.mean(0)) ** 2).mean(), cross_entropy(np.tile(b.mean(0), (32, 1)))
    history = recorded(model, X, {"a": NUMBERS, "b": LABELS}, tmp_path)
    assert history[LOSS_SAME_ANSWER][0] == pytest.approx(0.25 * same[0] + 2 * same[1], rel=1e-4)


def test_masked_steps_count_for_neither(tmp_path):
    words = np.where(np.arange(6) < 3, RNG.integers(1, 9, (32, 6)), 0)
    y = RNG.integers(0, 3, (32, 6))
    model = keras.Sequential([L.Embedding(9, 4, mask_zero=True), L.Dense(3, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    outputs = model.predict(words, verbose=0)[:, :3]
    same = np.broadcast_to(outputs.mean(0), outputs.shape)
    expected = [cross_entropy(p.reshape(-1, 3), y[:, :3].ravel()) for p in (outputs, same)]
    told = first(recorded(model, words, y, tmp_path))
    assert told[:2] == pytest.approx(expected, rel=1e-4)


def own_output(y_true, y_pred):
    return tf.reduce_mean(y_pred, axis=-1)


def random_loss(y_true, y_pred):
    return tf.reduce_mean((y_true - y_pred) ** 2, axis=-1) + tf.random.uniform([])


class Counting(keras.losses.Loss):
    """Keeps a state, which a second call would change."""

    def __init__(self):
        super().__init__()
        self.calls = tf.Variable(0)

    def call(self, y_true, y_pred):
        self.calls.assign_add(1)
        return tf.reduce_mean((y_true - y_pred) ** 2, axis=-1)


class OnlyOnce(Counting):
    """Fails if it is called a second time."""

    def call(self, y_true, y_pred):
        if getattr(y_pred, "op", None) is None or y_pred.op.type == "BroadcastTo":
            raise ValueError("not these outputs")
        return tf.reduce_mean((y_true - y_pred) ** 2, axis=-1)


@pytest.mark.parametrize("loss", [own_output, random_loss, Counting(), OnlyOnce()])
def test_it_is_unknown_where_a_second_call_tells_nothing_or_leaves_a_trace(loss, tmp_path):
    history = recorded(compiled(1, loss), X, NUMBERS, tmp_path)
    assert not any(np.isfinite(history.get(t, [])).any() for t in (LOSS_DATA, LOSS_SAME_ANSWER))
    assert np.isfinite(history["loss/train"]).all()
    assert isinstance(loss, OnlyOnce) or not isinstance(loss, Counting) or int(loss.calls) == 1


def test_it_is_unknown_of_a_single_example(tmp_path):
    history = recorded(compiled(1, "mse"), X[:3], NUMBERS[:3], tmp_path, batch_size=2)
    assert np.isfinite(history[LOSS_SAME_ANSWER]).tolist() == [True, False]


@pytest.mark.parametrize("part", ["inputs", "targets", "outputs"])
def test_values_that_are_not_finite_are_counted_where_they_are(part, tmp_path):
    x, y = X.copy(), NUMBERS.copy()
    if part == "outputs":
        loss, head = "mse", L.Lambda(lambda t: tf.math.log(t * 0 - 1))
        model = keras.Sequential([keras.Input((4,)), L.Dense(1), head])
        model.compile("sgd", loss, jit_compile=False)
    else:
        (x if part == "inputs" else y)[:2, 0] = np.nan
        model = compiled(1, "mse")
    history = recorded(model, x, y, tmp_path)
    assert history[f"nonfinite/{part}"][0] == (32 if part == "outputs" else 2)
    assert "nonfinite/targets" not in history or part == "targets"


def test_the_losses_are_a_copy():
    model = compiled(3, "sparse_categorical_crossentropy", activation="softmax")
    outputs = model(X)
    alone = Losses(model, lambda entry: entry.loss)(LABELS, outputs)
    assert float(alone) == pytest.approx(float(model.compute_loss(X, LABELS, outputs)), rel=1e-6)
    assert Yardstick(keras.Sequential([L.Dense(1)])).measure(X, LABELS, outputs, None).shape == 7
