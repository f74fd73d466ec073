"""Healthy trainings of simple networks under many settings: optimizers, schedules, lengths."""

import functools

import keras
import numpy as np
import tensorflow as tf
from _healthy_data import (
    HEALTHY,
    SPARSE,
    classifying,
    compiled,
    digits,
    explains,
    healthy,
    perceptron,
    quadrants,
    stack,
    surface,
    table,
    tells_apart,
    train,
)
from _runs_log import Log
from keras import callbacks
from keras import layers as L
from keras import optimizers as O


def learns_quadrants(log, model=None, optimizer="adam", goal=0.9, epochs=15, **options) -> str:
    """Train a classifier of quadrants."""
    x, y = quadrants()
    model = classifying(model or perceptron(), optimizer)
    train(model, x, y, log, epochs=epochs, **options)
    return tells_apart(model, x, y, goal)


OPTIMIZERS = {
    "sgd_momentum": lambda: O.SGD(0.03, momentum=0.9),
    "rmsprop": lambda: O.RMSprop(3e-3),
    "adagrad": lambda: O.Adagrad(0.1),
    "lion": lambda: O.Lion(1e-3),
    "adamw": lambda: O.AdamW(3e-3, weight_decay=0.01),
    "adafactor": lambda: O.Adafactor(0.06),
    "sgd_clipped": lambda: O.SGD(0.1, momentum=0.9, clipnorm=0.2),
    "adam_accumulated": lambda: O.Adam(1e-2, gradient_accumulation_steps=4),
}


def by_optimizer(make, log: Log) -> str:
    """A classifier under an optimizer."""
    return learns_quadrants(log, optimizer=make())


HEALTHY |= {name: functools.partial(by_optimizer, make) for name, make in OPTIMIZERS.items()}


@healthy
def with_xla(log: Log) -> str:
    """As Keras compiles by default."""
    x, y = quadrants()
    model = perceptron()
    model.compile(O.Adam(3e-3), SPARSE, metrics=["accuracy"])
    train(model, x, y, log, epochs=15)
    return tells_apart(model, x, y)


@healthy
def cosine_decay(log: Log) -> str:
    """The learning rate warms up, and decays to 0."""
    rate = O.schedules.CosineDecay(0.0, 600, warmup_target=1e-2, warmup_steps=60)
    return learns_quadrants(log, optimizer=O.Adam(rate))


@healthy
def plateau(log: Log) -> str:
    """Callbacks lower the rate on a plateau, and stop early."""
    x, y = quadrants(3000)
    model = classifying(perceptron(64), O.Adam(5e-3))
    options = {"monitor": "val_loss", "patience": 3}
    both = callbacks.ReduceLROnPlateau(**options), callbacks.EarlyStopping(**options)
    train(model, x, y, log, callbacks=both, epochs=20, validation_split=0.2)
    return tells_apart(model, x, y)


@healthy
def small_batches(log: Log) -> str:
    """Batches of four: the loss of each is mostly noise."""
    return learns_quadrants(log, optimizer=O.Adam(3e-3), epochs=4, batch_size=4)


@healthy
def batches_of_two(log: Log) -> str:
    """Batches of two, with momentum."""
    return learns_quadrants(log, optimizer=O.SGD(3e-3, momentum=0.9), epochs=3, batch_size=2)


@healthy
def full_batch(log: Log) -> str:
    """One batch of all examples."""
    return learns_quadrants(log, optimizer=O.Adam(2e-2), epochs=120, batch_size=1500)


@healthy
def one_epoch(log: Log) -> str:
    """One pass over many examples, which is all that it takes."""
    x, y = quadrants(12000)
    model = classifying(perceptron(64), O.Adam(5e-3))
    train(model, x, y, log, epochs=1, batch_size=16)
    return tells_apart(model, x, y)


@healthy
def many_epochs(log: Log) -> str:
    """Long after it has learned: the last epochs change next to nothing."""
    return learns_quadrants(log, optimizer=O.Adam(3e-3), epochs=80, batch_size=64)


def normalized(depth, width=32):
    """Dense layers with batch normalization."""
    layers = [
        layer
        for _ in range(depth)
        for layer in (
            L.Dense(width, use_bias=False),
            L.BatchNormalization(momentum=0.9),
            L.ReLU(),
        )
    ]
    return stack((8,), *layers, L.Dense(4, "softmax"))


@healthy
def batch_normalization(log: Log) -> str:
    """Four normalized layers."""
    return learns_quadrants(log, normalized(4), O.Adam(5e-3))


@healthy
def layer_normalization(log: Log) -> str:
    """Three layers, each with layer normalization, and swish."""
    parts = [part for _ in range(3) for part in (L.Dense(32, "swish"), L.LayerNormalization())]
    return learns_quadrants(log, stack((8,), *parts, L.Dense(4, "softmax")), O.Adam(3e-3))


@healthy
def self_normalizing(log: Log) -> str:
    """Five SELU layers with LeCun's initializer."""
    model = perceptron(activation="selu", hidden=5, kernel_initializer="lecun_normal")
    return learns_quadrants(log, model, O.Adam(2e-3))


@healthy
def dropout(log: Log) -> str:
    """Half of the units are dropped."""
    layers = [part for _ in range(2) for part in (L.Dense(128, "relu"), L.Dropout(0.5))]
    return learns_quadrants(log, stack((8,), *layers, L.Dense(4, "softmax")), O.Adam(5e-3))


@healthy
def mixed_precision(log: Log) -> str:
    """float16, with a loss scale."""
    keras.config.set_dtype_policy("mixed_float16")
    layers = (L.Dense(64, "relu") for _ in range(2))
    model = stack((8,), *layers, L.Dense(4, "softmax", dtype="float32"))
    return learns_quadrants(log, model, O.Adam(3e-3))


class ReZero(L.Layer):
    """A residual branch times a number that begins at 0."""

    def build(self, shape):
        """Make the branch."""
        self.dense = L.Dense(shape[-1], "relu")
        self.dense.build(shape)
        self.gate = self.add_weight(shape=(), initializer="zeros")

    def call(self, inputs):
        """Add the branch."""
        return inputs + self.gate * self.dense(inputs)


@healthy
def rezero(log: Log) -> str:
    """Six residual branches that begin as nothing."""
    branches = (ReZero() for _ in range(6))
    return learns_quadrants(
        log, stack((8,), L.Dense(32), *branches, L.Dense(4, "softmax")), O.Adam(5e-3)
    )


@healthy
def fixup(log: Log) -> str:
    """Residual branches whose last kernel begins at zero, and a head of zeros."""
    inputs = keras.Input((8,))
    path = L.Dense(32)(inputs)
    for _ in range(4):
        inner = L.Dense(32, "relu")(path)
        path = path + L.Dense(32, kernel_initializer="zeros")(inner)
    outputs = L.Dense(4, "softmax", kernel_initializer="zeros")(path)
    return learns_quadrants(log, keras.Model(inputs, outputs), O.Adam(3e-3))


@healthy
def by_steps(log: Log) -> str:
    """An endless dataset, several steps in one execution."""
    x, y = quadrants()
    batches = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(1500, seed=1).repeat().batch(32)
    model = classifying(perceptron(), O.Adam(5e-3), steps_per_execution=5)
    model.fit(batches, steps_per_epoch=50, epochs=10, verbose=0, callbacks=[log.callback()])
    return tells_apart(model, x, y)


def pretrained(log, name="first", rate=3e-3):
    """A classifier of digits that has learned, and its data."""
    x, y, new_x, new_y = digits(images=False)
    model = stack((64,), L.Dense(64, "relu"), L.Dense(64, "relu"), L.Dense(10, "softmax"))
    train(classifying(model, O.Adam(rate)), x, y, log, name=name, epochs=12)
    return model, x, y, new_x, new_y


@healthy
def fine_tuning(log: Log) -> str:
    """A finished model goes on at a rate of 1e-4, and has next to nothing left to learn."""
    model, x, y, new_x, new_y = pretrained(log)
    train(classifying(model, O.Adam(1e-4)), x, y, log, name="tuned", epochs=5)
    return tells_apart(model, new_x, new_y)


@healthy
def gentle_fine_tuning(log: Log) -> str:
    """The same at 1e-5: weights hardly move, and are not to."""
    model, x, y, new_x, new_y = pretrained(log)
    train(classifying(model, O.Adam(1e-5)), x, y, log, name="tuned", epochs=5)
    return tells_apart(model, new_x, new_y)


@healthy
def converged(log: Log) -> str:
    """A converged regression goes on: its loss is what the noise leaves, from the start."""
    x = table()
    y = surface(x) + np.random.default_rng(0).normal(size=(1000, 1)).astype(np.float32) / 2
    model = stack((8,), L.Dense(16, "relu", kernel_regularizer="l2"), L.Dense(1))
    compiled(model, "mse", O.Adam(5e-3))
    train(model, x, y, log, name="first", epochs=20)
    train(model, x, y, log, name="again", epochs=8)
    return explains(model, x, y, goal=0.5)


@healthy
def frozen_base(log: Log) -> str:
    """A new head on frozen layers tells even digits from odd ones."""
    model, x, y, new_x, new_y = pretrained(log)
    for layer in model.layers:
        layer.trainable = False
    features = model.layers[-2].output
    head = keras.Model(model.inputs, L.Dense(2, "softmax")(features))
    train(classifying(head, O.Adam(1e-2)), x, y % 2, log, name="head", epochs=10)
    return tells_apart(head, new_x, new_y % 2)


@healthy
def physics_informed(log: Log) -> str:
    """A network solves y' = -y, y(0) = 1 by the equation alone."""
    x = np.linspace(0, 2, 256, dtype=np.float32)[:, None]
    network = stack((1,), L.Dense(32, "tanh"), L.Dense(32, "tanh"), L.Dense(1))
    model = compiled(Decay(network), None, O.Adam(5e-3))
    train(model, x, None, log, epochs=25)
    return explains(network, x, np.exp(-x), goal=0.98)


class Decay(keras.Model):
    """Learns a function by its differential equation."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def train_step(self, x):
        """One update by the equation and the value at 0."""
        with tf.GradientTape() as tape:
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = self.network(x)
            slope = inner.gradient(y, x)
            start = self.network(tf.zeros([1, 1]))
            loss = tf.reduce_mean((slope + y) ** 2) + tf.reduce_mean((start - 1) ** 2)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}
