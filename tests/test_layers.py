"""The names of layers, and layers that get no gradient."""

import keras
import numpy as np
import pytest

from mnist_vg import Recorder, Run
from mnist_vg.recording.layer_names import layer_paths, name_as_recorded

K = keras.layers


def sequential(*layers, **options):
    return keras.Sequential([keras.Input((3,)), *layers], **options)


class Held(keras.Model):
    """Holds layers in attributes of every kind."""

    def __init__(self):
        super().__init__()
        self.actor = K.Dense(2)
        self._critic = K.Dense(2)
        self.named = K.Dense(2, name="dense_3")
        self.again = self.actor
        self.blocks = [[K.Dense(2), K.ReLU()], [K.Dense(2)]]
        self.pair = (K.Dense(2), K.Dense(2))
        self.heads = {"left/right": K.Dense(2), 1: K.Dense(2)}
        self.encoder = sequential(K.Dense(2), K.Dense(2))
        self.blocks.append(self.encoder.layers[0])


class Outer(K.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.inner = Inner()
        self.dense = K.Dense(2)

    def call(self, inputs):
        return self.dense(self.inner(inputs))


class Inner(K.Layer):
    def __init__(self):
        super().__init__()
        self.dense = K.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


class Own(keras.Model):
    """A functional model of a class of the user's own."""


def functional(kind=keras.Model):
    inputs = keras.Input((3,))
    shared = K.Dense(3)
    outputs = K.Add()([shared(inputs), shared(sequential(shared, K.Dense(3))(inputs))])
    model = kind(inputs, Outer()(Outer(name="outer_7")(outputs)))
    model.build((None, 3))
    return model


IN_FUNCTIONAL = [
    *["sequential/dense", "sequential/dense_1", "sequential", "add"],
    *["outer_7/inner/dense", "outer_7/inner", "outer_7/dense", "outer_7"],
    *["outer/inner/dense", "outer/inner", "outer/dense", "outer"],
]

# For each model the paths of its layers. Layers without weights are named as well.
PATHS = {
    "the user's numbers": (
        lambda: sequential(*(K.Dense(2, name=f"dense_{n}") for n in (1, 2, 3))),
        ["dense_1", "dense_2", "dense_3"],
    ),
    "numbers that Keras made": (
        lambda: sequential(K.Dense(2), K.ReLU(), K.Dense(2), K.Dense(2), K.ReLU()),
        ["dense", "re_lu", "dense_1", "dense_2", "re_lu_1"],
    ),
    "both": (
        lambda: sequential(
            *[K.Dense(2), K.Dense(2, name="dense"), K.Dense(2), K.Dense(2, name="dense_1")]
        ),
        ["dense_2", "dense", "dense_3", "dense_1"],
    ),
    "a given name that ends in a number": (
        lambda: sequential(K.Dense(2, name="my_dense_7"), K.ReLU(name="dense_9")),
        ["my_dense_7", "dense_9"],
    ),
    "attributes": (
        Held,
        [
            *["actor", "critic", "dense_3", "blocks_0_0", "blocks_0_1", "blocks_1_0"],
            *["pair_0", "pair_1", "heads_left_right", "heads_1"],
            *["encoder/dense", "encoder/dense_1", "encoder"],
        ],
    ),
    "functional": (functional, IN_FUNCTIONAL),
    "functional, of a class of its own": (lambda: functional(Own), IN_FUNCTIONAL),
    "wrapped": (
        lambda: keras.Sequential(
            [
                keras.Input((4, 3)),
                K.Bidirectional(K.LSTM(2, return_sequences=True)),
                K.TimeDistributed(K.Dense(2)),
                K.SpectralNormalization(K.Dense(2)),
            ]
        ),
        [
            *["bidirectional/forward_lstm", "bidirectional/backward_lstm", "bidirectional"],
            *["time_distributed", "spectral_normalization/dense", "spectral_normalization"],
        ],
    ),
}


@pytest.mark.parametrize("name", PATHS)
def test_names_are_given_or_held_or_counted_and_the_same_for_every_model(name):
    make, expected = PATHS[name]
    for _ in range(2):
        paths = [path for path in layer_paths(make()) if not path.startswith("input_layer")]
        assert paths == expected


def test_a_loaded_model_continues_its_run_under_the_names_of_the_record(tmp_path):
    def record(model, step, **options):
        variables = model.trainable_variables
        gradients = [np.ones(variable.shape, np.float32) for variable in variables]
        with Recorder(tmp_path / "run", model, initial_step=step, **options) as recorder:
            recorder.record(step, gradients, variables)

    _ = K.Dense(2), sequential()  # So that Keras' numbers are not ours.
    model = sequential(K.Dense(2), Outer(), K.Dense(3, name="dense_100"), sequential(K.Dense(2)))
    model.scale = model.add_weight(shape=(4,), name="scale")
    record(model, 0)
    expected = ["dense", "outer/inner/dense", "outer/dense", "dense_100", "sequential/dense"]
    expected.append("sequential")  # The model's own weight.
    assert list(Run.load(tmp_path / "run").history["layers"]) == expected
    loaded = keras.models.clone_model(model)
    loaded.scale = loaded.add_weight(shape=(4,), name="scale")
    assert next(iter(layer_paths(loaded))) == model.layers[0].name != "dense"
    record(loaded, 1)
    assert list(Run.load(tmp_path / "run").history["layers"]) == expected
    # A pattern speaks of the recorded names, too.
    record(keras.models.clone_model(model), 2, layers="^dense$")
    gradients = Run.load(tmp_path / "run").history["gradient_mean_abs"]
    assert np.isfinite(gradients[2]).tolist() == [name == "dense" for name in expected]


def test_names_that_were_given_stay_when_a_run_is_continued():
    model = sequential(K.Dense(2, name="dense_1"), K.Dense(2, name="dense_2"))
    for recorded in (["dense_1", "dense_2"], ["dense_2"], ["another"], ["dense", "another"]):
        name_as_recorded(model, recorded)
        assert list(layer_paths(model)) == ["dense_1", "dense_2"]
