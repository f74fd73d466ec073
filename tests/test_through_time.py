"""The gradient through the time steps of recurrent layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

from mnist_vg import GradientLogger, Run
from mnist_vg.diagnosis import diagnose
from mnist_vg.keras_models.through_time import (
    log10_first_to_last,
    recurrent_layers,
    rms_by_time_step,
    tapped_recurrence,
)

SERIES = np.random.default_rng(0).normal(size=(5, 6, 2)).astype(np.float32)


def stepped(model, x, tapped=True):
    """The gradients of the sum of squared outputs, and what comes back through time, in a graph."""

    @tf.function(autograph=False)
    def step(x):
        with tapped_recurrence(model if tapped else None) as taps:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(model(x) ** 2)
            gradients = tape.gradient(loss, model.trainable_variables)
            by_step = {path: rms_by_time_step(*each) for path, each in taps.caught.items()}
            return gradients, by_step, taps.take()

    return step(x)


def backpropagation_through_time(cell, x):
    """Root mean square of the gradient at each time step of a SimpleRNN(tanh), by hand."""
    kernel, recurrent, bias = (np.asarray(weights, np.float64) for weights in cell.get_weights())
    states = [np.zeros((len(x), len(recurrent)))]
    for t in range(x.shape[1]):
        states.append(np.tanh(x[:, t] @ kernel + states[-1] @ recurrent + bias))
    of_state, by_step = 2 * states[-1], []
    for state in states[:0:-1]:
        of_sum = of_state * (1 - state**2)
        by_step.append(np.sqrt(np.mean((of_sum @ kernel.T) ** 2)))
        of_state = of_sum @ recurrent.T
    return by_step[::-1]


@pytest.mark.parametrize("backwards", [False, True])
def test_each_time_step_is_that_of_backpropagation_by_hand(backwards):
    keras.utils.set_random_seed(1)
    layer = L.SimpleRNN(3, go_backwards=backwards)
    model = keras.Sequential([keras.Input(SERIES.shape[1:]), layer])
    _, by_step, ratio = stepped(model, SERIES)
    wanted = backpropagation_through_time(layer.cell, SERIES[:, ::-1] if backwards else SERIES)
    np.testing.assert_allclose(by_step["simple_rnn"], wanted, rtol=1e-5)
    np.testing.assert_allclose(ratio["simple_rnn"], np.log10(wanted[0] / wanted[-1]), rtol=1e-4)


def test_masked_steps_are_left_out_and_the_last_ones_read_are_aligned():
    keras.utils.set_random_seed(1)
    layer = L.SimpleRNN(3)
    model = keras.Sequential([keras.Input((None, 2)), L.Masking(), layer])
    x = np.zeros((2, 9, 2), np.float32)
    x[0, 2:8], x[1, :3] = SERIES[0], SERIES[1, :3]
    _, by_step, _ = stepped(model, x)
    long, short = (
        backpropagation_through_time(layer.cell, part) for part in (x[:1, 2:8], x[1:, :3])
    )
    known = by_step["simple_rnn"].numpy()[3:]
    assert np.isnan(by_step["simple_rnn"][:3]).all()
    np.testing.assert_allclose(known[:3], long[:3], rtol=1e-5)
    np.testing.assert_allclose(
        known[3:], np.sqrt((np.square(long[3:]) + np.square(short)) / 2), rtol=1e-5
    )


def test_small_numbers_do_not_underflow():
    layer = L.SimpleRNN(3)
    gradient = tf.constant([1e-30, 0.0, 1.0])[tf.newaxis, :, tf.newaxis]
    by_step = rms_by_time_step(gradient, layer)
    np.testing.assert_allclose(by_step, [1e-30, 0, 1], rtol=1e-5)
    assert float(log10_first_to_last(by_step)) == pytest.approx(-30, rel=1e-5)
    assert float(log10_first_to_last(by_step[1:])) == pytest.approx(-37.93, rel=1e-3)
    assert np.isnan(log10_first_to_last(by_step[:2]))


def test_every_kind_is_caught_and_no_bit_of_a_gradient_changes():
    words = np.random.default_rng(0).integers(0, 9, (4, 7))
    layers = [
        L.Bidirectional(L.LSTM(3, return_sequences=True)),
        L.RNN([L.GRUCell(3), L.LSTMCell(2)], return_sequences=True),
        L.GRU(3),
    ]
    model = keras.Sequential([keras.Input((7,)), L.Embedding(9, 4, mask_zero=True), *layers])
    gradients, _, ratios = stepped(model, words)
    paths = "bidirectional/forward_lstm", "bidirectional/backward_lstm", "rnn", "gru"
    assert set(recurrent_layers(model)) == set(ratios) == set(paths)
    assert np.isfinite(list(ratios.values())).all()
    plain, _, nothing = stepped(model, words, tapped=False)
    assert nothing == {}
    for one, other in zip(gradients, plain, strict=True):
        assert np.array_equal(tf.convert_to_tensor(one), tf.convert_to_tensor(other))


def test_a_frozen_layer_is_left_alone():
    model = keras.Sequential([keras.Input(SERIES.shape[1:]), L.GRU(3, trainable=False), L.Dense(1)])
    assert stepped(model, SERIES)[1] == {}


def trained(folder, mask_zero):
    """A GRU that reads four words and fifty steps of padding: its weights, and its log if any."""
    rng = np.random.default_rng(0)
    classes = np.arange(128) % 2
    words = np.pad(1 + 5 * classes[:, np.newaxis] + rng.integers(0, 5, (128, 4)), [(0, 0), (0, 50)])
    keras.utils.set_random_seed(1)
    embedding = L.Embedding(11, 4, "orthogonal", mask_zero=mask_zero)
    layers = [embedding, L.GRU(4), L.Dense(1, "sigmoid")]
    model = keras.Sequential([keras.Input((54,)), *layers])
    model.compile(keras.optimizers.Adam(0.03), "binary_crossentropy", jit_compile=False)
    logger = GradientLogger(folder, every=1, measures="full", check=True) if folder else None
    model.fit(words, classes, epochs=6, verbose=0, callbacks=[logger] if logger else [])
    return model.get_weights(), Run.load(folder) if folder else None


def test_a_gru_that_reads_its_padding_is_named_and_trains_as_without_the_logger(tmp_path):
    weights, run = trained(tmp_path / "sick", mask_zero=False)
    for one, other in zip(weights, trained(None, mask_zero=False)[0], strict=True):
        assert np.array_equal(one, other)
    assert [finding["layer"] for finding in run.findings] == ["gru"]
    ratios = run.history["gradient_through_time"]
    assert list(run.history["layers"]) == ["embedding", "gru", "dense"]
    assert np.isnan(ratios[:, [0, 2]]).all()
    assert (ratios[:, 1] < -7.22).all()
    before, first, *_ = diagnose(run).evidence
    assert (before.symptom, before.layer) == ("unsuitable network", "gru")
    assert (first.symptom, first.layer) == ("vanishing through time", "gru")


def test_its_twin_with_a_mask_is_healthy(tmp_path):
    _, run = trained(tmp_path / "twin", mask_zero=True)
    assert run.findings == []
    assert diagnose(run).verdict == "healthy"
    assert (run.history["gradient_through_time"][:, 1] > -4).all()
