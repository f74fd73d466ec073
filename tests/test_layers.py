"""The names of layers, and layers that get no gradient."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_vg import GradientLogger, Recorder, Run
from mnist_vg.diagnosis.diagnosis import Diagnosis
from mnist_vg.keras_models.layer_names import layer_paths, name_as_recorded
from mnist_vg.report import diagnosis_json, mark_lines

K = keras.layers
INPUTS = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
TARGETS = np.random.default_rng(1).normal(size=(40, 1)).astype(np.float32)


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


def cut():
    """A network with a frozen layer in its middle, and a layer whose gradient is cut off."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    code = K.Dense(4, name="encoder")(inputs)
    code = keras.ops.one_hot(keras.ops.argmax(code, axis=-1), 4)
    code = K.BatchNormalization(name="norm", trainable=False)(K.Dense(4, name="first")(code))
    code = K.Dense(4, "tanh", name="middle", trainable=False)(code)
    model = keras.Model(inputs, K.Dense(1, name="last")(code))
    model.compile("sgd", "mse", jit_compile=False)
    return model


LAYERS = ["encoder", "first", "norm", "middle", "last"]
MARKS = {"encoder": "no gradient", "norm": "frozen", "middle": "frozen"}


def fitted(model, folder, **options):
    logger = GradientLogger(folder, every=2, **options)
    model.fit(INPUTS, TARGETS, batch_size=8, shuffle=False, verbose=0, callbacks=[logger])
    return Run.load(folder)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_layers_without_a_gradient_have_their_weights_recorded_and_a_mark(tmp_path, capsys):
    model = cut()
    weights = {name: np.ravel(model.get_layer(name).weights[0]) for name in MARKS}
    weights["norm"] = np.ravel(model.get_layer("norm").weights[:2])  # Without moving statistics.
    run = fitted(model, tmp_path / "my_run", measures="full")
    history = run.history
    assert list(history["layers"]) == LAYERS
    columns = [LAYERS.index(name) for name in MARKS]
    others = [LAYERS.index(name) for name in ("first", "last")]
    for measure in history:
        if (measure.startswith("gradient") and history[measure].ndim > 1) or measure == UPDATE:
            assert np.isnan(history[measure][:, columns]).all(), measure
            assert np.isfinite(history[measure][:, others]).all(), measure
    norms = [np.linalg.norm(weights[name]) for name in MARKS]
    np.testing.assert_allclose(history["weight_norm"][0, columns], norms, rtol=1e-5)
    assert np.isnan(history["weight_norm"][1:, columns]).all()
    counts = history["weights"][..., 2].sum(axis=-1)
    assert counts[0, columns].tolist() == [weights[name].size for name in MARKS]
    first, last = history["gradient_mean_abs"][:, others].T
    np.testing.assert_allclose(history[FLOW], np.log10(first / last), rtol=1e-5)

    assert run.layer_marks == MARKS
    [line] = [line for line in capsys.readouterr().out.splitlines() if "encoder" in line]
    assert line.startswith("my_run: encoder gets no gradient (")
    assert line.endswith("; frozen: norm, middle")
    told = Diagnosis.of(history, finished=False)
    assert told.layer_marks == MARKS
    assert mark_lines({"my_run": told}) == [line]
    [entry] = json.loads(diagnosis_json({"my_run": told}))
    assert entry["layer_marks"] == MARKS
    evidence = told.evidence[0]
    assert (evidence.symptom, evidence.layer, evidence.step) == ("no gradient", "encoder", 0)
    assert {e.layer for e in told.evidence}.isdisjoint({"norm", "middle"})

    shown = EventAccumulator(str(tmp_path / "my_run"), size_guidance={"tensors": 0}).Reload()
    tags = shown.Tags()["tensors"]
    assert {f"weights/{name}" for name in MARKS} < set(tags)
    assert not [tag for tag in tags if tag.startswith(("gradient", UPDATE)) and "encoder" in tag]
    [card] = shown.Tensors("layers without a gradient")
    text = card.tensor_proto.string_val[0].decode()
    assert "| encoder | no gradient |" in text
    assert "| middle | frozen |" in text


UPDATE, FLOW = "update_ratio", "gradient_flow/log10_first_to_last"


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_layers_without_a_gradient_are_chosen_by_the_pattern_too(tmp_path):
    options = {"layers": "first|middle", "histograms": False}
    run = fitted(cut(), tmp_path / "my_run", **options)
    assert list(run.history["layers"]) == ["first", "middle"]
    assert run.layer_marks == {"middle": "frozen"}


class Freeze(keras.callbacks.Callback):
    """Freezes the first layer in the second epoch, with the optimizer that trained it."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.model.layers[0].trainable = False
            self.model.make_train_function(force=True)


def test_a_layer_that_is_frozen_during_a_fit_is_marked_from_then_on(tmp_path):
    model = sequential(K.Dense(4, "tanh", name="base"), K.Dense(1, name="head"))
    model.compile("sgd", "mse", jit_compile=False)
    logger = GradientLogger(tmp_path / "run", every="epoch")
    options = {"batch_size": 8, "epochs": 2, "verbose": 0}
    model.fit(INPUTS, TARGETS, callbacks=[Freeze(), logger], **options)
    run = Run.load(tmp_path / "run")
    assert list(run.history["layers"]) == ["base", "head"]
    assert np.isfinite(run.history["gradient_mean_abs"]).tolist() == [[True, True], [False, True]]
    assert run.layer_marks == {"base": "frozen"}


def test_a_loop_of_your_own_is_told_of_layers_without_a_gradient(tmp_path, capsys):
    model = sequential(K.Dense(2, name="base"), K.Dense(1, name="head"))
    model.layers[0].trainable = False
    extra = K.Dense(1, name="extra")
    model = keras.Model(model.inputs, [*model.outputs, extra(model.inputs[0])])
    variables = model.trainable_variables
    with Recorder(tmp_path / "run", model) as recorder:

        @tf.function
        def take(step):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(model(INPUTS)[0]))
            recorder.record(step, tape.gradient(loss, variables), variables, loss=loss)

        for step in range(2):
            take(tf.constant(step))
    marks = {"base": "frozen", "extra": "no gradient"}
    assert Run.load(tmp_path / "run").layer_marks == marks
    [line] = [line for line in capsys.readouterr().out.splitlines() if "extra" in line]
    assert line.startswith("run: extra gets no gradient (")
    assert line.endswith("; frozen: base")


def test_layers_of_another_optimizer_have_no_mark(tmp_path):
    model = sequential(K.Dense(2, name="generator"), K.Dense(2, name="critic"))
    variables = model.layers[0].trainable_variables
    with Recorder(tmp_path / "run", model) as recorder:
        recorder.record(0, [np.ones(v.shape, np.float32) for v in variables], variables)
    run = Run.load(tmp_path / "run")
    assert (list(run.history["layers"]), run.layer_marks) == (["generator"], {})
