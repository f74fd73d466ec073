"""Sparse gradients: measured without being made dense, with the numbers of the dense ones."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mnist_vg import GradientLogger, Run
from mnist_vg.recording import probe as probe_module
from mnist_vg.recording.probe import Probe

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 6, 3
TALL = 100_000
MANY = RNG.normal(size=(90_000, WIDTH)) + 0.5
CASES = {
    "few rows": ([3, 1], MANY[:2]),
    "more slices than rows": (RNG.integers(0, 4, 40), MANY[:40]),
    "every row": ([2, 0, 4, 1, 5, 3], np.abs(MANY[:6]) + 1),
    "slices that cancel": ([1, 1], [[1, 2, 3], [-1, -2, -3]]),
    "no slice": (np.zeros(0, int), np.zeros((0, WIDTH))),
    "not finite": ([1, 2, 2], [[1, 2, 3], [np.nan, 0, 1], [1, np.inf, 1]]),
    "a sample": (RNG.permutation(TALL)[:90_000], MANY),
}
"""Slices of a table's gradient: indices and values. The one with a sample is TALL."""
WAYS = {"eager": None, "graph": False, "XLA": True}


def measure(gradient, height, way="eager"):
    """A full record's numbers by tag. In a graph the number of slices is unknown."""
    probe = Probe(None, "", histograms=True, full=True)
    variables = [
        tf.Variable(tf.ones(shape), name=f"{name}/kernel")
        for name, shape in {"first": [2, 2], "table": [height, WIDTH], "last": [4]}.items()
    ]

    def step(gradient):
        gradients = [tf.ones([2, 2]), gradient, tf.fill([4], 7.0)]
        return probe.measure(gradients, variables, gradients)

    if WAYS[way] is not None:
        spec = tf.IndexedSlicesSpec([height, WIDTH], tf.float32, tf.int64, tf.int64, [None])
        step = tf.function(step, autograph=False, jit_compile=WAYS[way], input_signature=[spec])
    [(layers, table)] = probe.tables(step(gradient))
    assert layers == ("first", "table", "last")
    return table


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *[(name, way) for name in CASES for way in ("eager", "graph")],
        ("more slices than rows", "XLA"),
    ],
)
def test_a_sparse_gradient_gives_the_numbers_of_the_same_one_made_dense(name, way, monkeypatch):
    monkeypatch.setattr(probe_module, "LARGE", 0)  # Small ones are made dense.
    height = TALL if name == "a sample" else HEIGHT
    indices, values = CASES[name]
    indices, values = tf.constant(indices, tf.int64), tf.constant(values, tf.float32)
    sparse = tf.IndexedSlices(values, indices, tf.constant([height, WIDTH], tf.int64))
    got = measure(sparse, height, way)
    expected = measure(tf.math.unsorted_segment_sum(values, indices, height), height)
    assert set(got) == set(expected)
    for tag, numbers in expected.items():
        if not isinstance(numbers, dict):
            np.testing.assert_allclose(got[tag], numbers, rtol=2e-5, atol=1e-7, err_msg=tag)
            continue
        for part in ("min", "max"):
            np.testing.assert_allclose(got[tag][part], numbers[part], rtol=1e-6, err_msg=tag)
        # Two samples of 2**16 values: five standard errors of a share.
        near = 5 * (2 / 4 / 2**16) ** 0.5 * height * WIDTH if name == "a sample" else 0
        np.testing.assert_allclose(got[tag]["counts"], numbers["counts"], rtol=1e-9, atol=near)


def test_default_and_full_records_of_a_large_table_agree(tmp_path):
    """Also with the tape's own gradient, made dense."""
    words = RNG.integers(0, 20_000, (64, 5))
    labels = RNG.integers(0, 4, 64)
    histories = {}
    for measures in ("default", "full"):
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Embedding(20_000, 16, name="table"), keras.layers.Flatten()]
        model = keras.Sequential([keras.Input((5,)), *layers, keras.layers.Dense(4, name="head")])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss, jit_compile=False)
        before = [v.numpy() for v in model.trainable_variables]
        with tf.GradientTape() as tape:
            value = loss(labels[:32], model(words[:32]))
        gradients = tape.gradient(value, model.trainable_variables)
        logger = GradientLogger(tmp_path / measures, every=1, measures=measures)
        options = {"batch_size": 32, "shuffle": False, "verbose": 0}
        model.fit(words, labels, callbacks=[logger], **options)
        histories[measures] = Run.load(tmp_path / measures).history
    default, full = histories["default"], histories["full"]
    for tag in set(default) - {"step", "layers"}:
        np.testing.assert_allclose(default[tag], full[tag], rtol=1e-5, err_msg=tag)
    table = tf.convert_to_tensor(gradients[0]).numpy()
    expected = {
        "gradient_norm": np.linalg.norm(table),
        "gradient_mean_abs": np.abs(table).mean(),
        "weight_norm": np.linalg.norm(before[0]),
    }
    for tag, number in expected.items():
        assert default[tag][0, 0] == pytest.approx(number, rel=1e-5), tag
    for tag, values in {"gradients": table, "weights": before[0]}.items():
        buckets = default[tag][0, 0]
        assert buckets[0, 0] == pytest.approx(values.min(), rel=1e-6)
        assert buckets[-1, 1] == pytest.approx(values.max(), rel=1e-6)
        assert buckets[:, 2].sum() == pytest.approx(values.size)
