import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import twins
from conftest import without_xla
from keras.src.optimizers import ALL_OBJECTS_DICT

from mnist_vg import SCENARIOS, Model, Scenario, datasets
from mnist_vg.datasets import Split
from mnist_vg.scenarios.scenario import OPTIMIZERS
from mnist_vg.training import build as making
from mnist_vg.training import packing
from mnist_vg.training.batches import batch_indices
from mnist_vg.training.blocks import run_blocks
from mnist_vg.training.build import make_optimizer
from mnist_vg.training.trainer import Trainer

BATCH = 30


def make_split(examples=200, pixels=12, labels=4, seed=0):
    rng = np.random.default_rng(seed)
    return Split(
        rng.integers(0, 256, (examples, pixels), np.uint8),
        rng.integers(0, labels, examples, np.int32),
    )


def make_points(examples=140, seed=0):
    """Points in three dimensions, of two classes: inside and outside of a sphere."""
    points = np.random.default_rng(seed).normal(size=(examples, 3)).astype(np.float32)
    return Split(points, np.int32(np.square(points).sum(axis=1) > 2.5))


def make_model(split, **arguments):
    settings = {"activation": "tanh", "num_layers": 3, "hidden_size": 5, "seed": 1, **arguments}
    return Model(split.inputs.shape[1], int(split.labels.max()) + 1, **settings)


def make_trainer(split, optimizer=None, partial_batches=False, full=False, **arguments):
    return Trainer(
        make_model(split, **arguments),
        optimizer or keras.optimizers.Adam(),
        split,
        BATCH,
        seed=1,
        partial_batches=partial_batches,
        full=full,
    )


SPLIT = make_split()


@functools.cache
def program(optimizer, activation):
    """One trainer for all tests of such a network: compiling takes most of their time."""
    return make_trainer(SPLIT, optimizer(), activation=activation)


def begin(optimizer, activation="tanh"):
    """A trainer at its beginning, compiled if an earlier test has not."""
    trainer = program(type(optimizer), activation)
    trainer.restart(make_model(SPLIT, activation=activation), optimizer, seed=1)
    return trainer


@pytest.fixture
def small():
    return begin(keras.optimizers.Adam())


def parameters(trainer):
    return [np.float64(v.numpy()) for v in trainer.model.trainable_variables]


def batch(split, step, seed=1, partial=False):
    [indices] = batch_indices(seed, len(split.labels), BATCH, step, step, partial)
    steps_of_epoch = -(-len(split.labels) // BATCH)
    if partial and (step + 1) % steps_of_epoch == 0:
        indices = indices[: len(split.labels) - (steps_of_epoch - 1) * BATCH]
    inputs = split.inputs[indices]
    return inputs / 255 if inputs.dtype == np.uint8 else inputs, split.labels[indices]


def assert_equal_to_the_bit(one, other):
    for ours, theirs in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("logits", [4, 1])
@pytest.mark.parametrize("activation", twins.SLOPES)
def test_the_numpy_backprop_agrees_with_finite_differences(activation, logits):
    split = make_split(labels=max(logits, 2))
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=s) for s in [(12, 5), 5, (5, 5), 5, (5, logits), logits]]
    images, labels = batch(split, 0)
    gradients = twins.backprop(weights, images, labels, activation)
    for which, gradient in enumerate(gradients):
        for index in [(0,) * gradient.ndim, tuple(size - 1 for size in gradient.shape)]:
            ends = []
            for shift in (1e-6, -1e-6):
                moved = [w.copy() for w in weights]
                moved[which][index] += shift
                ends.append(twins.cross_entropy(moved, images, labels, activation))
            assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(gradient[index], rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("activation", twins.SLOPES)
def test_the_recorded_gradient_is_the_applied_one(mnist, activation):
    """With SGD at a learning rate of 1, the weights change by exactly the gradient."""
    model = Model(activation=activation, seed=2)
    trainer = Trainer(model, keras.optimizers.SGD(1.0), mnist.train, BATCH, seed=1)
    for step in range(3):
        before = parameters(trainer)
        block = trainer.advance(1, record=True)
        images, labels = batch(mnist.train, step)
        gradients = twins.backprop(before, images, labels, activation)
        for moved_from, moved_to, gradient in zip(
            before, parameters(trainer), gradients, strict=True
        ):
            scale = np.abs(gradient).max()
            # The difference of two float32 weights is accurate to a unit in their last place.
            np.testing.assert_allclose(moved_from - moved_to, gradient, atol=1e-3 * scale + 2e-7)
        kernels = gradients[::2]
        assert block.step == step
        assert block.loss == pytest.approx(
            twins.cross_entropy(before, images, labels, activation), rel=1e-5
        )
        measured = {
            key: tf.nest.map_structure(np.asarray, part) for key, part in block.tables[0][1].items()
        }
        np.testing.assert_allclose(
            measured["gradient_mean_abs"], [np.abs(g).mean() for g in kernels], rtol=2e-3
        )
        for layer, (gradient, weights) in enumerate(zip(kernels, before[::2], strict=True)):
            theirs = twins.histogram(weights)
            np.testing.assert_array_equal(measured["weights"]["counts"][layer], theirs[:, 2])
            assert measured["weights"]["min"][layer] == weights.min()
            assert measured["gradients"]["max"][layer] == pytest.approx(gradient.max(), rel=5e-3)
            assert measured["gradients"]["counts"][layer].sum() == gradient.size


def test_one_adam_step_equals_numpys(small):
    before = parameters(small)
    small.advance(1, record=False)
    expected = twins.adam_step(before, twins.backprop(before, *batch(SPLIT, 0), "tanh"))
    for weights, twin in zip(parameters(small), expected, strict=True):
        np.testing.assert_allclose(weights, twin, atol=2e-7)


def keras_twin(trainer, optimizer):
    """The same network, trained by `keras.Model.train_on_batch` on the same batches."""
    twin = keras.models.clone_model(trainer.model)
    twin.set_weights(trainer.model.get_weights())
    # Build the optimizer in eager mode. In a compiled function, Keras 3.15 initializes
    # ScheduleFreeAdamW's momentum to zero, and not to the weights as it means to.
    optimizer.build(twin.trainable_variables)
    losses = keras.losses
    of_one_logit = trainer.model.output_shape[-1] == 1
    loss = losses.BinaryCrossentropy if of_one_logit else losses.SparseCategoricalCrossentropy
    twin.compile(optimizer, loss(from_logits=True), run_eagerly=True)
    return twin


def assert_trains_as(twin, trainer, split, steps, partial=False):
    for step in range(steps):
        images, labels = batch(split, step, partial=partial)
        twin.train_on_batch(np.float32(images), labels[:, np.newaxis])
    trainer.advance(steps, record=False)
    for ours, theirs in zip(trainer.model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) & set(ALL_OBJECTS_DICT)))
def test_every_optimizer_moves_the_weights_as_in_keras(name):
    split = make_split()
    scenario = Scenario(optimizer=name, learning_rate=0.01, global_clipnorm=0.05)
    trainer = make_trainer(split, make_optimizer(scenario), num_layers=2)
    twin = keras_twin(trainer, make_optimizer(scenario))
    assert_trains_as(twin, trainer, split, steps=4)


@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_normalized_networks_with_skips_train_as_in_keras(normalization):
    split = make_split()
    trainer = make_trainer(
        split,
        keras.optimizers.SGD(0.1),
        num_layers=4,
        normalization=normalization,
        skip_connections=True,
    )
    twin = keras_twin(trainer, keras.optimizers.SGD(0.1))
    assert_trains_as(twin, trainer, split, steps=5)
    loss, accuracy = trainer.evaluate(split)
    theirs = twin.evaluate(np.float32(split.inputs / 255), split.labels, verbose=0)
    assert loss == pytest.approx(theirs, rel=1e-3)
    assert 0 <= accuracy <= 1


@pytest.mark.parametrize(
    ("activation", "kernels", "biases", "measure", "other"),
    [
        ("tanh", 6, 0, "units_saturated", "units_dead"),
        ("relu", 1, [0, -9, 0.5, -9, 0], "units_dead", "units_saturated"),
    ],
)
def test_update_ratios_and_shares_of_units_equal_numpys(
    activation, kernels, biases, measure, other
):
    trainer = begin(keras.optimizers.SGD(0.3), activation)
    for layer in trainer.model.dense_layers[:-1]:
        kernel, bias = layer.get_weights()
        layer.set_weights([kernels * kernel, bias + biases])
    trainer.advance(2, record=False)  # These steps must not change the record.
    before = parameters(trainer)
    (names, layers), (hidden, shares) = trainer.advance(1, record=True).tables
    assert (names, hidden) == (["layer1", "layer2", "layer3"], ["layer1", "layer2"])
    moved = [
        np.linalg.norm(new - old) / np.linalg.norm(old)
        for old, new in zip(before[::2], parameters(trainer)[::2], strict=True)
    ]
    np.testing.assert_allclose(layers["update_ratio"], moved, rtol=1e-5)
    sums, outputs = twins.forward(before, batch(SPLIT, 2)[0], activation)
    if activation == "tanh":  # It counts as saturated from an input of 2.5 on.
        expected = [((np.abs(z) >= 2.5).mean(axis=0) > 0.5).mean() for z in sums[:-1]]
    else:
        expected = [(values == 0).all(axis=0).mean() for values in outputs[1:-1]]
    assert 0 < max(expected) < 1
    np.testing.assert_allclose(shares[measure], expected)
    assert not shares[other].any()


def test_packing_changes_no_bit(small, monkeypatch):
    monkeypatch.setattr(packing, "SMALL", 0)
    loose = make_trainer(SPLIT)
    small.advance(20, record=True)
    loose.advance(20, record=True)
    assert_equal_to_the_bit(parameters(small), parameters(loose))


def test_results_do_not_depend_on_the_length_of_blocks(small):
    last = small.advance(47, record=True)
    whole = parameters(small)
    begin(keras.optimizers.Adam())
    for steps, record in [(1, True), (20, False), (5, True), (20, False)]:
        small.advance(steps, record)
    final = small.advance(1, record=True)
    assert_equal_to_the_bit(final, last)
    assert_equal_to_the_bit(parameters(small), whole)


def test_records_are_due_at_every_interval_and_at_the_last_step(small):
    blocks = list(run_blocks(small, iterations=48, log_every=20))
    assert [block.step for block in blocks if block.tables is not None] == [0, 20, 40, 47]
    assert blocks[-1].step == 47
    assert small.steps_done == 48


def test_each_epoch_has_every_example_once_in_a_new_order():
    stream = batch_indices(seed=3, examples=100, batch_size=30, first=0, last=9).ravel()
    epochs = stream.reshape(3, 100)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(100))
    assert not np.array_equal(epochs[0], epochs[1])
    later = batch_indices(seed=3, examples=100, batch_size=30, first=4, last=6).ravel()
    np.testing.assert_array_equal(later, stream[4 * 30 : 7 * 30])
    other = batch_indices(seed=4, examples=100, batch_size=30, first=0, last=9).ravel()
    assert not np.array_equal(stream, other)


def test_evaluation_counts_every_example(monkeypatch):
    split = make_split(examples=203)
    trainer = make_trainer(split)
    loss, accuracy = trainer.evaluate(split)
    weights = parameters(trainer)
    images = split.inputs / 255
    assert loss == pytest.approx(twins.cross_entropy(weights, images, split.labels, "tanh"))
    assert accuracy == pytest.approx(twins.accuracy(weights, images, split.labels, "tanh"))
    monkeypatch.setattr("mnist_vg.training.trainer.EVALUATION_BATCH", 50)
    assert trainer.evaluate(split) == pytest.approx((loss, accuracy), rel=1e-6)


def test_nonfinite_values_are_counted_and_do_not_stop_the_training():
    trainer = begin(keras.optimizers.SGD(1e30), "relu")
    block = trainer.advance(10, record=True)
    assert not np.isfinite(block.loss)
    assert block.tables[0][1]["gradient_nonfinite"].any()
    assert block.tables[0][1]["weight_nonfinite"].any()
    assert trainer.advance(1, record=False).step == 10


@pytest.mark.parametrize(("examples", "left"), [(100, 10), (90, 30), (7, 7), (31, 1)])
def test_an_epoch_of_partial_batches_ends_with_the_examples_left(examples, left):
    steps = -(-examples // 30)
    rows = batch_indices(5, examples, 30, 0, 3 * steps - 1, partial=True)
    epochs = rows.reshape(3, steps, 30)
    taken = [np.concatenate([*epoch[:-1], epoch[-1, :left]]) for epoch in epochs]
    for epoch in taken:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(examples))
    assert examples < 3 or not np.array_equal(taken[0], taken[1])
    assert rows.dtype == np.int32
    # The rest of a row is read as well, so it must hold valid indices.
    assert 0 <= rows.min() <= rows.max() < examples
    for first, last in [(0, 0), (steps - 1, steps), (1, 2 * steps)]:
        part = batch_indices(5, examples, 30, first, last, partial=True)
        np.testing.assert_array_equal(part, rows[first : last + 1])
    if left == 30:
        np.testing.assert_array_equal(rows, batch_indices(5, examples, 30, 0, 3 * steps - 1))


POINTS = make_points()
CLIP = 0.05
CLIPPED = Scenario(global_clipnorm=CLIP, learning_rate=0.01)


@pytest.fixture(scope="module")
def fully_recorded():
    """A trainer with full records and one logit, on batches of 30, 30, 30, 30 and 20."""
    optimizer = make_optimizer(CLIPPED)
    return make_trainer(POINTS, optimizer, output="sigmoid", partial_batches=True, full=True)


@pytest.fixture
def full(fully_recorded):
    model = make_model(POINTS, output="sigmoid")
    fully_recorded.restart(model, make_optimizer(CLIPPED), seed=1)
    return fully_recorded


def test_a_full_record_equals_numpys_on_whole_and_partial_batches(full):
    kernels_of = {}
    for step in range(10):
        before = parameters(full)
        block = full.advance(1, record=True)
        images, labels = batch(POINTS, step, partial=True)
        assert len(labels) == (20 if step in (4, 9) else 30)
        assert block.loss == pytest.approx(
            twins.cross_entropy(before, images, labels, "tanh"), rel=1e-5
        )
        assert block.accuracy == pytest.approx(twins.accuracy(before, images, labels, "tanh"))
        gradients = twins.backprop(before, images, labels, "tanh")
        sums, outputs = twins.forward(before, images, "tanh")
        slopes, to_sums, to_outputs = twins.signals(before, images, labels, "tanh")
        weights, kernels = before[::2], gradients[::2]
        clipping = min(1, CLIP / np.sqrt(sum(np.square(g).sum() for g in gradients)))
        assert clipping < 1

        (names, layers), (hidden, signals) = block.tables
        assert names == ["layer1", "layer2", "layer3"]
        assert hidden == ["layer1", "layer2"]
        for measured, key, twin in [
            (layers, "gradient_mean", [g.mean() for g in kernels]),
            (layers, "gradient_std", [g.std() for g in kernels]),
            (layers, "gradient_mean_abs", [np.abs(g).mean() for g in kernels]),
            (layers, "gradient_norm", [np.linalg.norm(g) for g in kernels]),
            (layers, "gradient_clipped_mean_abs", [clipping * np.abs(g).mean() for g in kernels]),
            (layers, "gradient_clipped_norm", [clipping * np.linalg.norm(g) for g in kernels]),
            (layers, "weight_mean", [w.mean() for w in weights]),
            (layers, "weight_std", [w.std() for w in weights]),
            (layers, "weight_norm", [np.linalg.norm(w) for w in weights]),
            (layers, "backpropagated_rms", [twins.rms(d) for d in to_sums]),
            (signals, "activation_gradient_rms", [twins.rms(d) for d in to_outputs]),
            (signals, "activation_slope", [s.mean() for s in slopes]),
            (signals, "activation_mean", [o.mean() for o in outputs[1:-1]]),
            (signals, "activation_std", [o.std() for o in outputs[1:-1]]),
        ]:
            # A mean close to zero has the error of the single values, so `atol` is needed.
            np.testing.assert_allclose(measured[key], twin, rtol=1e-4, atol=1e-6, err_msg=key)
        for key in ("gradient_zeros", "gradient_nonfinite_share", "weight_nonfinite"):
            assert not layers[key].any()
        for layer, (values, output) in enumerate(zip(sums[:-1], outputs[1:-1], strict=True)):
            for key, twin in [("activation_inputs", values), ("activations", output)]:
                histogram = signals[key]
                theirs = twins.histogram(twin)
                assert histogram["min"][layer] == pytest.approx(twin.min(), rel=1e-4)
                assert histogram["max"][layer] == pytest.approx(twin.max(), rel=1e-4)
                assert histogram["counts"][layer].sum() == twin.size
                # In float32, a value at the edge of a bucket may fall into the next one.
                off = np.cumsum(histogram["counts"][layer]) - np.cumsum(theirs[:, 2])
                assert np.abs(off).max() <= 1
        kernels_of[step] = block.kernels
        for name, kernel in zip(names, weights, strict=True):
            np.testing.assert_array_equal(block.kernels[name], kernel)
    assert not np.array_equal(kernels_of[0]["layer1"], kernels_of[9]["layer1"])


def test_measures_of_a_full_record_are_consistent(full):
    (_, layers), (_, signals) = full.advance(5, record=True).tables
    sizes = [np.prod(layer.kernel.shape) for layer in full.model.dense_layers]
    for of in ("gradient", "weight"):
        mean_square = layers[f"{of}_mean"] ** 2 + layers[f"{of}_std"] ** 2
        np.testing.assert_allclose(layers[f"{of}_norm"] ** 2, mean_square * sizes, rtol=1e-5)
    # tanh' = 1 - tanh^2, so the mean slope follows from the outputs' mean and std.
    mean_square = signals["activation_mean"] ** 2 + signals["activation_std"] ** 2
    np.testing.assert_allclose(signals["activation_slope"], 1 - mean_square, rtol=1e-5)
    # A slope of at most 1 does not enlarge a gradient.
    assert (layers["backpropagated_rms"][:-1] < signals["activation_gradient_rms"]).all()


def test_the_chain_rule_holds_exactly_for_layers_of_one_unit():
    """With one unit per layer and one example, no measure is an average."""
    model = Model(3, 2, "parametric_relu", 5, 1, "he_normal", seed=4, output="sigmoid")
    trainer = Trainer(model, keras.optimizers.SGD(0.5), POINTS, 1, seed=1, full=True)
    found = set()
    for _ in range(6):
        alphas = [layer.get_weights()[0][0] for layer in model.activation_layers]
        block = trainer.advance(1, record=True)
        (_, layers), (_, signals) = block.tables
        weights = [abs(block.kernels[f"layer{number}"][0, 0]) for number in range(2, 6)]
        to_sums, slopes = layers["backpropagated_rms"], signals["activation_slope"]
        to_outputs = signals["activation_gradient_rms"]
        np.testing.assert_allclose(to_outputs, weights * to_sums[1:], rtol=1e-5)
        np.testing.assert_allclose(to_sums[:-1], np.abs(slopes) * to_outputs, rtol=1e-5)
        chain = np.prod(weights) * np.prod(np.abs(slopes)) * to_sums[-1]
        assert to_sums[0] == pytest.approx(chain, rel=1e-4)
        for slope, alpha in zip(slopes, alphas, strict=True):
            assert slope in (1, alpha)
            found.add(slope == 1)
    assert found == {True, False}
    assert any(alpha != 0.25 for alpha in alphas)


def test_partial_batches_train_as_in_keras(full):
    twin = keras_twin(full, make_optimizer(CLIPPED))
    assert_trains_as(twin, full, POINTS, steps=10, partial=True)


def test_full_records_of_partial_batches_do_not_depend_on_the_length_of_blocks(full):
    last = full.advance(15, record=True)
    whole = full.model.get_weights()
    full.restart(make_model(POINTS, output="sigmoid"), make_optimizer(CLIPPED), seed=1)
    for steps, record in [(1, True), (4, False), (1, True), (8, False)]:
        full.advance(steps, record)
    assert_equal_to_the_bit(full.advance(1, record=True), last)
    assert_equal_to_the_bit(full.model.get_weights(), whole)


def test_full_records_do_not_change_the_training(full):
    full.advance(10, record=False)
    unrecorded = full.model.get_weights()
    full.restart(make_model(POINTS, output="sigmoid"), make_optimizer(CLIPPED), seed=1)
    for _ in range(10):
        full.advance(1, record=True)
    assert_equal_to_the_bit(full.model.get_weights(), unrecorded)


def test_a_program_with_full_records_trains_like_one_without(full):
    """XLA compiles two programs, which may differ in the last bits of float32."""
    optimizer = make_optimizer(CLIPPED)
    default = make_trainer(POINTS, optimizer, output="sigmoid", partial_batches=True)
    for steps in (1, 4, 15):
        ours, theirs = full.advance(steps, record=True), default.advance(steps, record=True)
        assert ours[:3] == pytest.approx(theirs[:3], rel=1e-5)
        assert theirs.kernels == {}
        layers, hidden = (part for _, part in theirs.tables)
        assert set(hidden) == {"units_dead", "units_saturated"}
        for key in ("gradient_mean_abs", "gradient_nonfinite", "update_ratio"):
            np.testing.assert_allclose(ours.tables[0][1][key], layers[key], rtol=1e-4)
        for key, shares in hidden.items():
            np.testing.assert_array_equal(ours.tables[1][1][key], shares)
    for one, other in zip(full.model.get_weights(), default.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "normalization"), [("adam", "batch"), ("schedulefreeadamw", "none")]
)
def test_a_restarted_trainer_equals_a_new_one(name, normalization):
    fast = Scenario(optimizer=name, learning_rate=0.1)
    slow = dataclasses.replace(fast, learning_rate=0.01)
    arguments = {"num_layers": 2, "normalization": normalization}
    used = make_trainer(POINTS, make_optimizer(fast), **arguments)
    used.advance(17, record=True)
    used.restart(make_model(POINTS, seed=2, **arguments), make_optimizer(slow), seed=3)
    model = make_model(POINTS, seed=2, **arguments)
    fresh = Trainer(model, make_optimizer(slow), POINTS, BATCH, seed=3)
    assert_equal_to_the_bit(used.model.get_weights(), model.get_weights())
    for steps in (1, 19):
        assert used.steps_done == fresh.steps_done
        assert_equal_to_the_bit(used.advance(steps, True), fresh.advance(steps, True))
        assert_equal_to_the_bit(used.model.get_weights(), fresh.model.get_weights())
        states = [[v.numpy() for v in t.optimizer.variables] for t in (used, fresh)]
        assert_equal_to_the_bit(*states)
    assert float(used.optimizer.learning_rate) == np.float32(0.01)
    assert used.evaluate(POINTS) == fresh.evaluate(POINTS)


def test_a_network_of_one_layer_records_no_hidden_signals():
    trainer = make_trainer(POINTS, output="sigmoid", num_layers=1, full=True)
    before = parameters(trainer)
    [(names, layers)] = trainer.advance(1, record=True).tables
    assert names == ["layer1"]
    [to_logits] = twins.signals(before, *batch(POINTS, 0), "tanh")[1]
    np.testing.assert_allclose(layers["backpropagated_rms"], [twins.rms(to_logits)], rtol=1e-5)


@pytest.mark.parametrize("stretch", [1, 3000])
def test_loss_and_accuracy_of_one_logit_equal_numpys(full, stretch):
    """The loss is right even for stretched logits, whose exponential overflows."""
    full.advance(5, record=False)
    *hidden, kernel, bias = full.model.get_weights()
    full.model.set_weights([*hidden, stretch * kernel, stretch * bias])
    weights = parameters(full)
    logits = twins.forward(weights, POINTS.inputs, "tanh")[1][-1]
    assert (np.abs(logits).max() > 1000) == (stretch > 1)
    loss, accuracy = full.evaluate(POINTS)
    assert loss == pytest.approx(
        twins.cross_entropy(weights, POINTS.inputs, POINTS.labels, "tanh"), rel=1e-5
    )
    assert accuracy == pytest.approx(
        twins.accuracy(weights, POINTS.inputs, POINTS.labels, "tanh"), rel=1e-6
    )
    assert 0 < accuracy < 1


def test_probability_is_of_the_second_class(full):
    two_logits = make_trainer(POINTS)
    ours = [trainer.probability(POINTS.inputs) for trainer in (full, two_logits)]
    one, two = (
        twins.forward(parameters(t), POINTS.inputs, "tanh")[1][-1] for t in (full, two_logits)
    )
    np.testing.assert_allclose(ours[0], 1 / (1 + np.exp(-one[:, 0])), rtol=1e-5)
    np.testing.assert_allclose(ours[1], 1 / (1 + np.exp(two[:, 0] - two[:, 1])), rtol=1e-5)


def test_the_final_weights_are_measured_after_the_last_step(full):
    block = full.advance(6, record=True)
    [(names, measured)], kernels = full.measures.weights()
    assert names == list(kernels) == ["layer1", "layer2", "layer3"]
    assert set(measured) == {
        *("weight_mean", "weight_std", "weight_norm", "weight_nonfinite", "weights")
    }
    for layer, dense in enumerate(full.model.dense_layers):
        kernel = np.float64(dense.kernel.numpy())
        np.testing.assert_array_equal(kernels[dense.name], kernel)
        assert not np.array_equal(kernel, block.kernels[dense.name])
        assert measured["weight_mean"][layer] == pytest.approx(kernel.mean(), abs=1e-6)
        assert measured["weight_std"][layer] == pytest.approx(kernel.std(), rel=1e-5)
        counts = measured["weights"]["counts"][layer]
        np.testing.assert_array_equal(counts, twins.histogram(kernel)[:, 2])
    # The next record has the same weights.
    following = full.advance(1, record=True)
    then = following.tables[0][1]
    np.testing.assert_allclose(then["weight_std"], measured["weight_std"], rtol=1e-6)
    assert_equal_to_the_bit(following.kernels, kernels)


# Theory at initialization. Each layer multiplies the variance of the back-propagated gradients by
# n Var(W) E[f'^2] (Glorot and Bengio 2010, eq. 6; He et al. 2015, eq. 14). Given the gradients
# above a layer, an example's gradients for the n units below it are n independent draws. So their
# variance has a relative standard error of sqrt(2 / n). More examples do not make it smaller,
# because they share the kernel. The tolerance is three standard errors per layer, and half of that
# for the geometric mean over four layers.
WIDTH = 1000
ALLOWED = 3 * np.sqrt(2 / WIDTH)


def layer_factors(rms):
    """The factors of the back-propagated gradients' variance, for hidden layers 1 to 4."""
    of_hidden = np.square(rms[:-1])
    return of_hidden[:-1] / of_hidden[1:]


def at_initialization(scenario):
    """From NumPy, for the first batch: rms of back-propagated gradients, and mean slopes."""
    digits = datasets.load(scenario.dataset)
    model = making.make_model(scenario, digits)
    weights = [np.float64(v.numpy()) for v in model.trainable_variables]
    [indices] = batch_indices(scenario.seed, 1297, scenario.batch_size, 0, 0)
    images, labels = digits.train.inputs[indices], digits.train.labels[indices]
    slopes, to_sums, _ = twins.signals(weights, images, labels, scenario.activation)
    return np.array([twins.rms(d) for d in to_sums]), np.array([s.mean() for s in slopes])


@pytest.fixture(scope="module")
def recorded_tanh():
    """The first records of tanh networks with 1,000 units per layer, from one trainer."""
    scenarios = {name: SCENARIOS[name] for name in ("standard", "normalized")}
    assert all((s.hidden_size, s.num_layers) == (WIDTH, 6) for s in scenarios.values())
    digits = datasets.load("digits")
    trainer, blocks = None, {}
    for name, scenario in scenarios.items():
        model, optimizer = making.make_model(scenario, digits), make_optimizer(scenario)
        if trainer is None:
            trainer = Trainer(model, optimizer, digits.train, 100, scenario.seed, full=True)
        else:
            trainer.restart(model, optimizer, scenario.seed)
        with without_xla():
            blocks[name] = trainer.advance(1, record=True)
    return blocks


@pytest.mark.parametrize(("name", "n_variance"), [("standard", 1 / 3), ("normalized", 1)])
def test_gradient_variances_of_tanh_networks_equal_glorots_and_bengios(
    recorded_tanh, name, n_variance
):
    (_, layers), (_, signals) = recorded_tanh[name].tables
    np.testing.assert_allclose(
        WIDTH * layers["weight_std"][1:-1] ** 2,
        n_variance,
        rtol=0.01,  # From a million weights, so this error is negligible below.
    )
    factors, slopes = layer_factors(layers["backpropagated_rms"]), signals["activation_slope"][:-1]
    # With 0 < f' <= 1, E[f']^2 <= E[f'^2] <= E[f'].
    assert (factors >= n_variance * slopes**2 * (1 - ALLOWED)).all()
    assert (factors <= n_variance * slopes * (1 + ALLOWED)).all()
    # With slopes of nearly 1, the layer is almost linear, and its factor is n Var(W).
    linear = slopes**2 > 0.95
    assert linear.sum() >= 2
    np.testing.assert_allclose(factors[linear], n_variance, rtol=ALLOWED + 0.05)
    mean = np.exp(np.log(factors / slopes**1.5).mean())
    assert mean == pytest.approx(n_variance, rel=ALLOWED / 2)


def test_a_record_of_a_wide_network_equals_numpys(recorded_tanh):
    for name, block in recorded_tanh.items():
        rms, slopes = at_initialization(SCENARIOS[name])
        (_, layers), (_, signals) = block.tables
        np.testing.assert_allclose(layers["backpropagated_rms"], rms, rtol=1e-4)
        np.testing.assert_allclose(signals["activation_slope"], slopes, rtol=1e-4)
        assert block.kernels == {}  # None is tiny.


@pytest.mark.parametrize(("name", "n_variance"), [("normalized-relu", 1), ("he-relu", 2)])
def test_gradient_variances_of_relu_networks_equal_hes(name, n_variance):
    rms, slopes = at_initialization(SCENARIOS[name])
    factors = layer_factors(rms)
    # A slope is 0 or 1, so E[f'^2] = E[f']. Only half of the units have a gradient.
    np.testing.assert_allclose(factors, n_variance * slopes[:-1], rtol=np.sqrt(2) * ALLOWED)
    # That half, m, is random as well, so 2 becomes E[m g^4] / E[m g^2]^2 - 1 = 5.
    mean = np.exp(np.log(factors).mean())
    assert mean == pytest.approx(n_variance / 2, rel=3 * np.sqrt(5 / WIDTH) / 2)


def test_a_sigmoid_layer_passes_on_at_most_a_quarter():
    scenario = dataclasses.replace(SCENARIOS["normalized"], activation="sigmoid")
    rms, slopes = at_initialization(scenario)
    # Factors of the rms. n Var(W) is 1. The relative error of a root is half as large.
    factors = np.sqrt(layer_factors(rms))
    assert (factors <= 1 / 4 * (1 + ALLOWED / 2)).all()
    assert (factors >= slopes[:-1] * (1 - ALLOWED / 2)).all()
    assert rms[0] / rms[4] <= (1 / 4) ** 4 * (1 + ALLOWED)
