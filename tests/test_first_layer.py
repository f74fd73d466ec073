"""The measurements behind the page on layer 1."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from mnist_vg import Model
from mnist_vg.datasets import Split

sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))

import first_layer


def test_all_of_a_product_of_two_vectors_lies_on_a_line():
    assert first_layer.on_a_line(np.outer([1, 2, 3], [4, -5])) == pytest.approx(1)
    assert first_layer.on_a_line(np.eye(5)) == pytest.approx(1 / 5)


def test_the_pull_of_the_examples_makes_up_the_gradient_of_the_first_kernel():
    model = Model(6, 3, "sigmoid", num_layers=3, hidden_size=4, seed=0)
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 256, (20, 6), np.uint8)
    examples = Split(inputs, rng.integers(0, 3, 20).astype(np.int32))
    pixels = inputs / np.float32(255)
    with tf.GradientTape() as tape:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(examples.labels, model(pixels))
    gradient = tape.gradient(losses, model.dense_layers[0].kernel)
    pull = first_layer.pull(model, examples)
    np.testing.assert_allclose(pixels.T @ pull, gradient, rtol=1e-4, atol=1e-6)


def test_neighbours_of_the_plan_share_a_compiled_program():
    scenarios = list(first_layer.plan(seeds=2, iterations=100, num_layers=6))
    structures = [scenario.structure() for scenario in scenarios]
    changes = sum(a != b for a, b in itertools.pairwise(structures))
    assert changes + 1 == len(set(structures)) == 6
    assert len({scenario.name for scenario in scenarios}) == len(scenarios)
