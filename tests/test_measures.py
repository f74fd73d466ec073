import numpy as np
import pytest
import tensorflow as tf
import twins
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from mnist_vg.recording import measures
from mnist_vg.recording.event_log import _histogram_value
from mnist_vg.recording.probe import Probe
from mnist_vg.runs import events

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


def arrays(measured):
    return tf.nest.map_structure(lambda part: part.numpy(), measured)


@pytest.mark.parametrize("name", CASES)
def test_histograms_equal_tensorflows_bit_for_bit(tmp_path, name):
    values = CASES[name].astype(np.float32)
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        tf.summary.histogram("theirs", values, step=0)
    reader = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    theirs = make_ndarray(reader.Tensors("theirs")[0].tensor_proto)

    compiled = tf.function(measures.histogram, jit_compile=True)
    measured = {key: part[0].numpy() for key, part in compiled(values.reshape(1, -1)).items()}
    ours = _histogram_value("", events.buckets(**measured))
    np.testing.assert_array_equal(make_ndarray(ours.tensor), theirs)


def test_histograms_equal_numpys_counts():
    values = CASES["normal"].astype(np.float32)
    measured = measures.histogram(values.reshape(1, -1))
    np.testing.assert_array_equal(measured["counts"][0], twins.histogram(values)[:, 2])


@pytest.mark.parametrize("bad", [[np.nan], [np.inf], [-np.inf, np.nan, np.inf]])
def test_values_that_are_not_finite_are_counted_and_kept_out_of_histograms(bad):
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


def test_each_tensor_is_measured_by_itself_and_in_order():
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


@pytest.mark.parametrize("size", [1, 37, 2**18 + 5])
def test_row_measures_equal_numpys(size):
    rows = np.float32(RNG.normal(size=(2, size)) + 0.5)
    rows[0, ::3] = 0
    exact = np.float64(rows)
    for measure, twin in [
        (measures.mean, exact.mean(axis=1)),
        (measures.std, exact.std(axis=1)),
        (measures.rms, np.sqrt(np.square(exact).mean(axis=1))),
        (measures.norm, np.sqrt(np.square(exact).sum(axis=1))),
        (measures.mean_abs, np.abs(exact).mean(axis=1)),
        (measures.zero_share, (exact == 0).mean(axis=1)),
    ]:
        measured = tf.function(measure, jit_compile=True)(rows)
        assert measured.dtype == tf.float32
        np.testing.assert_allclose(measured, twin, rtol=1e-5, atol=1e-6, err_msg=measure.__name__)


def test_the_standard_deviation_is_accurate_at_a_large_mean():
    """The difference of two mean squares would have no correct digit here."""
    rows = np.float32(1000 + 1e-2 * RNG.normal(size=(1, 5000)))
    np.testing.assert_allclose(measures.std(rows), np.float64(rows).std(axis=1), rtol=1e-3)


def test_full_layer_measures_add_means_spreads_norms_and_shares():
    gradients = [tf.constant([[1.0, -3.0, 0.0, 0.0]]), tf.constant([[np.inf, 2.0]])]
    weights = [tf.constant([[5.0, 6.0, 7.0, 8.0]]), tf.constant([[7.0, -1.0]])]
    clipped = [tf.constant([[0.5, -1.5, 0.0, 0.0]]), tf.constant([[3.0, 4.0]])]
    measured = arrays(measures.layer_measures(gradients, weights, clipped, full=True))
    default = measures.layer_measures(gradients, weights, clipped)
    assert set(measured) - set(default) == {
        *("gradient_mean", "gradient_std", "gradient_norm", "gradient_zeros"),
        *("gradient_nonfinite_share", "weight_mean", "weight_std", "weight_norm"),
        *("gradient_clipped_mean_abs", "gradient_clipped_norm"),
    }
    assert measured["gradient_mean"][0] == -0.5
    assert measured["gradient_std"][0] == pytest.approx(np.std([1, -3, 0, 0]))
    assert measured["gradient_norm"][0] == pytest.approx(np.sqrt(10))
    assert measured["gradient_zeros"].tolist() == [0.5, 0]
    assert measured["gradient_nonfinite_share"].tolist() == [0, 0.5]
    assert not np.isfinite(measured["gradient_mean"][1])
    assert measured["weight_mean"].tolist() == [6.5, 3]
    np.testing.assert_allclose(measured["weight_std"], [np.std([5, 6, 7, 8]), 4])
    assert measured["gradient_clipped_mean_abs"].tolist() == [0.5, 3.5]
    np.testing.assert_allclose(measured["gradient_clipped_norm"], [np.sqrt(2.5), 5])
    assert "gradient_clipped_norm" not in measures.layer_measures(gradients, weights, full=True)


def test_signal_measures_are_in_the_order_of_the_layers():
    """Layers of the same width are measured together, others separately."""
    inputs = [np.float32(3 * RNG.normal(size=(20, units))) for units in (4, 7, 4)]
    inputs[2][:, 1] = -1
    outputs = [np.tanh(inputs[0]), np.tanh(inputs[1]), np.maximum(inputs[2], 0)]
    slopes = [1 - outputs[0] ** 2, 1 - outputs[1] ** 2, np.float32(inputs[2] > 0)]
    back = [np.float32(RNG.normal(size=values.shape)) for values in inputs]
    ranges = [(-1.0, 1.0), (-1.0, 1.0), None]
    signals = [[tf.constant(part) for part in parts] for parts in (outputs, inputs, slopes, back)]
    measured = arrays(measures.signal_measures(signals[0], ranges, *signals[1:]))
    for layer in range(3):
        for key, twin in [
            ("activation_slope", slopes[layer].mean(dtype=float)),
            ("activation_gradient_rms", twins.rms(np.float64(back[layer]))),
            ("activation_mean", outputs[layer].mean(dtype=float)),
            ("activation_std", outputs[layer].std(dtype=float)),
        ]:
            assert measured[key][layer] == pytest.approx(twin, rel=1e-5), key
        for key, values in [("activation_inputs", inputs), ("activations", outputs)]:
            theirs = twins.histogram(values[layer])
            np.testing.assert_array_equal(measured[key]["counts"][layer], theirs[:, 2])
            assert measured[key]["min"][layer] == values[layer].min()
    # tanh counts as saturated from an input of 2.5 on: tanh(2.5) = 1 - 2 / (1 + exp(5)).
    saturated = [((np.abs(z) >= 2.5).mean(axis=0) > 0.5).mean() for z in inputs[:2]]
    np.testing.assert_allclose(measured["units_saturated"], [*saturated, 0])
    np.testing.assert_allclose(measured["units_dead"], [0, 0, 0.25])


@pytest.mark.parametrize("limits", [(-1.0, 1.0), (0.0, 1.0), None])
def test_shares_of_units_equal_numpys(limits):
    """The shares of dead and of saturated units, for layers of different widths."""
    low, high = limits or (0.0, 1.0)
    batches = []
    for units in (4, 9):
        values = np.float32(RNG.uniform(low + 0.1, high - 0.1, (20, units)))
        values[:, 0] = 0
        values[:19, 1] = 0  # All but one.
        values[:11, 2] = high - 0.0066 * (high - low)  # exp(-5) / (1 + exp(-5)) = 0.00669
        values[:5, 2] = low
        values[:10, 3] = high  # No more than half.
        values[:, 4:7] = high - 0.0068 * (high - low)
        batches.append(values)
    measured = arrays(
        tf.function(measures.unit_shares, jit_compile=True)(batches, [limits, limits])
    )
    dead, saturated = measured["units_dead"], measured["units_saturated"]
    np.testing.assert_allclose(dead, [(v == 0).all(axis=0).mean() for v in batches])
    end = 1 / (1 + np.exp(5)) * (high - low)
    ends = [(((v <= low + end) | (v >= high - end)).mean(axis=0) > 0.5).mean() for v in batches]
    np.testing.assert_allclose(saturated, ends if limits else [0, 0])
    # A sigmoid's output of zero is at the end of its range.
    at_ends = 0 if limits is None else 1 if low else 3
    np.testing.assert_allclose(saturated, [at_ends / 4, at_ends / 9])


def test_activations_of_any_number_of_rows_are_measured_by_one_program():
    """XLA would compile each number of rows anew: nothing that it compiles depends on it."""
    variable, gradient = tf.Variable(tf.ones([200, 200]), name="dense/kernel"), tf.ones([200, 200])
    probe = Probe(None, "", histograms=True, full=True)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 8])], autograph=False)
    def step(outputs):
        of_layer = {"conv": ([outputs], (0.0, 1.0))}
        return probe.measure([gradient], [variable], activations=of_layer)

    functions = step.get_concrete_function().graph.as_graph_def().library.function
    compiled = [f for f in functions if f.attr["_XlaMustCompile"].b]
    assert compiled
    for function in compiled:
        for argument in function.arg_attr.values():
            [shape] = argument.attr["_output_shapes"].list.shape
            assert all(dim.size >= 0 for dim in shape.dim)
            assert not shape.unknown_rank
    for size in [(8, 5, 8), (3, 44, 8), (1, 1, 8), (40, 1000, 8)]:  # The last is sampled.
        outputs = np.float32(RNG.uniform(0.1, 0.9, size=size))
        outputs[..., 0], outputs[..., 1] = 0, 0.999
        _, (_, table) = probe.tables(step(outputs))
        assert table["activation_mean"] == pytest.approx(outputs.mean(dtype=float), rel=1e-5)
        assert table["activation_std"] == pytest.approx(outputs.std(dtype=float), rel=1e-5)
        assert table["units_dead"] == pytest.approx(1 / 8)
        assert table["units_saturated"] == pytest.approx(2 / 8)
        [counts] = table["activations"]["counts"]
        assert counts.sum() == pytest.approx(outputs.size)
        if outputs.size <= measures.LARGE:
            np.testing.assert_array_equal(counts, twins.histogram(outputs)[:, 2])
        assert table["activations"]["max"] == outputs.max()


@pytest.mark.parametrize("width", [64, 512, 2048, 2187])
def test_a_sample_takes_from_all_rows_and_columns(width):
    """Its histogram is that of all values to five standard errors of a share."""
    table = np.float32(RNG.normal(size=(2**20 // width, width)))
    table += np.linspace(0, 3, width, dtype=np.float32)
    table += np.linspace(0, 3, len(table), dtype=np.float32)[:, np.newaxis]
    measured = arrays(measures.histogram(table.reshape(1, -1)))
    share, of_all = measured["counts"][0] / table.size, twins.histogram(table)[:, 2] / table.size
    # Neighbours are alike in their row: 1024 runs tell less than 2**16 values by themselves.
    np.testing.assert_allclose(share, of_all, atol=5 * np.sqrt(0.25 / 1024) / 4)
    assert (measured["min"], measured["max"]) == (table.min(), table.max())


def test_the_edges_of_a_large_histogram_are_those_of_all_values():
    values = np.zeros((1, 2**18 + 5), np.float32)
    values[0, [77, 2**17 + 1]] = -3, 8
    measured = arrays(tf.function(measures.histogram, jit_compile=True)(values))
    assert (measured["min"], measured["max"]) == (-3, 8)
    values[0, 5] = np.nan  # Then those of the sample, which is finite.
    measured = arrays(tf.function(measures.histogram, jit_compile=True)(values))
    assert np.isfinite(measured["min"])
    assert np.isfinite(measured["max"])
    assert measured["counts"].sum() == pytest.approx(values.size, rel=1e-3)
