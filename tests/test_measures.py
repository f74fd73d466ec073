import numpy as np
import pytest
import tensorflow as tf
import twins
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from mnist_vg import measures
from mnist_vg.summaries import _histogram_value

RNG = np.random.default_rng(0)
CASES = {
    "normal": RNG.normal(size=(7, 11)),
    "tiny": RNG.normal(size=500) * 1e-12,
    "wide": np.exp(RNG.normal(size=1000) * 10),
    "integers": RNG.integers(-3, 4, size=300),
    "on the edges": np.linspace(0, 3, 31),
    "all equal": np.full(17, 0.25),
    "one": np.array([3.5]),
}


@pytest.mark.parametrize("name", CASES)
def test_histograms_equal_tensorflows_to_the_last_bit(tmp_path, name):
    values = CASES[name].astype(np.float32)
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        tf.summary.histogram("theirs", values, step=0)
    reader = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    theirs = make_ndarray(reader.Tensors("theirs")[0].tensor_proto)

    compiled = tf.function(measures.histogram, jit_compile=True)
    measured = {key: part[0].numpy() for key, part in compiled(values.reshape(1, -1)).items()}
    np.testing.assert_array_equal(make_ndarray(_histogram_value("", **measured).tensor), theirs)


def test_histograms_equal_numpys_counts():
    values = CASES["normal"].astype(np.float32)
    measured = measures.histogram(values.reshape(1, -1))
    np.testing.assert_array_equal(measured["counts"][0], twins.histogram(values)[:, 2])


@pytest.mark.parametrize("bad", [[np.nan], [np.inf], [-np.inf, np.nan, np.inf]])
def test_what_is_not_finite_is_counted_and_kept_out_of_histograms(bad):
    finite = CASES["normal"].astype(np.float32).ravel()
    spoiled = np.concatenate([finite, np.float32(bad)])[np.newaxis]
    compiled = tf.function(measures.histogram, jit_compile=True)
    clean, dirty = compiled(finite[np.newaxis]), compiled(spoiled)
    for part in ("min", "max", "counts"):
        np.testing.assert_array_equal(dirty[part], clean[part])
    assert measures.nonfinite_count(spoiled).numpy() == [len(bad)]
    assert not np.isfinite(measures.mean_abs(spoiled).numpy()).all()


def test_a_tensor_without_a_finite_value_has_no_counts():
    compiled = tf.function(measures.histogram, jit_compile=True)
    assert not compiled(np.full((1, 5), np.nan, np.float32))["counts"].numpy().any()


def test_each_tensor_is_measured_alone_and_in_its_place():
    tensors = [
        tf.constant(RNG.normal(size=shape), tf.float32)
        for shape in [(4, 3), (5,), (3, 4), (2, 2), (5, 1), (12,)]
    ]
    together = measures.measure_each(measures.histogram, tensors)
    for position, tensor in enumerate(tensors):
        alone = measures.histogram(tf.reshape(tensor, [1, -1]))
        for part in ("min", "max", "counts"):
            np.testing.assert_array_equal(together[part][position], alone[part][0])
    means = measures.measure_each(measures.mean_abs, tensors)
    np.testing.assert_allclose(means, [np.abs(t).mean() for t in tensors], rtol=1e-6)


def test_layer_measures_keep_gradients_and_weights_apart():
    gradients = [tf.constant([[1.0, -3.0]]), tf.constant([[np.nan, 2.0]])]
    weights = [tf.constant([[5.0, 6.0]]), tf.constant([[7.0, 8.0]])]
    measured = measures.layer_measures(gradients, weights)
    assert measured["gradient_mean_abs"].numpy()[0] == 2.0
    assert measured["gradient_nonfinite"].numpy().tolist() == [0, 1]
    assert measured["weight_nonfinite"].numpy().tolist() == [0, 0]
    assert measured["gradients"]["max"].numpy().tolist() == [1.0, 2.0]
    assert measured["weights"]["max"].numpy().tolist() == [6.0, 8.0]
