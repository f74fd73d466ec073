"""What the healthy cases share: how they are listed, their data, and how far they get."""

from collections.abc import Callable

import _common_tf  # noqa: F401 - imports TensorFlow quietly
import keras
import numpy as np
from _runs_log import Log, reached
from keras import layers as L

from mnist_vg import datasets

HEALTHY: dict[str, Callable[[Log], str]] = {}
"""Every case, by its name."""

SPARSE = "sparse_categorical_crossentropy"
BINARY = "binary_crossentropy"


def healthy(case):
    """List a function as a case."""
    HEALTHY[case.__name__] = case
    return case


def stack(shape, *layers) -> keras.Sequential:
    """A stack of layers on inputs of a shape."""
    return keras.Sequential([keras.Input(shape), *layers])


def compiled(model, loss, optimizer="adam", **options) -> keras.Model:
    """The model, compiled without XLA, whose compiling would take longer than the training."""
    model.compile(optimizer, loss, jit_compile=False, **options)
    return model


def classifying(model, optimizer="adam", **options) -> keras.Model:
    """The model, compiled to tell classes apart."""
    return compiled(model, SPARSE, optimizer, metrics=["accuracy"], **options)


def train(model, x, y, log, name="run", callbacks=(), **options) -> None:
    """Train a model, logged to the run of that name."""
    model.fit(x, y, verbose=0, callbacks=[log.callback(name), *callbacks], **options)


def share_right(model, x, y) -> float:
    """The share of examples whose likeliest class is the right one."""
    return float(np.mean(np.argmax(model(x), axis=-1) == y))


def tells_apart(model, x, y, goal=0.9) -> str:
    """What a classifier has reached on examples."""
    chance = np.bincount(np.ravel(y)).max() / np.size(y)
    return reached("accuracy", share_right(model, x, y), nothing=chance, goal=goal)


def explains(model, x, y, goal=0.9) -> str:
    """What a regression has reached: the share of the targets' variance that it explains."""
    share = 1 - np.mean((np.array(model(x)) - y) ** 2) / np.mean((y - y.mean(0)) ** 2)
    return reached("explained variance", float(share), nothing=0, goal=goal)


def digits(images=True):
    """The digits of 8 x 8 pixels: training images and labels, test images and labels."""
    dataset = datasets.load("digits")
    shape = (-1, 8, 8, 1) if images else (-1, 64)
    train, test = dataset.train, dataset.test
    return train.inputs.reshape(shape), train.labels, test.inputs.reshape(shape), test.labels


def gratings(rows=512, size=32, classes=4):
    """Coloured stripes under noise, and the class of their direction."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, classes, rows)
    across, down = np.meshgrid(np.arange(size), np.arange(size))
    angle = np.pi * y[:, None, None] / classes
    phase = rng.uniform(0, 6, (rows, 1, 1))
    waves = np.sin((np.cos(angle) * across + np.sin(angle) * down) * 0.8 + phase)
    noise = rng.normal(size=(rows, size, size, 3))
    return (waves[..., None] * rng.uniform(0.5, 1, 3) + noise / 2).astype(np.float32), y


def table(rows=1000, columns=8, seed=2):
    """Rows of standard normal numbers."""
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


def surface(x):
    """A smooth function of the first columns of a table, of unit scale, `[rows, 1]`."""
    y = np.sin(x[:, 0]) + x[:, 1] * x[:, 2] / 2 + x[:, 3]
    return ((y - y.mean()) / y.std())[:, None].astype(np.float32)


def quadrants(rows=1500, seed=3):
    """A table, and which of four classes the signs of a bent surface make of each row."""
    x = table(rows, seed=seed)
    return x, 2 * (x[:, 0] * x[:, 1] > 0) + (x[:, 2] + x[:, 3] ** 2 > 1)


def perceptron(width=32, activation="relu", classes=4, columns=8, hidden=2, **options):
    """A classifier of dense layers."""
    layers = (L.Dense(width, activation, **options) for _ in range(hidden))
    return stack((columns,), *layers, L.Dense(classes, "softmax"))


def sequences(rows=1500, length=16, words=20, seed=4):
    """Words, and whether the word 1 comes more often than the word 2; ties have the label 0."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, words, (rows, length))
    x = np.where(rng.uniform(size=x.shape) < 0.4, rng.integers(1, 3, x.shape), x)
    return x, ((x == 1).sum(1) > (x == 2).sum(1)).astype(int)


def waves(rows=600, length=24, seed=5):
    """Noisy sine waves of random rates, `[rows, length, 1]`, and the value that comes next."""
    rng = np.random.default_rng(seed)
    rate, phase = rng.uniform(0.2, 0.8, (rows, 1)), rng.uniform(0, 6, (rows, 1))
    values = np.sin(rate * np.arange(length + 1) + phase) + rng.normal(size=(rows, length + 1)) / 10
    return values[:, :-1, None].astype(np.float32), values[:, -1:].astype(np.float32)
