import keras
import numpy as np
import pytest
import tensorflow as tf
import twins
from keras.src.optimizers import ALL_OBJECTS_DICT

from mnist_vg import Model, Scenario, packing
from mnist_vg.datasets import Split
from mnist_vg.scenarios import OPTIMIZERS
from mnist_vg.training import Trainer, batch_indices, make_optimizer, run_blocks

BATCH = 30


def make_split(examples=200, pixels=12, labels=4, seed=0):
    rng = np.random.default_rng(seed)
    return Split(
        rng.integers(0, 256, (examples, pixels), np.uint8),
        rng.integers(0, labels, examples, np.int32),
    )


def make_trainer(split, optimizer=None, **arguments):
    settings = {"activation": "tanh", "num_layers": 3, "hidden_size": 5, "seed": 1, **arguments}
    model = Model(split.inputs.shape[1], int(split.labels.max()) + 1, **settings)
    return Trainer(model, optimizer or keras.optimizers.Adam(), split, BATCH, seed=1)


def parameters(trainer):
    return [np.float64(v.numpy()) for v in trainer.model.trainable_variables]


def batch(split, step, seed=1):
    [indices] = batch_indices(seed, len(split.labels), BATCH, step, step)
    return split.inputs[indices] / 255, split.labels[indices]


@pytest.mark.parametrize("activation", twins.SLOPES)
def test_the_twins_backprop_agrees_with_finite_differences(activation):
    split = make_split()
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=s) for s in [(12, 5), 5, (5, 5), 5, (5, 4), 4]]
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
def test_a_recorded_step_is_the_gradient_that_was_applied(mnist, activation):
    """On the real network: with SGD at rate 1 the weights move by the gradient itself."""
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
            # The difference of two float32 weights is known to a unit in their last place.
            np.testing.assert_allclose(moved_from - moved_to, gradient, atol=1e-3 * scale + 2e-7)
        kernels = gradients[::2]
        assert block.step == step
        assert block.loss == pytest.approx(
            twins.cross_entropy(before, images, labels, activation), rel=1e-5
        )
        measured = {
            key: tf.nest.map_structure(np.asarray, part) for key, part in block.measures.items()
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


def test_one_adam_step_is_numpys():
    split = make_split()
    trainer = make_trainer(split)
    before = parameters(trainer)
    trainer.advance(1, record=False)
    expected = twins.adam_step(before, twins.backprop(before, *batch(split, 0), "tanh"))
    for weights, twin in zip(parameters(trainer), expected, strict=True):
        np.testing.assert_allclose(weights, twin, atol=2e-7)


def keras_twin(trainer, optimizer):
    """The same network, trained by Keras' own loop on the same batches."""
    twin = keras.models.clone_model(trainer.model)
    twin.set_weights(trainer.model.get_weights())
    # Built in here: within a compiled function Keras 3.15 starts ScheduleFreeAdamW's
    # momentum from zero where it means to start it from the weights.
    optimizer.build(twin.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    twin.compile(optimizer, loss, jit_compile=False)
    return twin


def assert_trains_as(twin, trainer, split, steps):
    for step in range(steps):
        images, labels = batch(split, step)
        twin.train_on_batch(np.float32(images), labels)
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


def test_packing_changes_no_bit(monkeypatch):
    split = make_split()
    packed = make_trainer(split)
    monkeypatch.setattr(packing, "SMALL", 0)
    loose = make_trainer(split)
    packed.advance(20, record=True)
    loose.advance(20, record=True)
    for one, other in zip(parameters(packed), parameters(loose), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_numbers_do_not_depend_on_where_blocks_end():
    split = make_split()
    whole, pieces = make_trainer(split), make_trainer(split)
    last = whole.advance(47, record=True)
    for steps, record in [(1, True), (20, False), (5, True), (20, False)]:
        pieces.advance(steps, record)
    final = pieces.advance(1, record=True)
    assert final[:3] == last[:3]
    for one, other in zip(
        tf.nest.flatten(final.measures), tf.nest.flatten(last.measures), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(parameters(whole), parameters(pieces), strict=True):
        np.testing.assert_array_equal(one, other)


def test_records_are_due_at_every_interval_and_at_the_last_step():
    trainer = make_trainer(make_split())
    blocks = list(run_blocks(trainer, iterations=48, log_every=20))
    assert [block.step for block in blocks if block.measures is not None] == [0, 20, 40, 47]
    assert blocks[-1].step == 47
    assert trainer.steps_done == 48


def test_an_epoch_takes_every_example_once_and_the_next_in_another_order():
    stream = batch_indices(seed=3, examples=100, batch_size=30, first=0, last=9).ravel()
    epochs = stream.reshape(3, 100)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(100))
    assert not np.array_equal(epochs[0], epochs[1])
    later = batch_indices(seed=3, examples=100, batch_size=30, first=4, last=6).ravel()
    np.testing.assert_array_equal(later, stream[4 * 30 : 7 * 30])
    other = batch_indices(seed=4, examples=100, batch_size=30, first=0, last=9).ravel()
    assert not np.array_equal(stream, other)


def test_evaluation_leaves_no_example_out(monkeypatch):
    split = make_split(examples=203)
    trainer = make_trainer(split)
    loss, accuracy = trainer.evaluate(split)
    weights = parameters(trainer)
    images = split.inputs / 255
    assert loss == pytest.approx(twins.cross_entropy(weights, images, split.labels, "tanh"))
    logits = twins.forward(weights, images, "tanh")[1][-1]
    assert accuracy == pytest.approx((logits.argmax(axis=1) == split.labels).mean())
    monkeypatch.setattr("mnist_vg.training.EVALUATION_BATCH", 50)
    assert trainer.evaluate(split) == pytest.approx((loss, accuracy), rel=1e-6)


def test_an_explosion_is_counted_and_does_not_stop_the_training():
    split = make_split()
    trainer = make_trainer(split, keras.optimizers.SGD(1e30), activation="relu")
    block = trainer.advance(10, record=True)
    assert not np.isfinite(block.loss)
    assert block.measures["gradient_nonfinite"].any()
    assert block.measures["weight_nonfinite"].any()
    assert trainer.advance(1, record=False).step == 10
