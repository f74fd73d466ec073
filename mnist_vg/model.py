"""`Model`: a dense network with layers `layer1` … `layerN`.

`training/stacked_model.py` builds the same layers for networks that train side by side.
"""

# ruff: noqa: E402

from mnist_vg.tensorflow_import import import_tensorflow

import_tensorflow()  # Before the others, without its messages.

import keras
import numpy as np

from mnist_vg.scenarios.initializers import parse_initializer
from mnist_vg.scenarios.scenario import NORMALIZATIONS, OUTPUTS, PARAMETRIC_RELU

PARAMETRIC_RELU_SLOPE = 0.25
"""The initial slope of a parametric ReLU below zero (He et al. 2015, section 2.1)."""


@keras.saving.register_keras_serializable("mnist_vg")
class Model(keras.Model):
    """A dense classifier: `num_layers - 1` hidden layers, then the logits.

    With the defaults, this is the tutorial's seven-layer network (counting the input as a layer):
    five hidden layers of 10 units and 10 logits, with Glorot uniform kernels (Glorot and Bengio
    2010, eq. 16) and zero biases.

    Input shape: float `[batch, input_size]`. Output shape: logits `[batch, label_size]`, or
    `[batch, 1]` with a sigmoid output.

    Args:
        input_size: number of values per example.
        label_size: number of classes.
        activation: activation of the hidden layers: the name of a Keras activation, a function,
            or "parametric_relu", which has a trainable slope for each unit (He et al. 2015,
            eq. 1). Keras' leaky ReLU has the slope 0.2.
        num_layers: number of dense layers, including the one for the logits.
        hidden_size: number of units in each hidden layer.
        kernel_initializer: the name of a Keras initializer, with arguments if needed, such as
            `random_normal(stddev=1)`, or a `keras.initializers` instance. Each layer uses a copy
            with a seed of its own.
        normalization: "none", "batch" (Ioffe and Szegedy 2015, section 3.2) or "layer" (Ba et
            al. 2016), applied before the activation of each hidden layer.
        skip_connections: whether to add a hidden layer's input to its output, where both have the
            same size (He et al. 2016, eq. 1).
        seed: seed of the initial values, from which each layer's seed is derived. None is a random
            seed.
        name: name of the Keras model.
        output: "softmax" has one logit per class. "sigmoid" has a single logit, for the second
            of two classes. "sigmoid_twice" has a sigmoid unit before that logit.
        output_initializer: initializer of the output's kernels; None uses `kernel_initializer`.
        shared_initializer: whether all layers use the same seed, as if they shared one Keras 3
            initializer: kernels of the same shape then start with equal values.
        bias_initializer: initializer of all biases, given like `kernel_initializer`.

    Raises:
        ValueError: Keras does not know a name, or an argument does not fit another one.
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
        # All arguments, for `get_config`.
        self._arguments = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        _check_choice("normalization", normalization, NORMALIZATIONS)
        _check_choice("output", output, OUTPUTS)
        if output != "softmax" and label_size != 2:
            raise ValueError(f"output: {output!r} is for 2 classes, not {label_size}; use softmax")
        initializers = layer_initializers(
            num_layers,
            seed,
            kernel_initializer,
            output_initializer,
            shared_initializer,
            bias_initializer,
            output,
        )

        def dense(number, units, activation=None):
            kernel, bias = initializers[number - 1]
            return keras.layers.Dense(
                units,
                activation=activation,
                kernel_initializer=kernel,
                bias_initializer=bias,
                name=f"layer{number}",
            )

        inputs = keras.Input((input_size,), name="input")
        hidden = inputs
        for number in range(1, num_layers - OUTPUT_LAYERS[output] + 1):
            if normalization == "none" and activation != PARAMETRIC_RELU:
                outputs = dense(number, hidden_size, activation)(hidden)
            else:
                outputs = dense(number, hidden_size)(hidden)
                outputs = _activated(outputs, activation, normalization, f"layer{number}")
            if skip_connections and outputs.shape == hidden.shape:
                outputs = keras.layers.Add(name=f"layer{number}_skip")([hidden, outputs])
            hidden = outputs
        if output == "sigmoid_twice":
            hidden = dense(num_layers - 1, 1, "sigmoid")(hidden)
        logits = dense(num_layers, label_size if output == "softmax" else 1)(hidden)
        super().__init__(inputs, logits, name=name)

    def get_config(self):
        """The arguments with which this model was made, for saving."""
        config = dict(self._arguments)
        for key, value in config.items():
            if callable(value):
                module = keras.activations if key == "activation" else keras.initializers
                config[key] = module.serialize(value)
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Make a model from the arguments in `config`."""
        return cls(**config)

    @property
    def dense_layers(self) -> list[keras.layers.Dense]:
        """The dense layers, from the one next to the input to the logits."""
        return [layer for layer in self.layers if isinstance(layer, keras.layers.Dense)]

    @property
    def layer_names(self) -> list[str]:
        """The names of the dense layers, in the same order: `layer1` … `layerN`."""
        return [layer.name for layer in self.dense_layers]

    @property
    def activation_layers(self) -> list[keras.layers.Layer]:
        """The layers that apply the hidden activations: the dense layers or separate ones."""
        named = {layer.name: layer for layer in self.layers}
        return [named.get(f"{layer.name}_activation", layer) for layer in self.dense_layers[:-1]]

    @property
    def hidden_layers(self) -> list[keras.layers.Layer]:
        """The layers that apply `activation`: all `activation_layers` outside of the output."""
        in_output = OUTPUT_LAYERS[self._arguments["output"]]
        return self.activation_layers[: len(self.dense_layers) - in_output]


OUTPUT_LAYERS = {"softmax": 1, "sigmoid": 1, "sigmoid_twice": 2}
"""How many of the last dense layers belong to the output."""


def layer_initializers(
    num_layers,
    seed,
    kernel_initializer,
    output_initializer=None,
    shared_initializer=False,
    bias_initializer="zeros",
    output="softmax",
) -> list[tuple]:
    """Pairs of kernel and bias initializers, from the layer next to the input to the logits.

    The arguments are those of `Model`. A layer's seed depends only on `seed` and on the layer's
    number, so other layers do not change its initial values.
    """
    seeds = np.random.SeedSequence(seed).generate_state(num_layers)
    if output_initializer is None:
        output_initializer = kernel_initializer
    pairs = []
    for number, layer_seed in enumerate(seeds.tolist(), start=1):
        in_output = number > num_layers - OUTPUT_LAYERS[output]
        kernel = output_initializer if in_output else kernel_initializer
        kernel_seed = int(seeds[0]) if shared_initializer else layer_seed
        bias_seed = int(np.random.SeedSequence(layer_seed).generate_state(1)[0])
        pairs.append((_with_seed(kernel, kernel_seed), _with_seed(bias_initializer, bias_seed)))
    return pairs


_NORMALIZATIONS = {
    "batch": keras.layers.BatchNormalization,
    "layer": keras.layers.LayerNormalization,
}


def _check_choice(argument, given, allowed):
    if given not in allowed:
        raise ValueError(f"{argument}: {given!r} is not one of {', '.join(allowed)}")


def _activated(pre_activations, activation, normalization, name):
    """Add separate layers that normalize the outputs of a dense layer, and activate them."""
    if normalization != "none":
        normalize = _NORMALIZATIONS[normalization](name=f"{name}_normalization")
        pre_activations = normalize(pre_activations)
    name = f"{name}_activation"
    if activation == PARAMETRIC_RELU:
        slope = keras.initializers.Constant(PARAMETRIC_RELU_SLOPE)
        return keras.layers.PReLU(alpha_initializer=slope, name=name)(pre_activations)
    return keras.layers.Activation(activation, name=name)(pre_activations)


def _with_seed(initializer, seed):
    """A copy of the initializer with this seed.

    A shared instance, or the same seed, would give kernels of the same shape equal values.
    """
    if isinstance(initializer, str):
        name, arguments = parse_initializer(initializer)
        if name == "constant":  # `from_config` fails without `value`, though it has a default.
            arguments = {"value": 0.0, **arguments}
        initializer = {"class_name": name, "config": arguments}
    original = keras.initializers.get(initializer)
    config = original.get_config() if isinstance(original, keras.initializers.Initializer) else {}
    if "seed" not in config:
        return original
    return type(original).from_config({**config, "seed": seed})
