"""The network under study: dense layers named `layer1` … `layerN`."""

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable("mnist_vg")
class Model(keras.Model):
    """A dense classifier: `num_layers - 1` hidden layers, then the logits.

    With the defaults this is the tutorial's seven-layer network (the input counts
    as a layer): five hidden layers of 10 units and ten logits, Glorot uniform
    kernels (Glorot and Bengio 2010, eq. 16) and zero biases. It maps float
    `[batch, input_size]` to logits `[batch, label_size]`.

    Args:
        input_size: values of an example.
        label_size: classes.
        activation: of the hidden layers; a name that Keras knows or a function.
            Keras' leaky ReLU has the slope 0.2.
        num_layers: dense layers, the one of the logits included.
        hidden_size: units of a hidden layer.
        kernel_initializer: a name that Keras knows or a `keras.initializers`
            instance. Every layer draws for itself: an instance serves as a recipe.
        normalization: "none", "batch" (Ioffe and Szegedy 2015, section 3.2) or
            "layer" (Ba et al. 2016), between a hidden layer's sum and its activation.
        skip_connections: add a hidden layer's input to its output where the sizes
            agree (He et al. 2016, eq. 1).
        seed: decides the initial kernels, a different draw for each layer.
            None draws one at random.

    Raises:
        ValueError: Keras does not know a name, or sizes do not fit.
    """

    def __init__(
        self,
        input_size=784,
        label_size=10,
        activation="sigmoid",
        num_layers=6,
        hidden_size=10,
        kernel_initializer="glorot_uniform",
        normalization="none",
        skip_connections=False,
        seed=None,
        name="model",
    ):
        self._arguments = {
            "input_size": input_size,
            "label_size": label_size,
            "activation": activation,
            "num_layers": num_layers,
            "hidden_size": hidden_size,
            "kernel_initializer": kernel_initializer,
            "normalization": normalization,
            "skip_connections": skip_connections,
            "seed": seed,
            "name": name,
        }
        if normalization not in _NORMALIZATIONS:
            raise ValueError(
                f"normalization: {normalization!r} is not one of {', '.join(_NORMALIZATIONS)}"
            )
        layer_seeds = np.random.SeedSequence(seed).generate_state(num_layers)

        def dense(number, units, activation=None):
            return keras.layers.Dense(
                units,
                activation=activation,
                kernel_initializer=_own_draw(kernel_initializer, int(layer_seeds[number - 1])),
                name=f"layer{number}",
            )

        inputs = keras.Input((input_size,), name="input")
        hidden = inputs
        for number in range(1, num_layers):
            if normalization == "none":
                output = dense(number, hidden_size, activation)(hidden)
            else:
                output = dense(number, hidden_size)(hidden)
                output = _NORMALIZATIONS[normalization](name=f"layer{number}_normalization")(output)
                output = keras.layers.Activation(activation, name=f"layer{number}_activation")(
                    output
                )
            if skip_connections and output.shape == hidden.shape:
                output = keras.layers.Add(name=f"layer{number}_skip")([hidden, output])
            hidden = output
        logits = dense(num_layers, label_size)(hidden)
        super().__init__(inputs, logits, name=name)

    def get_config(self):
        """The arguments that make this model again."""
        return {
            **self._arguments,
            "activation": keras.activations.serialize(
                keras.activations.get(self._arguments["activation"])
            ),
            "kernel_initializer": keras.initializers.serialize(
                keras.initializers.get(self._arguments["kernel_initializer"])
            ),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The model of the arguments in `config`."""
        return cls(**config)

    def forward_graph(self) -> tf.compat.v1.GraphDef:
        """The forward pass for TensorBoard to draw: each layer a box of its name."""
        example = tf.TensorSpec([None, *self.input_shape[1:]], tf.float32, name="input")
        traced = tf.function(self.call, autograph=False).get_concrete_function(example)
        graph = tf.compat.v1.GraphDef()
        for node in traced.graph.as_graph_def().node:
            # Control edges and what they lead to would be drawn beside every layer.
            if node.op != "NoOp":
                drawn = graph.node.add()
                drawn.CopyFrom(node)
                drawn.name = _box(node.name)
                drawn.input[:] = [_box(name) for name in node.input if not name.startswith("^")]
        return graph

    @property
    def dense_layers(self) -> list[keras.layers.Dense]:
        """`layer1` … `layerN`, the one nearest the input first."""
        return [layer for layer in self.layers if isinstance(layer, keras.layers.Dense)]


_NORMALIZATIONS = {
    "none": None,
    "batch": keras.layers.BatchNormalization,
    "layer": keras.layers.LayerNormalization,
}


def _box(node_name):
    # Keras enters a layer's name scope twice, and TensorFlow numbers the second: layer1_1.
    scope, slash, rest = node_name.partition("/")
    return scope.removesuffix("_1") + slash + rest


def _own_draw(initializer, seed):
    """A copy of the initializer with a seed of its own.

    One instance, or one integer seed, would give equal-shaped layers equal values.
    """
    recipe = keras.initializers.get(initializer)
    config = recipe.get_config() if isinstance(recipe, keras.initializers.Initializer) else {}
    if "seed" not in config:
        return recipe
    return type(recipe).from_config({**config, "seed": seed})
