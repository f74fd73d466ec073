import inspect

import keras
import numpy as np
import pytest
from keras.src import initializers

from mnist_vg import SCENARIOS, Model
from mnist_vg.keras_models.taps import tapped
from mnist_vg.recording.event_log import forward_graph
from mnist_vg.scenarios.initializers import (
    INITIALIZER_ARGUMENTS,
    KERNEL_INITIALIZERS,
    parse_initializer,
)


def kernels(model):
    return [layer.kernel.numpy() for layer in model.dense_layers]


def test_the_defaults_are_the_tutorials_network():
    model = Model(784, 10, keras.activations.sigmoid, 6, 10)
    assert isinstance(model, keras.Model)
    assert [layer.name for layer in model.dense_layers] == [f"layer{i}" for i in range(1, 7)]
    assert [k.shape for k in kernels(model)] == [(784, 10)] + [(10, 10)] * 5
    assert model.count_params() == 784 * 10 + 10 + 5 * (10 * 10 + 10)
    assert all(not layer.bias.numpy().any() for layer in model.dense_layers)
    assert model.dense_layers[-1].activation is keras.activations.linear
    assert {layer.activation for layer in model.dense_layers[:-1]} == {keras.activations.sigmoid}


def test_kernels_fill_glorots_range():
    model = Model(seed=3)
    for kernel in kernels(model):
        limit = np.sqrt(6 / sum(kernel.shape))
        assert np.abs(kernel).max() <= limit
        assert np.abs(kernel).max() > 0.9 * limit
        assert abs(kernel.mean()) < 4 * limit / np.sqrt(3 * kernel.size)


@pytest.mark.parametrize(
    "initializer", ["glorot_uniform", keras.initializers.GlorotUniform(seed=1), "random_normal"]
)
@pytest.mark.parametrize("seed", [None, 0])
def test_every_layer_draws_its_own_kernel(initializer, seed):
    hidden = kernels(Model(kernel_initializer=initializer, seed=seed))[1:]
    for one in range(len(hidden)):
        for other in range(one):
            assert not np.array_equal(hidden[one], hidden[other])


def test_a_shared_instance_would_have_given_equal_kernels():
    shared = keras.initializers.GlorotUniform(seed=1)
    layers = [keras.layers.Dense(10, kernel_initializer=shared) for _ in range(2)]
    for layer in layers:
        layer.build((None, 10))
    assert np.array_equal(layers[0].kernel, layers[1].kernel)


def test_the_seed_decides_the_kernels():
    assert all(map(np.array_equal, kernels(Model(seed=5)), kernels(Model(seed=5))))
    assert not np.array_equal(kernels(Model(seed=5))[1], kernels(Model(seed=6))[1])


def biases(model):
    return [layer.bias.numpy() for layer in model.dense_layers]


def test_random_biases_differ_by_layer_and_seed_and_do_not_change_the_kernels():
    one, same, other = (
        Model(bias_initializer="random_normal(stddev=0.5)", seed=seed) for seed in (5, 5, 6)
    )
    assert all(map(np.array_equal, biases(one), biases(same)))
    drawn = np.concatenate([*biases(one), *biases(other)])
    assert len(np.unique(drawn)) == drawn.size == 2 * 60
    # Four standard errors of a sample standard deviation s, which are s / sqrt(2 n) each.
    assert abs(drawn.std() - 0.5) < 4 * 0.5 / np.sqrt(2 * drawn.size)
    assert all(map(np.array_equal, kernels(one), kernels(Model(seed=5))))


def test_leaky_relu_has_the_tutorials_slope():
    activation = Model(activation="leaky_relu").dense_layers[0].activation
    assert float(activation(np.float32([-1.0]))[0]) == pytest.approx(-0.2)


@pytest.mark.parametrize("normalization", ["none", "batch", "layer"])
@pytest.mark.parametrize("skip_connections", [False, True])
def test_a_loaded_model_gives_the_same_outputs(tmp_path, normalization, skip_connections):
    model = Model(
        12, 3, "tanh", 4, 5, normalization=normalization, skip_connections=skip_connections
    )
    images = np.random.default_rng(0).random((7, 12), np.float32)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is Model
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0)
    )
    assert model.predict(images, verbose=0).shape == (7, 3)


def test_skip_connections_add_the_input_where_sizes_agree():
    model = Model(12, 3, "tanh", 4, 5, skip_connections=True, seed=0)
    hidden = np.random.default_rng(0).random((7, 12))
    for layer in model.dense_layers[:-1]:
        output = np.tanh(hidden @ layer.kernel.numpy() + layer.bias.numpy())
        hidden = output + hidden if output.shape == hidden.shape else output
    images = np.random.default_rng(0).random((7, 12))
    logits = hidden @ model.dense_layers[-1].kernel.numpy()
    np.testing.assert_allclose(model.predict(images, verbose=0), logits, rtol=1e-4, atol=1e-5)


def test_label_size_decides_the_logits():
    assert Model(784, 4).output_shape == (None, 4)


def test_the_graph_has_a_box_for_each_layer():
    graph = forward_graph(Model())
    boxes = {node.name.partition("/")[0] for node in graph.node if "/" in node.name}
    assert boxes == {f"layer{i}" for i in range(1, 7)}
    names = {node.name for node in graph.node}
    assert all(edge.partition(":")[0] in names for node in graph.node for edge in node.input)


def test_an_unknown_normalization_is_named():
    with pytest.raises(ValueError, match="normalization: 'group' is not one of none, batch, layer"):
        Model(normalization="group")


IMAGES = np.random.default_rng(0).random((7, 12), np.float32)


def test_a_sigmoid_output_is_one_logit():
    model = Model(12, 2, "tanh", 3, 5, seed=0, output="sigmoid")
    assert model.output_shape == (None, 1)
    assert [k.shape for k in kernels(model)] == [(12, 5), (5, 5), (5, 1)]
    assert model.dense_layers[-1].activation is keras.activations.linear
    # The initial values of the other layers stay the same.
    two_logits = Model(12, 2, "tanh", 3, 5, seed=0)
    for one, other in zip(kernels(model)[:-1], kernels(two_logits)[:-1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_sigmoid_twice_puts_one_sigmoid_unit_before_the_logit():
    model = Model(12, 2, "tanh", 4, 5, seed=0, output="sigmoid_twice")
    assert [k.shape for k in kernels(model)] == [(12, 5), (5, 5), (5, 1), (1, 1)]
    activations = [layer.activation for layer in model.dense_layers]
    known = keras.activations
    assert activations == [known.tanh, known.tanh, known.sigmoid, known.linear]
    hidden = np.float64(IMAGES)
    for kernel in kernels(model)[:2]:
        hidden = np.tanh(hidden @ kernel)
    one, other = kernels(model)[2:]
    logits = 1 / (1 + np.exp(-hidden @ one)) @ other
    np.testing.assert_allclose(model(IMAGES), logits, rtol=1e-5)
    smallest = Model(12, 2, "tanh", 2, 5, output="sigmoid_twice")
    assert [k.shape for k in kernels(smallest)] == [(12, 1), (1, 1)]


@pytest.mark.parametrize("output", ["sigmoid", "sigmoid_twice"])
@pytest.mark.parametrize("label_size", [1, 3, 10])
def test_a_single_logit_needs_two_classes(output, label_size):
    with pytest.raises(ValueError, match=f"output: '{output}' is for 2 classes, not {label_size}"):
        Model(12, label_size, output=output)


def test_an_unknown_output_is_named():
    with pytest.raises(ValueError, match="output: 'tanh' is not one of softmax, sigmoid, sigm"):
        Model(12, 2, output="tanh")


@pytest.mark.parametrize(("output", "last"), [("softmax", 1), ("sigmoid", 1), ("sigmoid_twice", 2)])
def test_the_output_initializer_is_used_only_for_the_output(output, last):
    arguments = {"num_layers": 4, "hidden_size": 5, "output": output, "seed": 0}
    model = Model(12, 2, output_initializer="constant(value=0.5)", **arguments)
    assert all((kernel == 0.5).all() for kernel in kernels(model)[-last:])
    others = kernels(Model(12, 2, **arguments))[:-last]
    for one, other in zip(kernels(model)[:-last], others, strict=True):
        np.testing.assert_array_equal(one, other)
        assert (one != 0.5).all()


def test_a_shared_initializer_gives_equal_kernels_to_layers_of_the_same_shape():
    model = Model(5, 2, "tanh", 4, 5, "random_normal(stddev=1)", seed=3, shared_initializer=True)
    first, second, third, last = kernels(model)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)
    assert last.shape != first.shape
    # As in Keras 3, where an initializer gives the same values each time it is called.
    shared = keras.initializers.RandomNormal(
        stddev=1, seed=model.dense_layers[0].kernel_initializer.get_config()["seed"]
    )
    for kernel in kernels(model):
        np.testing.assert_array_equal(kernel, shared(kernel.shape))
    own = kernels(Model(5, 2, "tanh", 4, 5, "random_normal(stddev=1)", seed=3))
    np.testing.assert_array_equal(own[0], first)
    assert not np.array_equal(own[0], own[1])
    other = kernels(
        Model(5, 2, "tanh", 4, 5, "random_normal(stddev=1)", seed=4, shared_initializer=True)
    )
    assert not np.array_equal(other[0], first)


@pytest.mark.parametrize("name", KERNEL_INITIALIZERS)
def test_initializers_by_name_are_keras_own(name):
    if name not in initializers.ALL_OBJECTS_DICT:
        pytest.skip("Keras of an older version lacks it")
    parameters = inspect.signature(initializers.ALL_OBJECTS_DICT[name]).parameters
    values = {"mode": "fan_out", "distribution": "uniform", "maxval": 2.5}
    given = {key: values.get(key, 1.5) for key in INITIALIZER_ARGUMENTS.get(name, ())}
    listed = ", ".join(f"{key}={value!r}" for key, value in given.items())
    for text, arguments in [(name, {}), (f"{name}({listed})", given)]:
        [layer] = Model(12, 3, num_layers=1, kernel_initializer=text, seed=0).dense_layers
        ours = layer.kernel_initializer
        seed = {"seed": ours.get_config()["seed"]} if "seed" in parameters else {}
        theirs = initializers.ALL_OBJECTS_DICT[name](**arguments, **seed)
        assert type(ours) is type(theirs)
        assert ours.get_config() == theirs.get_config()
        np.testing.assert_array_equal(layer.kernel, theirs((12, 3)))


@pytest.mark.parametrize(
    ("initializer", "mean", "variance", "kurtosis"),
    [
        ("random_normal(mean=0.5,stddev=2)", 0.5, 4, 3),
        ("random_uniform(minval=-1,maxval=3)", 1, 16 / 12, 9 / 5),
        ("variance_scaling(scale=0.5,mode='fan_out',distribution='uniform')", 0, 0.5 / 500, 9 / 5),
        ("variance_scaling(distribution='untruncated_normal')", 0, 1 / 800, 3),
        ("glorot_uniform", 0, 2 / 1300, 9 / 5),
        ("he_uniform", 0, 2 / 800, 9 / 5),
        # A normal truncated at two standard deviations, and rescaled.
        ("he_normal", 0, 2 / 800, 2.3663),
        ("glorot_normal", 0, 2 / 1300, 2.3663),
    ],
)
def test_a_large_kernel_has_its_initializers_moments(initializer, mean, variance, kurtosis):
    """Within four standard errors, which follow from the number of weights."""
    [kernel] = kernels(Model(800, 500, num_layers=1, kernel_initializer=initializer, seed=0))
    spread = np.sqrt(variance)
    assert kernel.mean(dtype=float) == pytest.approx(mean, abs=4 * spread / np.sqrt(kernel.size))
    error = np.sqrt((kurtosis - 1) / kernel.size)
    assert kernel.var(dtype=float) == pytest.approx(variance, rel=4 * error)


def test_every_named_scenarios_initializers_are_made_by_keras():
    texts = {
        text for s in SCENARIOS.values() for text in (s.kernel_initializer, s.output_initializer)
    }
    for text in texts - {None}:
        name, arguments = parse_initializer(text)
        made = keras.initializers.deserialize({"class_name": name, "config": arguments})
        assert np.isfinite(made((6, 4))).all()


def randomized(model):
    """Give the model random weights, so that no bias, slope or scale has its initial value."""
    rng = np.random.default_rng(5)
    model.set_weights([rng.uniform(0.2, 1.2, w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def test_a_parametric_relu_starts_at_a_quarter_and_is_trained_for_each_unit(tmp_path):
    model = Model(12, 3, "parametric_relu", 3, 5)
    names = ["layer1_activation", "layer2_activation"]
    assert [layer.name for layer in model.activation_layers] == names
    for layer in model.activation_layers:
        [slope] = layer.trainable_variables
        np.testing.assert_array_equal(slope, np.full(5, 0.25))
        assert any(slope is variable for variable in model.trainable_variables)
    values = np.float32([[-4, -1, 0, 1, 4]])
    np.testing.assert_array_equal(model.activation_layers[0](values), [[-1, -0.25, 0, 1, 4]])

    randomized(model).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one, other in zip(model.activation_layers, loaded.activation_layers, strict=True):
        np.testing.assert_array_equal(one.get_weights(), other.get_weights())
        assert len(np.unique(one.get_weights())) == 5
    np.testing.assert_array_equal(loaded(-IMAGES), model(-IMAGES))


@pytest.mark.parametrize("initializer", [None, keras.initializers.RandomNormal(stddev=0.5)])
def test_a_loaded_model_has_the_same_output_and_initializers(tmp_path, initializer):
    arguments = {"output": "sigmoid_twice", "shared_initializer": True}
    recipe = "random_normal(stddev=1)"
    model = Model(12, 2, "tanh", 4, 5, recipe, output_initializer=initializer, **arguments)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(loaded(IMAGES), model(IMAGES))


KINDS = {
    "plain": {},
    "batch": {"normalization": "batch"},
    "layer": {"normalization": "layer", "skip_connections": True},
    "parametric": {"activation": "parametric_relu"},
    "parametric and batch": {"activation": "parametric_relu", "normalization": "batch"},
    "twice": {"output": "sigmoid_twice"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_tap_yields_inputs_and_outputs_of_each_activation(kind):
    model = randomized(Model(12, 2, **{"activation": "tanh", "num_layers": 4, **KINDS[kind]}))
    untapped = model(IMAGES).numpy()
    with tapped(model) as taps:
        np.testing.assert_array_equal(model(IMAGES), untapped)
    assert len(taps.pairs) == len(model.activation_layers) == 3
    for layer, (values, outputs) in zip(model.activation_layers, taps.pairs, strict=True):
        # The same tensors, from submodels of Keras' graph.
        inner = keras.Model(model.input, [layer.input, layer.output])
        before, after = inner(IMAGES)
        if isinstance(layer, keras.layers.Dense):
            before = before.numpy() @ layer.kernel.numpy() + layer.bias.numpy()
        np.testing.assert_allclose(values, before, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(outputs, after)
    functions = {"tanh": np.tanh, "parametric_relu": lambda z: np.where(z > 0, z, np.nan)}
    values, outputs = (part.numpy() for part in taps.pairs[0])
    expected = functions[KINDS[kind].get("activation", "tanh")](values)
    positive = values > 0
    np.testing.assert_allclose(outputs[positive], expected[positive], rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tap_leaves_the_model_as_it_was(kind):
    model = randomized(Model(12, 2, **{"activation": "tanh", "num_layers": 4, **KINDS[kind]}))

    def state():
        return [{key: id(value) for key, value in vars(layer).items()} for layer in model.layers]

    config, before, untapped = model.get_config(), state(), model(IMAGES).numpy()
    with tapped(model) as taps:
        assert state() != before
        model(IMAGES)
    assert state() == before
    with pytest.raises(RuntimeError, match="within"), tapped(model):  # noqa: PT012
        model(IMAGES)
        raise RuntimeError("within")
    assert state() == before
    model(IMAGES)
    assert len(taps.pairs) == 3  # Nothing is added after the end.
    assert model.get_config() == config
    np.testing.assert_array_equal(model(IMAGES), untapped)
