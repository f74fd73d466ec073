"""The example of the symptom "no gradient": a model of Keras, as no scenario has such a layer."""

from pathlib import Path

import keras
import numpy as np

from mnist_vg import GradientLogger, Run


def network(choose) -> keras.Model:
    """An encoder that chooses one of 16 codes, and a decoder."""
    inputs = keras.Input((8,))
    code = choose(keras.layers.Dense(16, name="encoder")(inputs))
    hidden = keras.layers.Dense(16, "relu", name="hidden")(code)
    return keras.Model(inputs, keras.layers.Dense(1, name="decoder")(hidden))


def argmax(scores):
    """The code with the largest score, without a gradient."""
    return keras.ops.one_hot(keras.ops.argmax(scores, axis=-1), 16)


def softmax(scores):
    """A share of each code, with a gradient."""
    return keras.ops.softmax(scores)


def train(choose, logdir: Path) -> Run:
    """Train the network to repeat its first input, and return the run."""
    keras.utils.set_random_seed(0)
    inputs = np.random.default_rng(0).normal(size=(8192, 8)).astype(np.float32)
    model = network(choose)
    model.compile("adam", "mse")
    folder = logdir / choose.__name__
    logger = GradientLogger(folder, every=20, measures="full", overwrite=True)
    options = {"batch_size": 256, "epochs": 20, "shuffle": False, "verbose": 0}
    model.fit(inputs, inputs[:, :1], callbacks=[logger], **options)
    return Run.load(folder)
