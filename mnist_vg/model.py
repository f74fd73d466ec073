"""`Model`, the network under study: dense layers named `layer1` … `layerN`.

`training/stacked_model.py` builds the same layers for networks that train side by side.
"""

import keras
import numpy as np

from mnist_vg.scenarios.initializers import parse_initializer
from mnist_vg.scenarios.scenario import NORMALIZATIONS, OUTPUTS, PARAMETRIC_RELU

PARAMETRIC_RELU_SLOPE = 0.25
"""A parametric ReLU's slope below zero before training: He et al. 2015, section 2.1."""


@keras.saving.register_keras_serializable("mnist_vg")
class Model(keras.Model):
    """A dense classifier: `num_layers - 1` hidden layers, then the logits.

    With the defaults this is the tutorial's seven-layer network (the input counts
    as a layer): five hidden layers of 10 units and ten logits, Glorot uniform
    kernels (Glorot and Bengio 2010, eq. 16) and zero biases. It maps float
    `[batch, input_size]` to logits `[batch, label_size]`, or `[batch, 1]` with a
    sigmoid output.

    Args:
        input_size: values of an example.
        label_size: classes.
        activation: of the hidden layers; a name that Keras knows, a function, or
            "parametric_relu", a slope to train for each unit (He et al. 2015, eq. 1).
            Keras' leaky ReLU has the slope 0.2.
        num_layers: dense layers, the one of the logits included.
        hidden_size: units of a hidden layer.
        kernel_initializer: a name that Keras knows, with arguments if any
            (`random_normal(stddev=1)`), or a `keras.initializers` instance. Every
            layer draws for itself: an instance serves as a recipe.
        normalization: "none", "batch" (Ioffe and Szegedy 2015, section 3.2) or
            "layer" (Ba et al. 2016), between a hidden layer's sum and its activation.
        skip_connections: add a hidden layer's input to its output where the sizes
            agree (He et al. 2016, eq. 1).
        seed: decides the initial kernels, a different draw for each layer.
            None draws one at random.
        output: "softmax" for a logit a class; "sigmoid" for one logit, of the second
            of two classes; "sigmoid_twice" for a sigmoid unit before that one.
        output_initializer: of the kernels of the output, None for the others'.
        shared_initializer: one draw for all layers, as one instance of a Keras 3
            initializer gives, so that layers of one shape start alike.
        bias_initializer: as `kernel_initializer`, of the biases of every dense layer.

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
        output="softmax",
        output_initializer=None,
        shared_initializer=False,
        bias_initializer="zeros",
    ):
        # Every argument, for `get_config`.
        self._arguments = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        _check_choice("normalization", normalization, NORMALIZATIONS)
        _check_choice("output", output, OUTPUTS)
        if output != "softmax" and label_size != 2:
            raise ValueError(f"output: {output!r} tells 2 classes apart, not {label_size}")
        draws = layer_draws(
            num_layers,
            seed,
            kernel_initializer,
            output_initializer,
            shared_initializer,
            bias_initializer,
            output,
        )

        def dense(number, units, activation=None):
            of_kernel, of_bias = draws[number - 1]
            return keras.layers.Dense(
                units,
                activation=activation,
                kernel_initializer=of_kernel,
                bias_initializer=of_bias,
                name=f"layer{number}",
            )

        inputs = keras.Input((input_size,), name="input")
        hidden = inputs
        for number in range(1, num_layers - OUTPUT_LAYERS[output] + 1):
            if normalization == "none" and activation != PARAMETRIC_RELU:
                outputs = dense(number, hidden_size, activation)(hidden)
            else:
                sums = dense(number, hidden_size)(hidden)
                outputs = _activated(sums, activation, normalization, f"layer{number}")
            if skip_connections and outputs.shape == hidden.shape:
                outputs = keras.layers.Add(name=f"layer{number}_skip")([hidden, outputs])
            hidden = outputs
        if output == "sigmoid_twice":
            hidden = dense(num_layers - 1, 1, "sigmoid")(hidden)
        logits = dense(num_layers, label_size if output == "softmax" else 1)(hidden)
        super().__init__(inputs, logits, name=name)

    def get_config(self):
        """The arguments that make this model again."""
        config = dict(self._arguments)
        for key, value in config.items():
            if callable(value):
                module = keras.activations if key == "activation" else keras.initializers
                config[key] = module.serialize(value)
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The model of the arguments in `config`."""
        return cls(**config)

    @property
    def dense_layers(self) -> list[keras.layers.Dense]:
        """`layer1` … `layerN`, the one nearest the input first."""
        return [layer for layer in self.layers if isinstance(layer, keras.layers.Dense)]

    @property
    def layer_names(self) -> list[str]:
        """Names of the dense layers, in that order."""
        return [layer.name for layer in self.dense_layers]

    @property
    def activation_layers(self) -> list[keras.layers.Layer]:
        """The layer that applies each hidden layer's activation: itself, or one behind it."""
        named = {layer.name: layer for layer in self.layers}
        return [named.get(f"{layer.name}_activation", layer) for layer in self.dense_layers[:-1]]


OUTPUT_LAYERS = {"softmax": 1, "sigmoid": 1, "sigmoid_twice": 2}
"""Layers that an output is made of: the last ones."""


def layer_draws(
    num_layers,
    seed,
    kernel_initializer,
    output_initializer=None,
    shared_initializer=False,
    bias_initializer="zeros",
    output="softmax",
) -> list[tuple]:
    """What draws the kernel and the bias of each layer, the one nearest the input first.

    For the arguments see `Model`. No draw depends on another layer's, nor on its size.
    """
    seeds = np.random.SeedSequence(seed).generate_state(num_layers)
    if output_initializer is None:
        output_initializer = kernel_initializer
    draws = []
    for number, layer_seed in enumerate(seeds.tolist(), start=1):
        in_output = number > num_layers - OUTPUT_LAYERS[output]
        of_kernel = output_initializer if in_output else kernel_initializer
        kernel_seed = int(seeds[0]) if shared_initializer else layer_seed
        bias_seed = int(np.random.SeedSequence(layer_seed).generate_state(1)[0])
        draws.append((_own_draw(of_kernel, kernel_seed), _own_draw(bias_initializer, bias_seed)))
    return draws


_NORMALIZATIONS = {
    "batch": keras.layers.BatchNormalization,
    "layer": keras.layers.LayerNormalization,
}


def _check_choice(argument, given, allowed):
    if given not in allowed:
        raise ValueError(f"{argument}: {given!r} is not one of {', '.join(allowed)}")


def _activated(sums, activation, normalization, name):
    """The activation of a layer's sums, normalized before, by layers of their own."""
    if normalization != "none":
        sums = _NORMALIZATIONS[normalization](name=f"{name}_normalization")(sums)
    name = f"{name}_activation"
    if activation == PARAMETRIC_RELU:
        slope = keras.initializers.Constant(PARAMETRIC_RELU_SLOPE)
        return keras.layers.PReLU(alpha_initializer=slope, name=name)(sums)
    return keras.layers.Activation(activation, name=name)(sums)


def _own_draw(initializer, seed):
    """A copy of the initializer with a seed of its own.

    One instance, or one integer seed, would give equal-shaped layers equal values.
    """
    if isinstance(initializer, str):
        name, arguments = parse_initializer(initializer)
        if name == "constant":  # Keras has this default, and fails without it when it is asked.
            arguments = {"value": 0.0, **arguments}
        initializer = {"class_name": name, "config": arguments}
    recipe = keras.initializers.get(initializer)
    config = recipe.get_config() if isinstance(recipe, keras.initializers.Initializer) else {}
    if "seed" not in config:
        return recipe
    return type(recipe).from_config({**config, "seed": seed})
