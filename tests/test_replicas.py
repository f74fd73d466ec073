"""Networks that train together against the same networks, trained one by one in eager Keras."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import twins
from keras.src.optimizers import ALL_OBJECTS_DICT

from mnist_vg import datasets
from mnist_vg.scenarios.scenario import OPTIMIZERS, Scenario
from mnist_vg.training import stacked_model as stacked
from mnist_vg.training.batches import batch_indices
from mnist_vg.training.build import make_model, make_optimizer
from mnist_vg.training.group_trainer import GroupTrainer, draws
from mnist_vg.training.stacked_model import StackedDeep, StackedModel

DIGITS = Scenario(
    dataset="digits",
    batch_size=20,
    num_layers=3,
    activation="tanh",
    optimizer="sgd",
    momentum=0.9,
    data_seed=7,
    bias_initializer="random_normal(stddev=0.1)",
)

CASES = {
    "tanh, histograms": DIGITS,
    "a loop, partial batches": dataclasses.replace(
        DIGITS, num_layers=7, activation="relu", batch_size=500, partial_batches=True
    ),
    "softmax, batch normalization": dataclasses.replace(
        DIGITS, activation="softmax", normalization="batch"
    ),
    "layer normalization, skips, one logit": dataclasses.replace(
        DIGITS,
        dataset="circles",
        normalization="layer",
        skip_connections=True,
        output="sigmoid",
    ),
    "parametric, sigmoid twice": dataclasses.replace(
        DIGITS, dataset="circles", activation="parametric_relu", output="sigmoid_twice"
    ),
    "one layer, clipped": dataclasses.replace(DIGITS, num_layers=1),
}
"""Structures that together use every part of stacked networks."""


def variants(case):
    """Three networks of the same structure that differ in everything that may differ."""
    own = [
        {"learning_rate": 0.02},
        {
            "learning_rate": 0.005,
            "kernel_initializer": "random_normal(stddev=0.6)",
            "output_initializer": "he_normal",
        },
        {"learning_rate": 0.001, "kernel_initializer": "he_normal", "shared_initializer": True},
    ]
    if "clipped" in case:
        own = [each | {"global_clipnorm": c} for each, c in zip(own, (None, 0.5, 9), strict=True)]
    return [dataclasses.replace(CASES[case], seed=n, **changes) for n, changes in enumerate(own)]


@functools.cache
def compiled(case):
    """The trainer of a structure, shared by all tests, because compiling is slow."""
    scenarios = variants(case)
    dataset = datasets.load(scenarios[0].dataset)
    return GroupTrainer(scenarios, dataset, histograms="histograms" in case)


@pytest.fixture(autouse=True)
def deep_from_seven_layers_on(monkeypatch):
    monkeypatch.setattr(stacked, "DEEP", 7)


class Twin:
    """A single network, trained step by step in eager mode."""

    def __init__(self, scenario):
        self.scenario, self.dataset = scenario, datasets.load(scenario.dataset)
        self.model = make_model(scenario, self.dataset)
        hidden = [layer.output for layer in self.model.activation_layers]
        self.outputs = keras.Model(self.model.input, [self.model.output, *hidden])
        self.optimizer = make_optimizer(scenario)
        self.kernels = [layer.kernel for layer in self.model.dense_layers]
        self.step = 0

    def batch(self):
        examples, size = self.dataset.train, self.scenario.batch_size
        partial, step = self.scenario.partial_batches, self.step
        [rows] = batch_indices(
            self.scenario.batch_seed, len(examples.labels), size, step, step, partial
        )
        steps = -(-len(examples.labels) // size)
        if partial and (step + 1) % steps == 0:
            rows = rows[: len(examples.labels) - (steps - 1) * size]
        return examples.inputs[rows], examples.labels[rows]

    def gradients(self):
        """Gradients, loss, accuracy and outputs of activations, for this step's batch."""
        inputs, labels = self.batch()
        with tf.GradientTape() as tape:
            logits, *hidden = tf.nest.flatten(self.outputs(inputs, training=True))
            if logits.shape[-1] == 1:
                loss = tf.nn.sigmoid_cross_entropy_with_logits(np.float32(labels), logits[:, 0])
            else:
                loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(loss)
        gradients = tape.gradient(loss, self.model.trainable_variables)
        return gradients, float(loss), accuracy(logits.numpy(), labels), hidden

    def train(self):
        """Train one step, and return its record."""
        gradients, loss, right, hidden = self.gradients()
        variables = self.model.trainable_variables
        of_kernels = {id(v): g.numpy() for v, g in zip(variables, gradients, strict=True)}
        of_kernels = [of_kernels[id(kernel)] for kernel in self.kernels]
        before = [kernel.numpy() for kernel in self.kernels]
        self.optimizer.apply(gradients, variables)
        self.step += 1
        moved = [kernel.numpy() - old for kernel, old in zip(self.kernels, before, strict=True)]
        norms = [[np.linalg.norm(each) for each in part] for part in (of_kernels, before, moved)]
        limits = [limits_of(layer) for layer in self.model.activation_layers]
        return {
            "loss": loss,
            "accuracy": right,
            "gradient_mean_abs": [np.abs(each).mean() for each in of_kernels],
            "gradient_norm": norms[0],
            "weight_norm": norms[1],
            "update_ratio": np.divide(norms[2], norms[1]),
            "gradient_nonfinite": np.zeros(len(before)),
            "weight_nonfinite": np.zeros(len(before)),
            "units_dead": [(np.array(values) == 0).all(axis=0).mean() for values in hidden],
            "units_saturated": [saturated(*each) for each in zip(hidden, limits, strict=True)],
        }

    def evaluate(self):
        examples = self.dataset.test
        logits = self.model(examples.inputs, training=False).numpy()
        losses, _ = twins.losses(logits, examples.labels)
        return losses.mean(), accuracy(logits, examples.labels)


def limits_of(layer):
    known = {keras.activations.tanh: (-1, 1), keras.activations.sigmoid: (0, 1)}
    return known.get(getattr(layer, "activation", None))


def accuracy(logits, labels):
    answers = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(axis=1)
    return (answers == labels).mean()


def saturated(values, limits):
    """The share of units that are, for most examples, closer to an end than tanh(2.5) is to 1."""
    if limits is None:
        return 0
    low, high = limits
    scaled = (np.array(values) - low) / (high - low) * 2 - 1
    return ((np.abs(scaled) >= np.tanh(2.5)).mean(axis=0) > 0.5).mean()


def of_network(model, number, networks=3):
    """The trained values of one stacked network, in the order of the single network."""
    found = []
    for layer in model.layers:
        own = [variable.numpy() for variable in layer.trainable_variables]
        # The variables of normalizations hold the units of all networks in one row.
        own = [v.reshape(networks, -1) if v.ndim == 1 else v for v in own]
        own = [v[..., number, :] for v in own]
        if isinstance(layer, StackedDeep):
            own = [part for pair in zip(*own, strict=True) for part in pair]
        found += own
    return found


def as_stacked(model, values):
    """The values of a single network, with their elements in the order of a stacked one."""
    first = id(model.dense_layers[0].kernel)
    values = [value.numpy() for value in values]
    positions = [id(variable) == first for variable in model.trainable_variables]
    return [(v.T if p else v).ravel() for v, p in zip(values, positions, strict=True)]


def assert_equal_to_the_bit(one, other):
    for ours, theirs in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("case", CASES)
def test_a_replica_has_the_gradients_of_the_single_network(case):
    # With so large a learning rate, a step moves the weights by so much that their old values do
    # not round the gradient. It is a power of two, so that dividing by it is exact.
    rate = 2.0**12
    scenarios = [
        dataclasses.replace(s, learning_rate=rate, global_clipnorm=None) for s in variants(case)
    ]
    group = compiled(case)
    group.begin(scenarios)
    before = [of_network(group.model, number) for number in range(3)]
    group.advance(1, record=False)
    for number, scenario in enumerate(scenarios):
        twin = Twin(scenario)
        alone = as_stacked(twin.model, twin.gradients()[0])
        largest = [np.abs(gradient).max() for gradient in alone]
        after = of_network(group.model, number)
        for i, (old, new, gradient) in enumerate(zip(before[number], after, alone, strict=True)):
            # An element may be close to zero because large terms cancel. Then its rounding error
            # is relative to the other elements; for a bias before batch normalization, to the
            # neighbouring variables.
            near_zero = 1e-6 * max(largest[max(0, i - 1) : i + 2])
            np.testing.assert_allclose((old - new) / rate, gradient, rtol=1e-5, atol=near_zero)


@pytest.mark.parametrize("case", CASES)
def test_a_replica_trains_like_the_single_network(case):
    scenarios = variants(case)
    group = compiled(case)
    group.begin(scenarios)
    blocks = [group.advance(1, record=True), group.advance(2, record=True)]
    scores = group.evaluate(datasets.load(scenarios[0].dataset).test)
    for number, scenario in enumerate(scenarios):
        twin = Twin(scenario)
        alone = [twin.train() for _ in range(3)]
        for block, expected in zip(blocks, (alone[0], alone[2]), strict=True):
            found = {"loss": np.array(block.loss), "accuracy": np.array(block.accuracy)}
            for _, table in block.tables:
                found |= {key: part for key, part in table.items() if not isinstance(part, dict)}
            assert {*found} >= {key for key, values in expected.items() if np.size(values)}
            for key, values in found.items():
                # Errors do not grow in three steps at these rates. A small update is a difference
                # of nearly equal weights, so it is less accurate.
                rtol = 1e-4 if key == "update_ratio" else 1e-5
                np.testing.assert_allclose(values[..., number], expected[key], rtol, err_msg=key)
        after = as_stacked(twin.model, twin.model.trainable_variables)
        for mine, theirs in zip(of_network(group.model, number), after, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose([s[number] for s in scores], twin.evaluate(), rtol=1e-5)


def test_a_replica_has_the_histograms_of_the_single_network():
    scenarios = variants("tanh, histograms")
    group = compiled("tanh, histograms")
    group.begin(scenarios)
    [(_, layers), _] = group.advance(1, record=True).tables
    for number, scenario in enumerate(scenarios):
        twin = Twin(scenario)
        of_kernels = twin.gradients()[0][::2]
        for key, tensors, moved in (("weights", twin.kernels, 0), ("gradients", of_kernels, 4)):
            for layer, tensor in enumerate(tensors):
                found = {name: part[layer, number] for name, part in layers[key].items()}
                expected = twins.histogram(tensor)
                edges = expected[0, 0], expected[-1, 1]
                np.testing.assert_allclose((found["min"], found["max"]), edges, rtol=1e-5)
                # A gradient with another rounding error may fall into the next bucket.
                assert np.abs(found["counts"] - expected[:, 2]).sum() <= moved


def poison(model, number, networks=3):
    """Set every value of one network to NaN."""
    for variable in model.trainable_variables:
        values = variable.numpy()
        by_network = values.reshape(networks, -1) if values.ndim == 1 else values  # a view
        by_network[..., number, :] = np.nan
        variable.assign(values)


def told(group, examples):
    """Records, scores and weights of each network after three steps."""
    blocks = [group.advance(steps, record=True) for steps in (1, 2)]
    tables = [table for block in blocks for _, table in block.tables]
    numbers = [part for block in blocks for part in (block.loss, block.accuracy)]
    return [
        [
            [part[:, number] for part in tf.nest.flatten(tables)],
            [part[number] for part in (*numbers, *group.evaluate(examples))],
            of_network(group.model, number),
        ]
        for number in range(3)
    ]


@pytest.mark.parametrize("case", CASES)
def test_a_replica_of_nan_does_not_change_the_others(case):
    group, examples = compiled(case), datasets.load(CASES[case].dataset).test
    group.begin(variants(case))
    healthy = told(group, examples)
    group.begin(variants(case))
    poison(group.model, 1)
    sick = told(group, examples)
    assert_equal_to_the_bit(healthy[0], sick[0])
    assert_equal_to_the_bit(healthy[2], sick[2])
    assert all(np.isnan(values).all() for values in sick[1][-1])


def elementwise():
    return sorted(set(OPTIMIZERS) & set(ALL_OBJECTS_DICT) - {"muon", "adafactor"})


@pytest.mark.parametrize("name", elementwise())
@pytest.mark.parametrize("shape", [(3, 8), (2, 3, 8)])
def test_an_optimizer_updates_stacked_values_like_separate_ones(name, shape):
    group, rng = compiled("tanh, histograms"), np.random.default_rng(0)
    scenarios = variants("tanh, histograms")
    scenarios = [dataclasses.replace(s, learning_rate=20 * s.learning_rate) for s in scenarios]
    group.begin(scenarios)  # Sets the learning rates.
    scenarios = [dataclasses.replace(s, optimizer=name, momentum=None) for s in scenarios]
    values, *gradients = rng.normal(size=(4, *shape)).astype(np.float32)
    values /= 100  # Small updates of large values would be lost to rounding.
    stacked = keras.Variable(values)
    optimizer = group._make_optimizer(scenarios[0])
    optimizer.build([stacked])
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient)], [stacked])
    for number, scenario in enumerate(scenarios):
        alone, own = keras.Variable(values[..., number, :]), make_optimizer(scenario)
        for gradient in gradients:
            own.apply([tf.constant(gradient[..., number, :])], [alone])
        np.testing.assert_allclose(stacked.numpy()[..., number, :], alone, 1e-6, 1e-9)
        assert np.abs(alone.numpy() - values[..., number, :]).max() > 1e-5


def test_a_norm_that_overflows_is_clipped_as_in_keras():
    group, scenarios = compiled("one layer, clipped"), variants("one layer, clipped")
    group.begin(scenarios)
    values = [variable.numpy() for variable in group.model.trainable_variables]
    gradients = [np.full_like(value, 1e25) for value in values]
    group._apply([tf.constant(gradient) for gradient in gradients])
    stacked = [variable.numpy() for variable in group._packing.variables]
    for number, scenario in enumerate(scenarios):
        alone, own = [keras.Variable(each[number]) for each in values], make_optimizer(scenario)
        own.apply([tf.constant(each[number]) for each in gradients], alone)
        for ours, theirs in zip(stacked, alone, strict=True):
            np.testing.assert_allclose(ours[number], theirs, rtol=1e-6)
        assert np.isnan(alone[0].numpy()).all() == (scenario.global_clipnorm is not None)


@pytest.mark.parametrize("activation", ["tanh", "leaky_relu", "softmax"])
def test_a_loop_of_layers_equals_the_separate_layers(activation, monkeypatch):
    scenario = dataclasses.replace(DIGITS, num_layers=7, activation=activation)
    dataset, outcomes = datasets.load("digits"), []
    for deep in (7, 8):
        monkeypatch.setattr(stacked, "DEEP", deep)
        model = StackedModel(scenario, dataset, 3)
        assert (model.deep is None) == (deep == 8)
        model.set_draws([draws(each) for each in variants("a loop, partial batches")])
        with tf.GradientTape() as tape:
            logits = model(dataset.train.inputs[:20], training=True)
            loss = tf.reduce_sum(tf.sin(logits))
        for layer, gradient in zip(
            flat := model.trainable_variables, tape.gradient(loss, flat), strict=True
        ):
            layer.assign(gradient)
        outcomes.append([logits, *[v for n in range(3) for v in of_network(model, n)]])
    for looped, unrolled in zip(*outcomes, strict=True):
        scale = np.abs(unrolled).max()
        np.testing.assert_allclose(looped, unrolled, rtol=1e-5, atol=1e-6 * scale)


def test_a_restarted_group_equals_a_new_one():
    case = "softmax, batch normalization"
    used = compiled(case)
    used.begin(variants(case))
    used.advance(7, record=True)
    others = [
        dataclasses.replace(scenario, seed=10 + n, learning_rate=0.1 * (n + 1), data_seed=8)
        for n, scenario in enumerate(reversed(variants(case)))
    ]
    used.begin(others)
    dataset = datasets.load("digits")
    fresh = GroupTrainer(others, dataset)
    for steps in (1, 4):
        assert_equal_to_the_bit(used.model.get_weights(), fresh.model.get_weights())
        assert_equal_to_the_bit(used.advance(steps, True), fresh.advance(steps, True))
        states = [[v.numpy() for v in group.optimizer.variables] for group in (used, fresh)]
        assert_equal_to_the_bit(*states)
    assert_equal_to_the_bit(used.evaluate(dataset.test), fresh.evaluate(dataset.test))


def test_a_program_without_clipping_refuses_a_network_with_clipping():
    group, scenarios = compiled("tanh, histograms"), variants("tanh, histograms")
    scenarios[1] = dataclasses.replace(scenarios[1], global_clipnorm=0.5)
    with pytest.raises(ValueError, match="global_clipnorm"):
        group.begin(scenarios)
