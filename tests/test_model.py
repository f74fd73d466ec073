import keras
import numpy as np
import pytest

from mnist_vg import Model


def kernels(model):
    return [layer.kernel.numpy() for layer in model.dense_layers]


def test_the_tutorials_call_makes_the_tutorials_network():
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


def test_leaky_relu_has_the_tutorials_slope():
    activation = Model(activation="leaky_relu").dense_layers[0].activation
    assert float(activation(np.float32([-1.0]))[0]) == pytest.approx(-0.2)


@pytest.mark.parametrize("normalization", ["none", "batch", "layer"])
@pytest.mark.parametrize("skip_connections", [False, True])
def test_saved_and_loaded_it_answers_alike(tmp_path, normalization, skip_connections):
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


def test_the_drawn_graph_has_the_layers_as_its_boxes():
    graph = Model().forward_graph()
    boxes = {node.name.partition("/")[0] for node in graph.node if "/" in node.name}
    assert boxes == {f"layer{i}" for i in range(1, 7)}
    names = {node.name for node in graph.node}
    assert all(edge.partition(":")[0] in names for node in graph.node for edge in node.input)


def test_an_unknown_normalization_is_named():
    with pytest.raises(ValueError, match="normalization: 'group' is not one of none, batch, layer"):
        Model(normalization="group")
