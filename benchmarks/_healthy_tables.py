"""Healthy trainings on tables, graphs and points, with many kinds of targets and losses."""

import keras
import numpy as np
import tensorflow as tf
from _healthy_data import (
    BINARY,
    SPARSE,
    classifying,
    compiled,
    explains,
    healthy,
    quadrants,
    stack,
    surface,
    table,
    tells_apart,
    train,
)
from _runs_log import Log, reached
from keras import layers as L
from keras import ops
from keras import optimizers as O


def regression(width=32, columns=8, outputs=1):
    """Two hidden layers, and numbers."""
    return stack((columns,), L.Dense(width, "relu"), L.Dense(width, "relu"), L.Dense(outputs))


@healthy
def tabular(log: Log) -> str:
    """Normalized numbers of different units, and categories as embeddings."""
    rng = np.random.default_rng(0)
    numbers = table() * [1, 10, 100, 1000, 1, 1, 5, 5] + 50
    categories = rng.integers(0, 12, (1000, 2))
    effect = rng.normal(size=(2, 12))
    y = surface((numbers - 50) / [1, 10, 100, 1000, 1, 1, 5, 5])
    y = y + (effect[0][categories[:, 0]] + effect[1][categories[:, 1]])[:, None]
    normalization = L.Normalization()
    normalization.adapt(numbers)
    inputs = keras.Input((8,)), keras.Input((2,), dtype="int32")
    codes = [L.Embedding(12, 4)(inputs[1][:, place]) for place in (0, 1)]
    path = L.Concatenate()([normalization(inputs[0]), *codes])
    path = L.Dense(64, "relu")(L.Dense(64, "relu")(path))
    model = compiled(keras.Model(inputs, L.Dense(1)(path)), "mse", O.Adam(3e-3))
    train(model, [numbers.astype(np.float32), categories], y, log, epochs=15)
    return explains(model, [numbers, categories], y)


def crosses(rows=2000, size=10):
    """Two categories, and a label that hangs on the pair."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, size, (rows, 2))
    return x, (rng.normal(size=(size, size))[x[:, 0], x[:, 1]] > 0).astype(np.float32)


def pairs_right(model, x, y):
    """The share of pairs that are told right."""
    right = np.mean((np.array(model(x))[:, 0] > 0.5) == y)
    return reached("accuracy", right, nothing=max(y.mean(), 1 - y.mean()), goal=0.9)


@healthy
def wide_and_deep(log: Log) -> str:
    """A linear model of crossed categories beside a deep one of their embeddings."""
    x, y = crosses()
    inputs = keras.Input((2,), dtype="int32")
    crossed = ops.one_hot(inputs[:, 0] * 10 + inputs[:, 1], 100)
    deep = L.Flatten()(L.Embedding(10, 8)(inputs))
    deep = L.Dense(1)(L.Dense(32, "relu")(deep))
    outputs = L.Activation("sigmoid")(L.Add()([L.Dense(1)(crossed), deep]))
    model = compiled(keras.Model(inputs, outputs), BINARY, O.Adam(5e-3))
    train(model, x, y, log, epochs=12)
    return pairs_right(model, x, y)


class Cross(L.Layer):
    """A layer of a deep and cross network: the inputs times a linear map of what came before."""

    def build(self, shapes):
        """Make the map."""
        self.dense = L.Dense(shapes[0][-1])
        self.dense.build(shapes[1])

    def call(self, inputs):
        """Cross."""
        first, before = inputs
        return first * self.dense(before) + before


@healthy
def deep_and_cross(log: Log) -> str:
    """A deep and cross network on the same categories."""
    x, y = crosses()
    inputs = keras.Input((2,), dtype="int32")
    codes = L.Flatten()(L.Embedding(10, 8)(inputs))
    crossed = Cross()([codes, Cross()([codes, codes])])
    path = L.Dense(32, "relu")(L.Concatenate()([crossed, L.Dense(32, "relu")(codes)]))
    model = keras.Model(inputs, L.Dense(1, "sigmoid")(path))
    train(compiled(model, BINARY, O.Adam(5e-3)), x, y, log, epochs=10)
    return pairs_right(model, x, y)


@healthy
def recommender(log: Log) -> str:
    """Ratings as products of the vectors of users and films."""
    rng = np.random.default_rng(0)
    users, films = rng.normal(size=(60, 3)), rng.normal(size=(40, 3))
    x = np.stack([rng.integers(0, 60, 3000), rng.integers(0, 40, 3000)], axis=-1)
    y = (users[x[:, 0]] * films[x[:, 1]]).sum(1, keepdims=True) / 3**0.5
    y = (y + rng.normal(size=y.shape) / 5).astype(np.float32)
    inputs = keras.Input((2,), dtype="int32")
    user, film = L.Embedding(60, 8)(inputs[:, 0]), L.Embedding(40, 8)(inputs[:, 1])
    model = keras.Model(inputs, ops.sum(user * film, axis=-1, keepdims=True))
    train(compiled(model, "mse", O.Adam(1e-2)), x, y, log, epochs=15)
    return explains(model, x, y, goal=0.85)


@healthy
def several_outputs(log: Log) -> str:
    """One body for a class and a number."""
    x, y = quadrants()
    number = surface(x)
    inputs = keras.Input((8,))
    path = L.Dense(64, "relu")(L.Dense(64, "relu")(inputs))
    outputs = {"kind": L.Dense(4, "softmax")(path), "number": L.Dense(1)(path)}
    losses = {"kind": SPARSE, "number": "mse"}
    metrics = {"kind": ["accuracy"], "number": ["mae"]}
    model = compiled(keras.Model(inputs, outputs), losses, O.Adam(3e-3), metrics=metrics)
    train(model, x, {"kind": y, "number": number}, log, epochs=12)
    explains(lambda x: model(x)["number"], x, number)
    return tells_apart(lambda x: model(x)["kind"], x, y)


@healthy
def several_labels(log: Log) -> str:
    """Five labels, each yes for a third of the rows or less."""
    x = table()
    y = (x @ np.random.default_rng(0).normal(size=(8, 5)) > 1.5).astype(np.float32)
    model = stack((8,), L.Dense(32, "relu"), L.Dense(5, "sigmoid"))
    train(compiled(model, BINARY, O.Adam(5e-3)), x, y, log, epochs=12)
    right = np.mean((np.array(model(x)) > 0.5) == y)
    return reached("labels right", right, nothing=1 - y.mean(), goal=0.95)


@healthy
def logistic_regression(log: Log) -> str:
    """A single layer; one label in ten is wrong."""
    x = table()
    wrong = np.random.default_rng(0).uniform(size=len(x)) < 0.1
    y = ((x[:, 0] - x[:, 1] > 0) ^ wrong).astype(np.float32)
    model = compiled(stack((8,), L.Dense(1, "sigmoid")), BINARY, O.SGD(0.3), metrics=["accuracy"])
    train(model, x, y, log, epochs=8)
    right = np.mean((np.array(model(x))[:, 0] > 0.5) == y)
    return reached("accuracy", right, nothing=max(y.mean(), 1 - y.mean()), goal=0.87)


@healthy
def linear_regression(log: Log) -> str:
    """A single layer by full batches; the loss comes down to what the noise leaves."""
    x = table()
    noise = np.random.default_rng(0).normal(size=(1000, 1)) / 3
    y = (x @ np.linspace(-1, 1, 8)[:, None] + noise).astype(np.float32)
    model = compiled(stack((8,), L.Dense(1)), "mse", O.SGD(0.1))
    train(model, x, y, log, epochs=60, batch_size=1000)
    return explains(model, x, y, goal=0.95)


@healthy
def noisy_regression(log: Log) -> str:
    """The inputs explain 5% of the targets' variance, and no model more than that."""
    x = table(rows=6000)
    noise = np.random.default_rng(0).normal(size=(6000, 1)) * 19**0.5
    y = ((x[:, :1] + noise) / 20**0.5).astype(np.float32)
    model = compiled(stack((8,), L.Dense(8, "relu"), L.Dense(1)), "mse", O.Adam(3e-3))
    train(model, x, y, log, epochs=6)
    return explains(model, x, y, goal=0.045)


@healthy
def poisson(log: Log) -> str:
    """Counts, by the exponential of a network."""
    x = table()
    truth = np.exp(0.6 * np.sin(x[:, :1]) + 0.5 * x[:, 1:2] + 0.5)
    y = np.random.default_rng(0).poisson(truth).astype(np.float32)
    model = stack((8,), L.Dense(32, "relu"), L.Dense(1, "exponential"))
    train(compiled(model, "poisson", O.Adam(3e-3)), x, y, log, epochs=12)
    return explains(model, x, truth, goal=0.75)


@healthy
def quantile(log: Log) -> str:
    """The upper decile of noisy targets, by the pinball loss."""
    x = table(rows=2000)
    y = surface(x) + np.random.default_rng(0).normal(size=(2000, 1)).astype(np.float32) / 2

    def pinball(truth, guess):
        return ops.mean(ops.maximum(0.9 * (truth - guess), 0.1 * (guess - truth)), axis=-1)

    model = compiled(regression(), pinball, O.Adam(3e-3))
    train(model, x, y, log, epochs=12)
    loss = float(np.mean(pinball(y, np.array(model(x)))))
    nothing = float(np.mean(pinball(y, np.full_like(y, np.quantile(y, 0.9)))))
    return reached("pinball loss", loss, nothing=nothing, goal=0.6 * nothing)


@healthy
def huber(log: Log) -> str:
    """Targets of which 2% are outliers, which the loss does not follow."""
    x = table()
    truth, rng = surface(x), np.random.default_rng(0)
    outlier = rng.uniform(size=truth.shape) < 0.02
    y = np.where(outlier, rng.normal(size=truth.shape) * 10, truth).astype(np.float32)
    model = compiled(regression(), keras.losses.Huber(0.5), O.Adam(3e-3))
    train(model, x, y, log, epochs=15)
    return explains(model, x, truth, goal=0.85)


@healthy
def unknown_variance(log: Log) -> str:
    """Mean and variance of a normal distribution; its negative log-likelihood gets negative."""
    x = table(rows=2000)
    spread = np.exp(x[:, 4:5] / 2 - 2)
    y = x[:, :1] + spread * np.random.default_rng(0).normal(size=(2000, 1))

    def likelihood(truth, outputs):
        mean, log_scale = outputs[:, :1], outputs[:, 1:]
        return ops.mean(log_scale + 0.5 * ((truth - mean) * ops.exp(-log_scale)) ** 2, axis=-1)

    model = compiled(regression(outputs=2), likelihood, O.Adam(2e-3, clipnorm=5.0))
    train(model, x, y.astype(np.float32), log, epochs=12)
    nothing = float(np.log(y.std()) + 0.5)
    return reached("loss", model.history.history["loss"][-1], nothing=nothing, goal=-0.8)


@healthy
def class_weights(log: Log) -> str:
    """One row in twelve is yes, and weighs eleven times as much."""
    x = table(rows=3000)
    y = (x[:, 0] + x[:, 1] > 1.95).astype(np.float32)
    model = stack((8,), L.Dense(32, "relu"), L.Dense(1, "sigmoid"))
    compiled(model, BINARY, O.Adam(3e-3), metrics=["accuracy", "AUC"])
    train(model, x, y, log, epochs=6, class_weight={0: 1.0, 1: 11.0})
    yes = np.array(model(x))[:, 0] > 0.5
    balanced = (np.mean(yes[y == 1]) + np.mean(~yes[y == 0])) / 2
    return reached("balanced accuracy", balanced, nothing=0.5, goal=0.95)


def graphs(rows=400, nodes=12):
    """Random graphs, and of each node whether an even number of its edges goes to marked ones."""
    rng = np.random.default_rng(0)
    edges = np.triu(rng.uniform(size=(rows, nodes, nodes)) < 0.15, 1)
    edges = (edges | edges.transpose(0, 2, 1)).astype(np.float32)
    marks = rng.integers(0, 2, (rows, nodes, 1)).astype(np.float32)
    more = edges @ marks > edges @ (1 - marks)
    return edges, np.concatenate([marks, np.ones_like(marks)], -1), more[..., 0].astype(int)


@healthy
def graph_network(log: Log) -> str:
    """Messages along edges tell of each node whether most of its neighbours are marked."""
    edges, marks, y = graphs()
    inputs = keras.Input((12, 12)), keras.Input((12, 2))
    path = L.Dense(32, "relu")(inputs[1])
    for _ in range(2):
        messages = ops.matmul(inputs[0], L.Dense(32)(path))
        path = L.LayerNormalization()(path + L.Dense(32, "relu")(messages))
    model = keras.Model(inputs, L.Dense(2, "softmax")(path))
    train(classifying(model, O.Adam(5e-3)), [edges, marks], y, log, epochs=15)
    return tells_apart(model, [edges, marks], y)


def moons(rows=2000):
    """Points on two half circles, scaled to unit variance."""
    rng = np.random.default_rng(0)
    angle, upper = rng.uniform(0, np.pi, rows), rng.integers(0, 2, rows)
    points = np.stack([np.cos(angle) + 1 - upper, np.sin(angle) - (1 - upper) / 2], -1)
    points = np.where(
        upper[:, None], points, [1, 0.5] - np.stack([np.cos(angle), np.sin(angle)], -1)
    )
    points = points + rng.normal(size=points.shape) / 20
    return ((points - points.mean(0)) / points.std(0)).astype(np.float32)


class OwnLoss(keras.Model):
    """A model whose outputs are its loss."""

    def train_step(self, x):
        """One update."""
        with tf.GradientTape() as tape:
            loss = self(x, training=True)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


class Diffusion(OwnLoss):
    """Finds the noise in points that are noisy by degrees."""

    def __init__(self):
        super().__init__()
        self.network = regression(64, columns=4, outputs=2)

    def call(self, points):
        """The squared error at a random time for each point."""
        time = tf.random.uniform([tf.shape(points)[0], 1]) * np.pi / 2
        noise = tf.random.normal(tf.shape(points))
        noisy = tf.cos(time) * points + tf.sin(time) * noise
        clock = tf.concat([tf.sin(time), tf.cos(time)], axis=-1)
        return tf.reduce_mean((self.network(tf.concat([noisy, clock], axis=-1)) - noise) ** 2)


@healthy
def diffusion(log: Log) -> str:
    """The noise in points on two moons; what cannot be told from points leaves 0.3 or so."""
    points = moons()
    model = compiled(Diffusion(), None, O.Adam(3e-3))
    train(model, points, None, log, epochs=10)
    return reached("squared error", float(model(points)), nothing=1, goal=0.5)


class Score(OwnLoss):
    """An energy, by denoising score matching."""

    def __init__(self):
        super().__init__()
        self.network = stack((2,), L.Dense(64, "swish"), L.Dense(64, "swish"), L.Dense(1))

    def call(self, points):
        """The squared error of the slope, scaled so that it is 1 for no slope."""
        noise = tf.random.normal(tf.shape(points))
        noisy = points + 0.3 * noise
        with tf.GradientTape() as tape:
            tape.watch(noisy)
            energy = self.network(noisy)
        slope = tape.gradient(energy, noisy)
        return tf.reduce_mean((noise - 0.3 * slope) ** 2)


@healthy
def energy(log: Log) -> str:
    """An energy whose slope leads noisy points back to the moons."""
    points = moons()
    model = compiled(Score(), None, O.Adam(3e-3))
    train(model, points, None, log, epochs=10)
    return reached("squared error", float(model(points)), nothing=1, goal=0.85)


class Flow(keras.Model):
    """Affine coupling layers, which turn points into normal ones."""

    def __init__(self, couplings=4):
        super().__init__()
        self.networks = [
            stack((1,), L.Dense(32, "relu"), L.Dense(2, kernel_initializer="zeros"))
            for _ in range(couplings)
        ]

    def call(self, points):
        """The normal points, and the logarithm of how much volumes grow."""
        one, other = points[:, :1], points[:, 1:]
        growth = 0.0
        for network in self.networks:
            scale, shift = ops.split(network(one), 2, axis=-1)
            scale = ops.tanh(scale)
            one, other = other * ops.exp(scale) + shift, one
            growth = growth + scale
        return ops.concatenate([one, other, growth], axis=-1)


@healthy
def normalizing_flow(log: Log) -> str:
    """The likelihood of points on two moons; the networks of the flow begin at zero."""
    points = moons()

    def likelihood(_, outputs):
        return ops.sum(outputs[:, :2] ** 2, axis=-1) / 2 - outputs[:, 2] + np.log(2 * np.pi)

    model = compiled(Flow(), likelihood, O.Adam(5e-3))
    train(model, points, points, log, epochs=15)
    nothing = float(1 + np.log(2 * np.pi))  # Of points that are taken as normal.
    return reached("loss", model.history.history["loss"][-1], nothing=nothing, goal=nothing - 0.5)
