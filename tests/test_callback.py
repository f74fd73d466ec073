"""`GradientLogger` against Keras' training, and against gradients from a separate tape."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import twins
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from mnist_vg import GradientLogger, Model, Run, Scenario, UsageError, train

K = keras.layers
RNG = np.random.default_rng(0)
IMAGES = RNG.random((40, 8, 8, 2), dtype=np.float32)
SERIES = RNG.random((40, 5, 3), dtype=np.float32)
WORDS = RNG.integers(0, 20, (40, 5))
LABELS = RNG.integers(0, 4, 40)
BATCH = 8
STEPS = 5


def sequential(*layers, **options):
    return keras.Sequential([*layers, K.Dense(4)], **options)


def convolutional():
    return sequential(K.Conv2D(3, 3), K.BatchNormalization(), K.Activation("relu"), K.Flatten())


def recurrent():
    return sequential(K.Bidirectional(K.LSTM(3, return_sequences=True)), K.GRU(4))


def embedded():
    return sequential(K.Embedding(20, 3), K.SimpleRNN(4))


def nested():
    def encoder():
        return keras.Sequential([K.Flatten(), K.Dense(4, "tanh"), K.Dense(4, "tanh")])

    series = keras.Input((5, 3))
    shared = K.Dense(4, "relu", name="shared")
    joined = K.Concatenate()([shared(encoder()(series)), shared(encoder()(series))])
    return keras.Model(series, K.Dense(4)(joined))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [K.Dense(3, "relu") for _ in range(2)]
        self.attention = K.MultiHeadAttention(2, 3)
        self.head = K.Dense(4)
        self.unused = K.Dense(3)
        self.unused.build((None, 3))
        self.scale = self.add_weight(shape=(4,), initializer="ones", name="scale")

    def call(self, series):
        for block in self.blocks:
            series = block(self.attention(series, series))
        return self.head(keras.ops.mean(series, axis=1)) * self.scale


def frozen():
    model = sequential(K.Flatten(), K.Dense(4, "relu", trainable=False), K.Dense(4, "relu"))
    return model


class OwnStep(keras.Model):
    """A model with a custom `train_step`."""

    def train_step(self, data):
        inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x=inputs, y=labels, y_pred=self(inputs, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.apply(gradients)
        return {"loss": loss}

    def apply(self, gradients):
        self.optimizer.apply(gradients, self.trainable_variables)


class OwnApplyGradients(OwnStep):
    def apply(self, gradients):
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))


def own_step(kind=OwnStep):
    series = keras.Input((5, 3))
    return kind(series, K.Dense(4)(K.Flatten()(series)))


def own_apply_gradients():
    return own_step(OwnApplyGradients)


# For each model its examples, and its layers' paths with the names of the weights that get a
# gradient, in Keras' order.
MODELS = {
    "convolutional": (
        convolutional,
        IMAGES,
        {
            "conv2d": ["kernel"],
            "batch_normalization": ["gamma", "beta"],
            "dense": ["kernel"],
        },
    ),
    "recurrent": (
        recurrent,
        SERIES,
        {
            "bidirectional/forward_lstm": ["kernel", "recurrent_kernel"],
            "bidirectional/backward_lstm": ["kernel", "recurrent_kernel"],
            "gru": ["kernel", "recurrent_kernel"],
            "dense": ["kernel"],
        },
    ),
    "embedded": (
        embedded,
        WORDS,
        {
            "embedding": ["embeddings"],
            "simple_rnn": ["kernel", "recurrent_kernel"],
            "dense": ["kernel"],
        },
    ),
    "nested": (
        nested,
        SERIES,
        {
            "sequential/dense": ["kernel"],
            "sequential/dense_1": ["kernel"],
            "sequential_1/dense": ["kernel"],
            "sequential_1/dense_1": ["kernel"],
            "shared": ["kernel"],
            "dense": ["kernel"],
        },
    ),
    "subclassed": (
        Subclassed,
        SERIES,
        {
            "blocks_0": ["kernel"],
            "blocks_1": ["kernel"],
            "attention/query": ["kernel"],
            "attention/key": ["kernel"],
            "attention/value": ["kernel"],
            "attention/attention_output": ["kernel"],
            "head": ["kernel"],
            "unused": [],
            "subclassed": ["scale"],
        },
    ),
    "frozen": (frozen, SERIES, {"dense": [], "dense_1": ["kernel"], "dense_2": ["kernel"]}),
    "own_step": (own_step, SERIES, {"dense": ["kernel"]}),
    "own_apply_gradients": (own_apply_gradients, SERIES, {"dense": ["kernel"]}),
}


def compiled(make, optimizer="sgd", **options):
    keras.utils.set_random_seed(0)
    model = make()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    options.setdefault("jit_compile", False)
    model.compile(keras.optimizers.get(optimizer), loss, **options)
    return model


def fit(model, inputs, *callbacks, **options):
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0} | options
    keras.utils.set_random_seed(0)  # a model that is not built yet draws in its first step
    return model.fit(inputs, LABELS, callbacks=list(callbacks), **options)


def weights_of(model):
    return [variable.numpy() for variable in model.weights]


def taped(model, inputs, steps=STEPS, per_update=1):
    """Loss, gradients and weights of each update, from a tape next to Keras' training."""
    model.run_eagerly = True  # Tracing takes longer than these steps.
    records = []
    variables = model.trainable_variables
    for step in range(steps):
        losses, gradients = [], []
        for part in range(per_update):
            batch = slice(
                (step * per_update + part) * BATCH, (step * per_update + part + 1) * BATCH
            )
            with tf.GradientTape() as tape:
                loss = model.loss(LABELS[batch], model(inputs[batch], training=True))
            variables = model.trainable_variables
            found = tape.gradient(loss, variables)
            losses.append(float(loss))
            gradients.append([None if g is None else tf.convert_to_tensor(g) for g in found])
            if part == per_update - 1:
                values = [variable.numpy() for variable in variables]
            model.train_on_batch(inputs[batch], LABELS[batch])
        mean = [
            None if parts[0] is None else np.mean([part.numpy() for part in parts], axis=0)
            for parts in zip(*gradients, strict=True)
        ]
        records.append((losses[-1], mean, values, [v.numpy() for v in variables]))
    return records


def rows_of(model, names, tensors):
    """For each layer, its named weights' tensors joined to one row."""
    variables = [v.name for v in model.trainable_variables]
    rest = list(zip(variables, tensors, strict=True))
    if "subclassed" in names:  # Keras lists a model's own weights before its layers' weights.
        names = {"subclassed": names["subclassed"], **names}
        rest = [pair for pair in rest if pair[1] is not None]
    rows = {}
    for layer, wanted in names.items():
        parts = []
        for name in wanted:
            while rest[0][0] != name:
                rest.pop(0)
            parts.append(np.ravel(rest.pop(0)[1]))
        rows[layer] = np.concatenate(parts) if parts else None
    return rows


def assert_recorded(history, position, names, rows):
    """Check that the record at `position` is of these gradients, one row per layer."""
    assert list(history["layers"]) == list(names)
    for column, layer in enumerate(names):
        got = history["gradient_mean_abs"][position, column]
        if rows[layer] is None:
            assert np.isnan(got)
            continue
        expected = np.abs(rows[layer]).mean()
        np.testing.assert_allclose(got, expected, rtol=2e-4, atol=1e-8)
        buckets = history["gradients"][position, column]
        assert buckets[:, 2].sum() == rows[layer].size
        np.testing.assert_allclose(buckets[0, 0], rows[layer].min(), rtol=2e-4, atol=1e-7)
        np.testing.assert_allclose(buckets[-1, 1], rows[layer].max(), rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("name", MODELS)
def test_the_applied_gradient_is_recorded_without_changing_the_training(tmp_path, name):
    make, inputs, names = MODELS[name]
    # Tracing Adam takes a tenth of a second for each variable, of which these have many.
    optimizer = "sgd" if name in ("recurrent", "nested", "subclassed") else "adam"
    plain, logged = compiled(make, optimizer), compiled(make, optimizer)
    fit(plain, inputs)
    fit(logged, inputs, GradientLogger(tmp_path / "run", every=2))
    for ours, theirs in zip(weights_of(logged), weights_of(plain), strict=True):
        np.testing.assert_array_equal(ours, theirs)

    history = Run.load(tmp_path / "run").history
    assert history["step"].tolist() == [0, 2, 4]
    twin = compiled(make, optimizer)
    keras.utils.set_random_seed(0)
    twin(inputs[:1])
    records = taped(twin, inputs)
    for position, step in enumerate([0, 2, 4]):
        loss, gradients, values, _ = records[step]
        np.testing.assert_allclose(history["loss/train"][position], loss, rtol=1e-5)
        assert_recorded(history, position, names, rows_of(twin, names, gradients))
        for column, weights in enumerate(rows_of(twin, names, values).values()):
            if name != "subclassed" and weights is not None:
                buckets = history["weights"][position, column]
                np.testing.assert_allclose(buckets[-1, 1], weights.max(), rtol=1e-4, atol=1e-6)


VECTORS = RNG.random((40, 6), dtype=np.float32)
NAMES = {"layer1": ["kernel"], "layer2": ["kernel"], "layer3": ["kernel"]}


def dense(activation="tanh"):
    return Model(6, 4, activation, num_layers=3, hidden_size=5, seed=0)


@pytest.mark.parametrize(
    "options",
    [
        {"jit_compile": True},
        {"jit_compile": "auto"},
        {"run_eagerly": True},
        {"steps_per_execution": 2},
        {"steps_per_execution": 4},
        {"steps_per_execution": 2, "jit_compile": True},
    ],
    ids=str,
)
def test_every_way_of_running_a_step_records_numpys_gradient(tmp_path, options):
    plain, logged = compiled(dense, **options), compiled(dense, **options)
    parameters = [v.numpy().astype(float) for v in logged.trainable_variables]
    fit(plain, VECTORS)
    fit(logged, VECTORS, GradientLogger(tmp_path / "run", every=1))
    for ours, theirs in zip(weights_of(logged), weights_of(plain), strict=True):
        if options.get("jit_compile") is True:  # XLA may fuse another program otherwise
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
        else:
            np.testing.assert_array_equal(ours, theirs)
    history = Run.load(tmp_path / "run").history
    assert history["step"].tolist() == [0, 1, 2, 3, 4]
    gradients = twins.backprop(parameters, VECTORS[:BATCH], LABELS[:BATCH], "tanh")
    assert_recorded(history, 0, NAMES, dict(zip(NAMES, map(np.ravel, gradients[::2]), strict=True)))


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}, {"run_eagerly": True}], ids=str)
def test_an_accumulated_step_is_one_update_with_the_averaged_gradient(tmp_path, options):
    def adam():
        return keras.optimizers.Adam(gradient_accumulation_steps=2)

    plain, logged = (compiled(dense, adam(), **options) for _ in range(2))
    fit(plain, VECTORS)
    fit(logged, VECTORS, GradientLogger(tmp_path / "run", every=1))
    xla = "jit_compile" in options
    for ours, theirs in zip(weights_of(logged), weights_of(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5 * xla, atol=1e-7 * xla)
    history = Run.load(tmp_path / "run").history
    assert history["step"].tolist() == [0, 1]
    twin = compiled(dense, adam())
    for position, (loss, gradients, _, _) in enumerate(taped(twin, VECTORS, 2, per_update=2)):
        np.testing.assert_allclose(history["loss/train"][position], loss, rtol=1e-5)
        assert_recorded(history, position, NAMES, rows_of(twin, NAMES, gradients))


@pytest.mark.parametrize(
    ("clipping", "clip"),
    [
        ({"clipnorm": 0.05}, lambda gradients: [tf.clip_by_norm(g, 0.05) for g in gradients]),
        ({"clipvalue": 0.01}, lambda gradients: [np.clip(g, -0.01, 0.01) for g in gradients]),
        ({"global_clipnorm": 0.1}, lambda gradients: tf.clip_by_global_norm(gradients, 0.1)[0]),
    ],
    ids=["norm", "value", "global norm"],
)
def test_clipped_gradients_are_recorded_before_and_after(tmp_path, clipping, clip):
    logged, twin = (compiled(dense, keras.optimizers.SGD(0.1, **clipping)) for _ in range(2))
    fit(logged, VECTORS, GradientLogger(tmp_path / "run", every=1, measures="full"))
    history = Run.load(tmp_path / "run").history
    for position, (_, gradients, _, _) in enumerate(taped(twin, VECTORS)):
        before = rows_of(twin, NAMES, gradients)
        after = rows_of(twin, NAMES, clip(gradients))
        assert_recorded(history, position, NAMES, before)
        for column, layer in enumerate(NAMES):
            got = {
                measure: history[measure][position, column]
                for measure in history
                if "clip" in measure
            }
            expected = np.linalg.norm(after[layer]), np.abs(after[layer]).mean()
            assert expected[0] < np.linalg.norm(before[layer])
            np.testing.assert_allclose(got["gradient_clipped_norm"], expected[0], rtol=1e-4)
            np.testing.assert_allclose(got["gradient_clipped_mean_abs"], expected[1], rtol=1e-4)


@pytest.mark.parametrize(
    "options", [{}, {"jit_compile": True}, {"steps_per_execution": 3}], ids=str
)
def test_the_full_record_against_numpy(tmp_path, options):
    logged, twin = (compiled(lambda: dense("relu"), **options) for _ in range(2))
    # The first unit is dead: its input is below zero for every example.
    for model in (logged, twin):
        bias = model.get_layer("layer1").bias
        bias.assign(bias - np.float32([100, 0, 0, 0, 0]))
    fit(logged, VECTORS, GradientLogger(tmp_path / "run", every=1, measures="full"))
    history = Run.load(tmp_path / "run").history
    assert list(history["activation_layers"]) == ["layer1", "layer2"]
    for position, (_, gradients, values, updated) in enumerate(taped(twin, VECTORS)):
        batch = VECTORS[position * BATCH : (position + 1) * BATCH]
        _, outputs = twins.forward([v.astype(float) for v in values], batch, "relu")
        rows = [rows_of(twin, NAMES, tensors) for tensors in (gradients, values, updated)]
        for column, layer in enumerate(NAMES):
            gradient, before, after = (row[layer] for row in rows)
            expected = {
                "gradient_norm": np.linalg.norm(gradient),
                "gradient_std": gradient.std(),
                "gradient_zeros": (gradient == 0).mean(),
                "gradient_nonfinite_share": 0,
                "weight_norm": np.linalg.norm(before),
                "weight_std": before.std(),
                "update_ratio": np.linalg.norm(after - before) / np.linalg.norm(before),
            }
            if layer != "layer3":
                output = outputs[column + 1]
                expected |= {
                    "activation_mean": output.mean(),
                    "activation_std": output.std(),
                    "units_dead": (output == 0).all(axis=0).mean(),
                    "units_saturated": 0,
                }
            for measure, value in expected.items():
                np.testing.assert_allclose(
                    history[measure][position, column], value, rtol=2e-3, atol=1e-7, err_msg=measure
                )
    assert (history["units_dead"][:, 0] >= 0.2).all()
    assert (history["gradient_zeros"][:, 0] >= 0.2).all()


def test_activations_of_recurrent_layers(tmp_path):
    model = compiled(lambda: sequential(keras.Input((5, 3)), *recurrent().layers[:2]))
    both, gru, _ = model.layers
    first = SERIES[:BATCH]
    outputs = {
        "bidirectional/forward_lstm": both.forward_layer(first),
        "bidirectional/backward_lstm": both.backward_layer(first),
        "gru": gru(both(first)),
    }
    outputs = {path: output.numpy() for path, output in outputs.items()}
    fit(model, SERIES, GradientLogger(tmp_path / "run", measures="full"))
    assert_activations(tmp_path / "run", outputs)


def test_activations_of_nested_and_shared_layers(tmp_path):
    model = compiled(nested)
    shared, (first, second) = (
        model.get_layer("shared"),
        [layer for layer in model.layers if isinstance(layer, keras.Sequential)],
    )
    outputs = {}
    for path, encoder in (("sequential", first), ("sequential_1", second)):
        hidden = encoder.layers[0](SERIES[:BATCH])
        for name, layer in (("dense", encoder.layers[1]), ("dense_1", encoder.layers[2])):
            hidden = layer(hidden)
            outputs[f"{path}/{name}"] = hidden.numpy()
    # The shared layer is called twice; both outputs are joined to one batch.
    ends = [outputs["sequential/dense_1"], outputs["sequential_1/dense_1"]]
    outputs["shared"] = np.concatenate([shared(end) for end in ends])
    fit(model, SERIES, GradientLogger(tmp_path / "run", measures="full"))
    assert_activations(tmp_path / "run", outputs)


def assert_activations(folder, outputs):
    history = Run.load(folder).history
    assert list(history["activation_layers"]) == list(outputs)
    measures = [
        name
        for name in history
        if name.startswith(("activation", "units")) and history[name].ndim > 1
    ]
    for column, output in enumerate(outputs.values()):
        record = {measure: history[measure][0, column] for measure in measures}
        assert record["activation_mean"] == pytest.approx(output.mean(), rel=1e-4, abs=1e-6)
        assert record["activation_std"] == pytest.approx(output.std(), rel=1e-4)
        dead = (output == 0).reshape(-1, output.shape[-1]).all(axis=0).mean()
        assert record["units_dead"] == pytest.approx(dead)
        assert record["activations"][:, 2].sum() == output.size
        assert record["activations"][-1, 1] == pytest.approx(output.max(), rel=1e-5)


def test_saturated_units_are_counted(tmp_path):
    model = compiled(lambda: dense("sigmoid"))
    layer = model.get_layer("layer1")
    layer.kernel.assign(np.zeros((6, 5)))
    layer.bias.assign([5.1, -5.1, 4.9, -4.9, 0.0])  # a sum of 5 is where saturation begins
    fit(model, VECTORS, GradientLogger(tmp_path / "run", measures="full"))
    history = Run.load(tmp_path / "run").history
    assert history["units_saturated"][0].tolist() == pytest.approx([0.4, 0.0])
    assert history["units_dead"][0].tolist() == [0, 0]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_mixed_precision_records_the_unscaled_gradient_and_counts_skipped_steps(
    tmp_path, jit_compile
):
    def halved():
        keras.config.set_dtype_policy("mixed_float16")
        try:
            return sequential(keras.Input((6,)), K.Dense(5, "tanh", name="layer1"))
        finally:
            keras.config.set_dtype_policy("float32")

    def optimizer():
        scaled = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.1), initial_scale=2.0**18
        )
        return scaled

    plain, logged = (compiled(halved, optimizer(), jit_compile=jit_compile) for _ in range(2))
    first = weights_of(logged)
    fit(plain, VECTORS, epochs=2)
    fit(logged, VECTORS, GradientLogger(tmp_path / "run", every=1), epochs=2)
    for ours, theirs in zip(weights_of(logged), weights_of(plain), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    history = Run.load(tmp_path / "run").history
    done = int(logged.optimizer.iterations.numpy())
    skipped = int(np.nanmax(history["skipped_steps"]))
    assert 0 < skipped == 10 - done
    assert history["step"].tolist() == list(range(done))

    whole = compiled(lambda: sequential(keras.Input((6,)), K.Dense(5, "tanh", name="layer1")))
    whole.set_weights(first[: len(whole.weights)])
    # The first update uses the first batch whose step is not skipped.
    start = int(np.nan_to_num(history["skipped_steps"][0])) * BATCH
    batch = slice(start, start + BATCH)
    with tf.GradientTape() as tape:
        loss = whole.loss(LABELS[batch], whole(VECTORS[batch]))
    gradients = tape.gradient(loss, whole.trainable_variables)
    np.testing.assert_allclose(history["loss/train"][0], loss, rtol=1e-2)
    for column in range(2):
        expected = np.abs(gradients[2 * column]).mean()
        assert history["gradient_mean_abs"][0, column] == pytest.approx(expected, rel=2e-2)


def test_gradients_that_are_not_finite_are_counted_and_training_goes_on(tmp_path):
    spoiled = VECTORS.copy()
    spoiled[BATCH * 2 + 1, 3] = np.nan
    model = compiled(dense)
    fit(model, spoiled, GradientLogger(tmp_path / "run", every=1, measures="full"))
    history = Run.load(tmp_path / "run").history
    assert history["step"].tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(history["gradient_nonfinite"][:2]).all()
    assert history["gradient_nonfinite"][2:, 0].tolist() == [30, 30, 30]
    assert history["gradient_nonfinite_share"][2:, 0].tolist() == [1, 1, 1]
    assert np.isnan(history["gradients"][2:]).all()  # no histogram of nothing
    assert np.isnan(history["loss/train"][2:]).all()


def test_large_layers_are_measured_whole_and_drawn_from_a_sample(tmp_path):
    model = compiled(lambda: sequential(keras.Input((6,)), K.Dense(1100, "relu"), K.Dense(1100)))
    fit(model, VECTORS, GradientLogger(tmp_path / "run", every=1, measures="full"))
    history = Run.load(tmp_path / "run").history
    twin = compiled(lambda: sequential(keras.Input((6,)), K.Dense(1100, "relu"), K.Dense(1100)))
    _, gradients, values, _ = taped(twin, VECTORS, 1)[0]
    gradient, weights = np.float64(gradients[2]), np.float64(values[2])
    names = [name for name in history if name.startswith(("gradient_", "weights"))]
    got = {name: history[name][0, 1] for name in names if history[name].ndim > 1}
    assert got["gradient_mean_abs"] == pytest.approx(np.abs(gradient).mean(), rel=1e-5)
    assert got["gradient_norm"] == pytest.approx(np.linalg.norm(gradient), rel=1e-5)
    assert got["gradient_std"] == pytest.approx(gradient.std(), rel=1e-5)
    assert got["gradient_zeros"] == pytest.approx((gradient == 0).mean(), rel=1e-6)
    buckets = got["weights"]
    assert buckets[:, 2].sum() == pytest.approx(weights.size)
    edges = np.append(buckets[:, 0], buckets[-1, 1])
    counts, _ = np.histogram(weights, edges)
    # 0.2% is one standard error of a bucket's share.
    assert np.abs(buckets[:, 2] - counts).max() < 0.01 * weights.size


def test_several_fits_continue_one_run(tmp_path):
    plain, logged = compiled(dense), compiled(dense)
    logger = GradientLogger(tmp_path / "run", every=3)
    for epochs in ({"epochs": 2}, {"initial_epoch": 2, "epochs": 4}):
        for model, callbacks in ((plain, []), (logged, [logger])):
            held_out = (VECTORS[:7], LABELS[:7])
            done = fit(model, VECTORS, *callbacks, validation_data=held_out, **epochs)
    for ours, theirs in zip(weights_of(logged), weights_of(plain), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    run = Run.load(tmp_path / "run")
    recorded = np.isfinite(run.history["gradient_mean_abs"]).all(axis=1)
    assert run.history["step"][recorded].tolist() == [0, 3, 6, 9, 12, 15, 18]
    assert run.history["step"][~recorded].tolist() == [4, 14, 19]  # of validation
    assert run.status == "finished"
    assert run.results == pytest.approx({key: values[-1] for key, values in done.history.items()})


def test_the_first_step_of_each_epoch_is_recorded(tmp_path):
    model = compiled(dense)
    untrained = model.get_layer("layer1").kernel.numpy()
    fit(model, VECTORS, GradientLogger(tmp_path / "run", every="epoch"), epochs=3)
    run = Run.load(tmp_path / "run")
    assert run.steps_per_epoch == 5
    assert run.history["step"].tolist() == [0, 5, 10]
    assert run.history["weights"][0, 0, -1, 1] == untrained.max()


@pytest.mark.parametrize("steps_per_execution", [2, 3])
def test_the_first_step_of_each_epoch_with_several_steps_per_execution(
    tmp_path, steps_per_execution
):
    model = compiled(dense, steps_per_execution=steps_per_execution)
    fit(model, VECTORS, GradientLogger(tmp_path / "run", every="epoch"), epochs=3)
    assert Run.load(tmp_path / "run").history["step"].tolist() == [0, 5, 10]


def test_layers_are_chosen_by_path_and_histograms_can_be_left_out(tmp_path):
    model = compiled(dense)
    fit(model, VECTORS, GradientLogger(tmp_path / "run", layers="[13]$", histograms=False))
    history = Run.load(tmp_path / "run").history
    assert list(history["layers"]) == ["layer1", "layer3"]
    assert not {"gradients", "weights"} & set(history)
    mean_abs = history["gradient_mean_abs"][0]
    flow = history["gradient_flow/log10_first_to_last"][0]
    assert flow == pytest.approx(np.log10(mean_abs[0] / mean_abs[1]))


def test_fit_leaves_nothing_behind(tmp_path):
    model = compiled(dense, "adam")
    model.compute_loss = own_loss = model.compute_loss  # a user may have put one there
    fit(model, VECTORS)
    cached = model.train_function
    attributes = {id(part): set(vars(part)) for part in (model, model.optimizer, *model.layers)}
    logger = GradientLogger(tmp_path / "run", every=2, measures="full")
    fit(model, VECTORS, logger)
    assert model.train_function is cached
    fit(model, VECTORS)  # not logged
    fit(model, VECTORS, logger)
    for part in (model, model.optimizer, *model.layers):
        assert set(vars(part)) == attributes[id(part)]
    assert model.compute_loss is own_loss
    assert Run.load(tmp_path / "run").history["step"].tolist() == [6, 8, 16, 18]

    plain = compiled(dense, "adam")
    for _ in range(4):
        fit(plain, VECTORS)
    for ours, theirs in zip(weights_of(model), weights_of(plain), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(VECTORS), model(VECTORS))
    keras.models.clone_model(model)
    # A model that was saved and loaded continues the run.
    fit(loaded, VECTORS, GradientLogger(tmp_path / "run", every=2, measures="full"))
    assert Run.load(tmp_path / "run").history["step"].tolist() == [6, 8, 16, 18, 20, 22, 24]


class Break(keras.callbacks.Callback):
    """Raises KeyboardInterrupt after a batch."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 3:
            raise KeyboardInterrupt


def test_a_broken_fit_leaves_nothing_behind_and_can_continue(tmp_path):
    model, plain = compiled(dense), compiled(dense)
    for each, loggers in ((plain, []), (model, [GradientLogger(tmp_path / "run", every=1)])):
        with pytest.raises(KeyboardInterrupt):
            fit(each, VECTORS, *loggers, Break())
        fit(each, VECTORS)
    for ours, theirs in zip(weights_of(model), weights_of(plain), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert Run.load(tmp_path / "run").status == "running"
    fit(model, VECTORS, GradientLogger(tmp_path / "run", every=1))
    run = Run.load(tmp_path / "run")
    assert run.history["step"].tolist() == [0, 1, 2, 3, 9, 10, 11, 12, 13]
    assert run.status == "finished"


def test_repeated_steps_replace_their_records(tmp_path):
    model = compiled(dense)
    fit(model, VECTORS, GradientLogger(tmp_path / "run", every=1))
    state = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
    fit(model, VECTORS, GradientLogger(tmp_path / "run", every=1))
    for variable, value in zip((*model.variables, *model.optimizer.variables), state, strict=True):
        variable.assign(value)
    fit(model, VECTORS[::-1], GradientLogger(tmp_path / "run", every=1))
    assert Run.load(tmp_path / "run").history["step"].tolist() == list(range(10))


@pytest.mark.parametrize("every", [1, 2])
def test_data_of_unknown_length(tmp_path, every):
    def batches():
        for start in range(0, 40, BATCH):
            yield VECTORS[start : start + BATCH], LABELS[start : start + BATCH]

    spec = tf.TensorSpec([None, 6]), tf.TensorSpec([None], tf.int64)
    data = tf.data.Dataset.from_generator(batches, output_signature=spec)
    plain, logged = compiled(dense), compiled(dense)
    plain.fit(data, epochs=3, verbose=0)
    logger = GradientLogger(tmp_path / "run", every=every)
    logged.fit(data, epochs=3, verbose=0, callbacks=[logger])
    for ours, theirs in zip(weights_of(logged), weights_of(plain), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    history = Run.load(tmp_path / "run").history
    # At the end of the data, Keras counts one update more than it makes.
    made = [*range(5), *range(6, 11), *range(12, 17)]
    assert history["step"].tolist() == [step for step in made if step % every == 0]
    assert (history["gradient_mean_abs"] > 0).all()


def test_a_fit_that_keras_restores_continues_its_run(tmp_path):
    def callbacks(**options):
        logger = GradientLogger(tmp_path / "run", every=2, **options)
        return [logger, keras.callbacks.BackupAndRestore(tmp_path / "backup")]

    with pytest.raises(KeyboardInterrupt):
        fit(compiled(dense), VECTORS, *callbacks(), StopInSecondEpoch(), epochs=3)
    fit(compiled(dense), VECTORS, *callbacks(), epochs=3)
    assert Run.load(tmp_path / "run").history["step"].tolist() == list(range(0, 15, 2))


class StopInSecondEpoch(keras.callbacks.Callback):
    """Raises KeyboardInterrupt two epochs after the start."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def test_a_logger_with_another_or_a_restarted_model(tmp_path):
    logger = GradientLogger(tmp_path / "run", every=np.int64(2))
    model = compiled(dense)
    fit(model, VECTORS, logger)
    fit(model, VECTORS, logger)
    fit(compiled(dense), VECTORS, logger)
    assert logger.folder == tmp_path / "run-2"
    restarted = compiled(dense)
    fit(restarted, VECTORS, GradientLogger(tmp_path / "restarted", every=2))
    logger = GradientLogger(tmp_path / "restarted", every=2)
    restarted.compile("sgd", restarted.loss, jit_compile=False)
    fit(restarted, VECTORS, logger)
    assert logger.folder == tmp_path / "restarted-2"
    names = ("run", "run-2", "restarted", "restarted-2")
    steps = [Run.load(tmp_path / name).history["step"].tolist() for name in names]
    assert steps == [[0, 2, 4, 6, 8], [0, 2, 4], [0, 2, 4], [0, 2, 4]]


def test_files_of_other_programs_stay(tmp_path):
    others = [tmp_path / "checkpoint" / name for name in ("checkpoint", "ckpt-1.index", "mine")]
    others.append(tmp_path / "events.out.tfevents.1.host.v2")
    others[0].parent.mkdir()
    for path in others:
        path.write_text(path.name)
    model = compiled(dense)
    fit(model, VECTORS, GradientLogger(tmp_path, every=1))
    fit(compiled(dense), VECTORS, GradientLogger(tmp_path, every=1, overwrite=True))
    assert [path.read_text() for path in others] == [path.name for path in others]


def test_a_run_of_the_trainer_is_not_continued(tmp_path):
    train(Scenario(name="own", dataset="digits", num_layers=1, iterations=3), tmp_path)
    model = compiled(dense)
    fit(model, VECTORS)
    fit(model, VECTORS, logger := GradientLogger(tmp_path / "own", every=1))
    assert logger.folder == tmp_path / "own-2"
    assert Run.load(tmp_path / "own").history["step"].tolist() == [0, 2]


class FiveUpdates(OwnStep):
    def apply(self, gradients):
        for _ in range(5):
            self.optimizer.apply(gradients, self.trainable_variables)


@pytest.mark.parametrize("every", [1, 3, 7])
def test_a_train_step_of_several_updates(tmp_path, every):
    model = compiled(lambda: own_step(FiveUpdates))
    fit(model, SERIES, GradientLogger(tmp_path / "run", every=every))
    assert Run.load(tmp_path / "run").history["step"].tolist() == list(range(0, 25, every))


def test_a_broken_fit_with_several_steps_per_execution(tmp_path):
    model = compiled(dense, steps_per_execution=4)
    logger = GradientLogger(tmp_path / "run", every=1)
    with pytest.raises(KeyboardInterrupt):
        fit(model, VECTORS, Break(), logger)
    fit(model, VECTORS, logger)
    # The first fit was broken off before the logger could write its records.
    assert Run.load(tmp_path / "run").history["step"].tolist() == list(range(4, 9))


def test_activations_without_units_are_left_out(tmp_path):
    def scores():
        inputs = keras.Input((6,))
        score = keras.ops.squeeze(K.Dense(1)(K.Dense(3, "relu")(inputs)), axis=1)
        return keras.Model(inputs, K.Activation("sigmoid")(score))

    model = scores()
    model.compile("adam", "mse")
    logger = GradientLogger(tmp_path / "run", every=1, measures="full")
    model.fit(VECTORS[:19], LABELS[:19] % 2, batch_size=BATCH, verbose=0, callbacks=[logger])
    history = Run.load(tmp_path / "run").history
    assert list(history["activation_layers"]) == ["dense"]


def test_keras_own_tensorboard_callback_beside_it(tmp_path):
    def read(logdir):
        reader = EventMultiplexer(size_guidance={"tensors": 0})
        reader.AddRunsFromDirectory(str(logdir)).Reload()
        return {
            (run, tag): [event.step for event in reader.Tensors(run, tag)]
            for run, tags in reader.Runs().items()
            for tag in tags["tensors"]
        }

    held_out = (VECTORS[:7], LABELS[:7])
    for name, ours in (("alone", []), ("both", [GradientLogger(tmp_path / "both", every=1)])):
        theirs = keras.callbacks.TensorBoard(tmp_path / name, histogram_freq=1, update_freq=2)
        fit(compiled(dense), VECTORS, theirs, *ours, epochs=2, validation_data=held_out)
    alone, both = read(tmp_path / "alone"), read(tmp_path / "both")
    assert {run for run, _ in alone} == {"train", "validation"}
    assert {key: both[key] for key in alone} == alone
    for tag in ("loss/train", "gradient_mean_abs/layer1", "weights/layer3"):
        assert both[".", tag] == list(range(10))


REPLICAS = """
import keras, numpy as np, sys, tensorflow as tf
from mnist_vg import GradientLogger, Run
folder = sys.argv[1]
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
words = np.random.default_rng(0).integers(0, 20, (40, 5))
labels = np.random.default_rng(1).integers(0, 4, 40)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

def train(run, measures, **clipping):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Embedding(20, 3), keras.layers.Flatten(), keras.layers.Dense(4)]
    with strategy.scope():
        model = keras.Sequential(layers)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.5, **clipping), loss, jit_compile=False)
        model.build((None, 5))
    first = model.get_weights()
    logger = [GradientLogger(f"{folder}/{run}", every=2, measures=measures)] if measures else []
    model.fit(words, labels, batch_size=8, shuffle=False, verbose=0, callbacks=logger)
    return model, first, model.get_weights()

_, _, plain = train("plain", None)
model, first, logged = train("default", "default")
_, _, full = train("full", "full", clipnorm=0.01)
for ours, theirs in zip(logged, plain):
    np.testing.assert_array_equal(ours, theirs)
history = Run.load(f"{folder}/default").history
assert history["step"].tolist() == [0, 2, 4], history["step"]

layers = [keras.layers.Embedding(20, 3), keras.layers.Flatten(), keras.layers.Dense(4)]
alone = keras.Sequential(layers)
alone.build((None, 5))
alone.set_weights(first)
with tf.GradientTape() as tape:
    loss = model.loss(labels[:8], alone(words[:8]))
gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, alone.trainable_variables)]
expected = [np.abs(gradients[0]).mean(), np.abs(gradients[1]).mean()]
np.testing.assert_allclose(history["loss/train"][0], loss, rtol=1e-5)
np.testing.assert_allclose(history["gradient_mean_abs"][0], expected, rtol=1e-4)
clipped = Run.load(f"{folder}/full").history
np.testing.assert_allclose(clipped["gradient_mean_abs"][0], expected, rtol=1e-4)
assert (clipped["gradient_clipped_norm"][0] <= 0.02001).all(), clipped["gradient_clipped_norm"]
moved = np.linalg.norm(clipped["gradient_clipped_norm"][0] * 0.5 / clipped["weight_norm"][0])
np.testing.assert_allclose(np.linalg.norm(clipped["update_ratio"][0]), moved, rtol=1e-3)
"""


def test_two_replicas_record_the_reduced_gradient(tmp_path):
    command = [sys.executable, "-c", REPLICAS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


class NoOptimizer(keras.Model):
    def train_step(self, data):
        return {}


class ElsewhereApplied(OwnStep):
    def apply(self, gradients):
        for gradient, variable in zip(gradients, self.trainable_variables, strict=True):
            variable.assign_sub(0.1 * gradient)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": 0}, ["every", "0", "1 or more"]),
        ({"every": 2.5}, ["every", "2.5"]),
        ({"every": "epochs"}, ["every", "'epochs'"]),
        ({"measures": "all"}, ["measures", "'all'", "default, full"]),
        ({"layers": "conv"}, ["layers", "'conv'", "layer1, layer2, layer3"]),
        ({"layers": "("}, ["layers", "'('", "regular expression"]),
        ({"layers": None}, ["layers", "None", "regular expression"]),
    ],
    ids=str,
)
def test_wrong_options_are_refused_when_fit_starts(tmp_path, options, words):
    model = compiled(dense)
    before = weights_of(model)
    with pytest.raises(UsageError) as refusal:
        fit(model, VECTORS, GradientLogger(tmp_path / "run", **options))
    [line] = str(refusal.value).splitlines()
    for word in words:
        assert word in line
    assert not (tmp_path / "run").exists()
    for now, then in zip(weights_of(model), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_models_that_cannot_be_recorded_are_refused(tmp_path):
    def refused(model, inputs, *words):
        with pytest.raises(UsageError) as refusal:
            fit(model, inputs, GradientLogger(tmp_path / "run"))
        [line] = str(refusal.value).splitlines()
        for word in words:
            assert word in line

    series = keras.Input((5, 3))
    without = NoOptimizer(series, K.Dense(4)(series))
    without.compile(optimizer=None)
    refused(without, SERIES, "model", "optimizer")
    refused(compiled(lambda: own_step(ElsewhereApplied)), SERIES, "model", "Recorder")
    refused(compiled(lambda: keras.Sequential([keras.Input((4,)), K.ReLU()])), VECTORS, "weights")
    unbuilt = compiled(lambda: sequential(K.Dense(3)))
    with pytest.raises(UsageError, match="matches no layer"):
        fit(unbuilt, VECTORS, GradientLogger(tmp_path / "run", layers="conv"))
    # The refused models left a folder without records, so another run may use it.
    fit(compiled(dense), VECTORS, GradientLogger(tmp_path / "run"))
    assert not (tmp_path / "run-2").exists()
    fit(compiled(dense), VECTORS, GradientLogger(tmp_path / "run", every=2, overwrite=True))
    assert Run.load(tmp_path / "run").history["step"].tolist() == [0, 2, 4]


def test_two_loggers_in_one_fit_are_refused(tmp_path):
    loggers = [GradientLogger(tmp_path / name, every=1) for name in "ab"]
    with pytest.raises(UsageError, match="another GradientLogger"):
        fit(compiled(dense), VECTORS, *loggers)
