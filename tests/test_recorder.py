"""`Recorder` in custom training loops, against `GradientLogger` in `fit`."""

import contextlib
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_vg import GradientLogger, Model, Recorder, Run, UsageError, datasets
from mnist_vg.diagnosis.diagnosis import Diagnosis, diagnose_runs
from mnist_vg.keras_models import layer_names
from mnist_vg.recording.yardstick import Yardstick
from mnist_vg.report import diagnosis_json

RNG = np.random.default_rng(0)
VECTORS = RNG.random((40, 6), dtype=np.float32)
LABELS = RNG.integers(0, 4, 40)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
SGD = {"learning_rate": 0.5}


def network():
    return Model(6, 4, "tanh", num_layers=3, hidden_size=5, seed=0)


def train(recorder, model, kind=lambda step: step, steps=range(5), watched=False):
    """A custom training loop; `kind` wraps its step, for instance with `tf.function`."""
    optimizer = keras.optimizers.SGD(**SGD)
    variables = model.trainable_variables
    optimizer.build(variables)

    @kind
    def take(step, inputs, labels):
        with recorder.watch() if watched else contextlib.nullcontext():
            with tf.GradientTape() as tape:
                loss = LOSS(labels, model(inputs, training=True))
            gradients = tape.gradient(loss, variables)
            recorder.record(step, gradients, variables, loss=loss)
            optimizer.apply(gradients, variables)

    for step in steps:
        batch = slice(8 * (step % 5), 8 * (step % 5) + 8)
        take(tf.constant(step), tf.constant(VECTORS[batch]), tf.constant(LABELS[batch]))


@pytest.mark.parametrize("measures", ["default", "full", "watched"])
@pytest.mark.parametrize("kind", [lambda step: step, tf.function], ids=["eager", "tf.function"])
def test_a_custom_loop_records_the_same_as_fit(tmp_path, kind, measures):
    watched = measures == "watched"
    options = {"every": 2, "measures": "full" if watched else measures}
    with Recorder(tmp_path / "loop", model := network(), **options) as recorder:
        train(recorder, model, kind, watched=watched)
    twin = network()
    twin.compile(keras.optimizers.SGD(**SGD), LOSS, jit_compile=False)
    logger = GradientLogger(tmp_path / "fit", **options)
    twin.fit(VECTORS, LABELS, batch_size=8, shuffle=False, verbose=0, callbacks=[logger])

    loop, fit = (Run.load(tmp_path / name) for name in ("loop", "fit"))
    assert loop.status == "finished"
    assert loop.history["step"].tolist() == [0, 2, 4]
    assert fit.history["loss/train_mean"].tolist()[0] == pytest.approx(fit.history["loss/train"][0])
    only_in_fit = {"loss/train_mean", "learning_rate", *Yardstick.tags}
    if not watched:
        watching = ("activation", "units", "update_ratio")
        only_in_fit |= {name for name in fit.history if name.startswith(watching)}
    assert set(loop.history) == set(fit.history) - only_in_fit
    lacks = set(Diagnosis.of(loop.history, finished=True).lacks.values())
    missing = {"activations (Recorder.watch)", "update sizes (Recorder.watch)"}
    assert lacks & missing == (missing if measures == "full" else set())
    for name, values in loop.history.items():
        if name in ("layers", "activation_layers"):
            assert values.tolist() == ["layer1", "layer2", "layer3"][: len(values)]
        else:
            np.testing.assert_allclose(
                values, fit.history[name], rtol=1e-4, atol=1e-7, err_msg=name
            )


def test_a_compiled_function_measures_inside_and_writes_outside(tmp_path):
    model = network()
    variables = model.trainable_variables
    with Recorder(tmp_path / "run", model) as recorder:

        @tf.function(jit_compile=True, autograph=False)
        def measured(inputs, labels):
            with tf.GradientTape() as tape:
                loss = LOSS(labels, model(inputs))
            gradients = tape.gradient(loss, variables)
            return recorder.measure(gradients, variables), loss, gradients

        numbers, loss, gradients = measured(tf.constant(VECTORS), tf.constant(LABELS))
        recorder.write(0, numbers, {"loss/train": float(loss)})

        @tf.function(jit_compile=True, autograph=False)
        def recorded(step):
            recorder.record(step, variables, variables)

        with pytest.raises(UsageError, match=r"^record: .*jit_compile=False.*$"):
            recorded(tf.constant(1))
    history = Run.load(tmp_path / "run").history
    expected = [np.abs(gradient).mean() for gradient in gradients[::2]]
    np.testing.assert_allclose(history["gradient_mean_abs"][0], expected, rtol=1e-5)


def test_tensorboards_own_reader_reads_every_record(tmp_path):
    with Recorder(tmp_path, model := network()) as recorder:
        train(recorder, model)
    reader = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    tags = reader.Tags()["tensors"]
    for tag in ("loss/train", "gradient_mean_abs/layer1", "gradients/layer2", "weights/layer3"):
        assert tag in tags
        assert [event.step for event in reader.Tensors(tag)] == [0, 1, 2, 3, 4]


def test_variables_without_a_model_are_named_after_their_paths(tmp_path):
    kernel = tf.Variable(RNG.normal(size=(3, 2)).astype(np.float32), name="first/kernel")
    bias = tf.Variable(np.zeros(2, np.float32), name="first/bias")
    table = keras.Variable(np.ones([4, 2], np.float32), name="table")
    unused = tf.Variable(1.0, name="unused/kernel")
    gradients = [
        tf.ones([3, 2]),
        tf.constant([7.0, 7.0]),
        tf.IndexedSlices(tf.fill([2, 2], 2.0), [1, 1], [4, 2]),
        None,
    ]
    with Recorder(tmp_path) as recorder:
        recorder.record(0, gradients, [kernel, bias, table, unused])
    history = Run.load(tmp_path).history
    assert list(history["layers"]) == ["first", "table", "unused"]
    # Two of the table's eight values have a gradient: 2 + 2 each, so the mean is 1.
    np.testing.assert_array_equal(history["gradient_mean_abs"][0], [1, 1, np.nan])


def test_a_bias_does_not_stand_in_for_its_kernel(tmp_path):
    model = network()
    variables = model.trainable_variables
    gradients = [None, *[tf.ones(variable.shape) for variable in variables[1:]]]
    with Recorder(tmp_path, model) as recorder:
        recorder.record(0, gradients, variables)
    run = Run.load(tmp_path)
    assert run.layer_marks == {"layer1": "no gradient"}
    gradients = dict(zip(run.history["layers"], run.history["gradient_mean_abs"][0], strict=True))
    np.testing.assert_equal(gradients, {"layer1": np.nan, "layer2": 1, "layer3": 1})


def test_a_loop_continues_from_its_initial_step(tmp_path):
    model = network()
    with Recorder(tmp_path / "run", model) as recorder:
        train(recorder, model)
    with Recorder(tmp_path / "run", model, initial_step=3) as recorder:
        train(recorder, model, steps=range(3, 8))
    assert Run.load(tmp_path / "run").history["step"].tolist() == list(range(8))
    with Recorder(tmp_path / "run", model) as recorder:
        train(recorder, model, steps=range(1))
    assert Run.load(recorder.folder).history["step"].tolist() == [0]
    assert (recorder.folder, recorder.run.name) == (tmp_path / "run-2", "run-2")
    with Recorder(tmp_path / "run", model, overwrite=True) as recorder:
        train(recorder, model, steps=range(2))
    assert Run.load(tmp_path / "run").history["step"].tolist() == [0, 1]


def test_a_loop_prints_each_symptom_once(tmp_path, capsys):
    weights = [tf.Variable(np.ones([4, 4], np.float32), name=f"{n}/kernel") for n in ("one", "two")]

    def told(recorder, steps, gradients):
        for step in steps:
            gradient = [tf.fill([4, 4], float(value)) for value in gradients]
            recorder.record(step, gradient, weights, loss=2.0)
        return capsys.readouterr().out.split("\n")[1:-1]

    with Recorder(tmp_path / "loop") as recorder:
        # The loss does not say whether anything is learned, so a symptom has to last.
        [line] = told(recorder, range(22), [0.01, 1e-6])
        assert line.startswith("loop at step 19: vanishing gradients in two, from step 0 on: ")
        [line] = told(recorder, range(22, 24), [np.nan, 1e-6])
        assert line.startswith("loop at step 22: non-finite values in one, from step 22 on: ")
    with Recorder(tmp_path / "loop", initial_step=24) as recorder:
        assert json.loads((tmp_path / "loop" / "run.json").read_text())["verdict"] is None
        assert told(recorder, range(24, 26), [np.nan, 1e-6]) == []
    run = Run.load(tmp_path / "loop")
    assert run.verdict == "vanishing gradients, non-finite values"
    # A new run of the same loop prints it again.
    with Recorder(tmp_path / "loop", overwrite=True) as recorder:
        assert len(told(recorder, range(22), [0.01, 1e-6])) == 1


def test_two_fits_print_each_symptom_once(tmp_path, capsys):
    digits = datasets.load("digits").train
    model = Model(64, 10, "sigmoid", num_layers=10, hidden_size=10, seed=0)
    model.compile("adam", LOSS)
    logger = GradientLogger(tmp_path / "fit", every=2)

    def told(epochs):
        inputs, labels = digits.inputs[:960], digits.labels[:960]
        model.fit(inputs, labels, epochs=epochs, shuffle=False, verbose=0, callbacks=[logger])
        return [line for line in capsys.readouterr().out.splitlines() if "at step" in line]

    first, second = told(2), told(3)
    run = Run.load(tmp_path / "fit")
    evidence = Diagnosis.of(run.history, finished=True).evidence
    names = ["vanishing gradients", "one answer for all inputs", "stuck at chance"]
    assert [e.symptom for e in evidence] == names
    # An epoch has 30 updates, so the 60th record belongs to the second fit.
    lines = [f"fit at step {s}: {e.line}" for s, e in zip((38, 118, 118), evidence, strict=True)]
    assert (first, second) == (lines[:1], lines[1:])
    assert run.verdict == ", ".join(names)


def test_a_diagnosis_with_an_infinite_number_is_valid_json(tmp_path):
    """The norm of finite gradients can be infinite in float32."""
    weights = tf.Variable(np.ones([3, 2], np.float32), name="first/kernel")
    with Recorder(tmp_path / "run", measures="full") as recorder:
        recorder.record(0, [tf.fill([3, 2], 1e25)], [weights], loss=1.0)
    [told] = json.loads(diagnosis_json(diagnose_runs(tmp_path)))
    assert told["verdict"] == "exploding gradients"
    assert told["symptoms"][0]["value"] is None


def test_a_broken_loop_is_not_finished_and_its_folder_is_not_locked(tmp_path):
    model = network()

    def broken():
        with Recorder(tmp_path / "run", model) as recorder:
            train(recorder, model, steps=range(2))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert Run.load(tmp_path / "run").status == "running"
    abandoned = Recorder(tmp_path / "run", model, initial_step=2)
    train(abandoned, model, steps=[2])
    with Recorder(tmp_path / "run", model, initial_step=3) as recorder:
        train(recorder, model, steps=[3])
    assert Run.load(tmp_path / "run").history["step"].tolist() == [0, 1, 2, 3]


def test_steps_rise_and_layers_stay(tmp_path):
    model = network()
    with Recorder(tmp_path / "run", model) as recorder:
        train(recorder, model, steps=range(2))
        with pytest.raises(UsageError, match="step: 1 comes after 1"):
            train(recorder, model, steps=[1])
        kernel = model.get_layer("layer1").kernel
        with pytest.raises(UsageError, match="layer1 came after those of layer1, layer2, layer3"):
            recorder.record(2, [tf.ones(kernel.shape)], [kernel])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": 0}, ["every", "1 or more"]),
        ({"measures": None}, ["measures", "None", "default, full"]),
        ({"layers": "conv"}, ["layers", "'conv'", "layer1"]),
        ({"initial_step": -1}, ["initial_step", "-1"]),
        ({"initial_step": "3"}, ["initial_step", "'3'"]),
        ({"settings": {"sizes": [3, 4]}}, ["settings", "sizes=[3, 4]"]),
        ({"settings": {"rate": np.nan}}, ["settings", "rate=nan"]),
        ({"settings": [1]}, ["settings", "[1]", "mapping"]),
    ],
    ids=str,
)
def test_wrong_options_are_refused(tmp_path, options, words):
    with pytest.raises(UsageError) as refusal:
        Recorder(tmp_path / "run", network(), **options)
    for word in words:
        assert word in str(refusal.value)
    assert not (tmp_path / "run").exists()


def test_settings_may_be_numpy_values(tmp_path):
    Recorder(tmp_path, network(), settings={"rate": np.float32(0.5), "size": np.int64(3)}).close()
    settings = Run.load(tmp_path).settings
    assert (settings["rate"], settings["size"]) == (0.5, 3)


@pytest.mark.parametrize("folder", [3, None, ""])
def test_an_invalid_folder_is_refused(folder):
    with pytest.raises(UsageError, match="folder"):
        Recorder(folder)


def test_gradients_that_do_not_fit_are_refused(tmp_path):
    kernel = network().get_layer("layer1").kernel
    right = tf.ones(kernel.shape)
    with Recorder(tmp_path) as recorder:
        for gradients, variables, word in (
            ([None], [kernel], "none of the variables"),
            ([kernel], [right], "gradients come first"),
            ([right], [kernel, kernel], "1 of them came with 2"),
            ([tf.ones([3])], [kernel], "shape"),
        ):
            with pytest.raises(UsageError, match=word):
                recorder.record(0, gradients, variables)
        with pytest.raises(UsageError, match="step"):
            recorder.record(0.5, [right], [kernel])
        with pytest.raises(UsageError, match="loss"):
            recorder.record(0, [right], [kernel], loss=tf.ones([8]))
        recorder.record(0, [right], [kernel], loss=1)


def test_a_recorder_may_take_over_the_open_one(tmp_path):
    model = network()
    recorder = Recorder(tmp_path, model)
    train(recorder, model, steps=[0])
    beside = Recorder(tmp_path, model)
    assert beside.folder == tmp_path.with_name(f"{tmp_path.name}-2")
    train(recorder, model, steps=[1])
    train(beside, model, steps=[0])
    beside.close()
    link = tmp_path.with_name("link")
    link.symlink_to(tmp_path)
    heir = Recorder(link, model, initial_step=2)
    with pytest.raises(UsageError, match="taken over"):
        train(recorder, model, steps=[2])
    recorder.finish()
    train(heir, model, steps=[2])
    heir.finish()
    assert Run.load(tmp_path).history["step"].tolist() == [0, 1, 2]
    with pytest.raises(UsageError, match="closed"):
        train(heir, model, steps=[3])


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UsageError, match="run"):
        Recorder(tmp_path / "run", network())


def test_paths_do_not_depend_on_earlier_models():
    def model():
        inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(2)])
        named = keras.layers.Dense(2, name="my_dense_7")
        return keras.Sequential([keras.Input((3,)), inner, named, keras.layers.Dense(1)])

    first, second = (list(layer_names.layer_paths(model())) for _ in range(2))
    assert first == second
    assert first == [
        "sequential/dense",
        "sequential/dense_1",
        "sequential",
        "my_dense_7",
        "dense",
    ]
