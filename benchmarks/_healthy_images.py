"""Healthy trainings on images: from a dense network to small ones of `keras.applications`."""

import keras
import numpy as np
import tensorflow as tf
from _healthy_data import (
    BINARY,
    classifying,
    compiled,
    digits,
    gratings,
    healthy,
    share_right,
    stack,
    tells_apart,
    train,
)
from _runs_log import Log, reached
from keras import applications, ops
from keras import layers as L
from keras import optimizers as O


@healthy
def dense_digits(log: Log) -> str:
    """Two hidden layers, with validation; about 96% on new digits."""
    x, y, new_x, new_y = digits(images=False)
    model = classifying(stack((64,), *(L.Dense(64, "relu") for _ in "12"), L.Dense(10, "softmax")))
    train(model, x, y, log, epochs=15, validation_data=(new_x, new_y))
    return tells_apart(model, new_x, new_y)


@healthy
def convnet(log: Log) -> str:
    """Convolutions with batch normalization and pooling; about 97% on new digits."""
    x, y, new_x, new_y = digits()
    blocks = [
        layer
        for width in (16, 32)
        for layer in (
            L.Conv2D(width, 3, padding="same", use_bias=False),
            L.BatchNormalization(momentum=0.9),
            L.ReLU(),
            L.MaxPooling2D(),
        )
    ]
    model = classifying(stack((8, 8, 1), *blocks, L.Flatten(), L.Dense(10, "softmax")))
    train(model, x, y, log, epochs=6, validation_data=(new_x, new_y))
    return tells_apart(model, new_x, new_y)


def residual_network(blocks=2, width=24):
    """Residual blocks of convolutions."""
    inputs = keras.Input((8, 8, 1))
    path = L.Conv2D(width, 3, padding="same")(inputs)
    for _ in range(blocks):
        inner = path
        for activation in ("relu", None):
            inner = L.Conv2D(width, 3, padding="same", use_bias=False)(inner)
            inner = L.BatchNormalization(momentum=0.9)(inner)
            inner = L.Activation(activation)(inner)
        path = L.ReLU()(L.Add()([path, inner]))
    return keras.Model(inputs, L.Dense(10, "softmax")(L.GlobalAveragePooling2D()(path)))


@healthy
def residual(log: Log) -> str:
    """Four convolutions with skip connections; about 95% on new digits."""
    x, y, new_x, new_y = digits()
    model = classifying(residual_network(), O.Adam(3e-3))
    train(model, x, y, log, epochs=6, validation_data=(new_x, new_y))
    return tells_apart(model, new_x, new_y)


@healthy
def mobilenet(log: Log) -> str:
    """MobileNet with a quarter of its channels tells the directions of stripes."""
    x, y = gratings()
    model = applications.MobileNet(alpha=0.25, weights=None, input_shape=(32, 32, 3), classes=4)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.momentum = 0.8  # Keras' 0.99 is for trainings of thousands of steps.
    train(classifying(model, O.Adam(3e-3)), x, y, log, epochs=5)
    return tells_apart(model, x, y)


@healthy
def mobilenet_features(log: Log) -> str:
    """A new head on MobileNetV2, which is frozen; random features tell 76% of stripes apart."""
    x, y = gratings()
    options = {"include_top": False, "weights": None, "pooling": "avg"}
    base = applications.MobileNetV2((32, 32, 3), alpha=0.35, **options)
    for layer in base.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.momentum = 0.0
    base(x[:128], training=True)  # Its normalizations take their statistics from these.
    base.trainable = False
    inputs = keras.Input((32, 32, 3))
    outputs = L.Dense(4, "softmax")(L.Dense(64, "relu")(base(inputs, training=False)))
    model = keras.Model(inputs, outputs)
    train(classifying(model, O.Adam(3e-3)), x, y, log, epochs=8)
    return tells_apart(model, x, y, goal=0.7)


def shapes(rows=512, size=16):
    """Noisy images of bright rectangles, and which pixels belong to one."""
    rng = np.random.default_rng(2)
    masks = np.zeros((rows, size, size, 1), np.float32)
    for mask in masks:
        top, left = rng.integers(0, size - 5, 2)
        height, width = rng.integers(4, 9, 2)
        mask[top : top + height, left : left + width] = 1
    return (masks + rng.normal(size=masks.shape) * 0.7).astype(np.float32), masks


@healthy
def u_net(log: Log) -> str:
    """A U-Net finds rectangles under noise; about 98% of pixels are right."""
    x, y = shapes()
    inputs = keras.Input((16, 16, 1))
    options = {"padding": "same", "activation": "relu"}
    fine = L.Conv2D(8, 3, **options)(inputs)
    middle = L.Conv2D(16, 3, strides=2, **options)(fine)
    coarse = L.Conv2D(32, 3, strides=2, **options)(middle)
    path = L.Conv2DTranspose(16, 3, strides=2, **options)(coarse)
    path = L.Conv2D(16, 3, **options)(L.Concatenate()([path, middle]))
    path = L.Conv2DTranspose(8, 3, strides=2, **options)(path)
    path = L.Conv2D(8, 3, **options)(L.Concatenate()([path, fine]))
    model = compiled(keras.Model(inputs, L.Conv2D(1, 1, activation="sigmoid")(path)), BINARY)
    train(model, x, y, log, epochs=10)
    right = np.mean((np.array(model(x)) > 0.5) == y)
    return reached("pixels right", right, nothing=1 - y.mean(), goal=0.95)


@healthy
def autoencoder(log: Log) -> str:
    """Digits through 16 units."""
    x = digits(images=False)[0]
    widths = [L.Dense(64, "relu"), L.Dense(16), L.Dense(64, "relu"), L.Dense(64)]
    model = compiled(stack((64,), *widths), "mse", O.Adam(3e-3))
    train(model, x, x, log, epochs=25)
    error = np.mean((np.array(model(x)) - x) ** 2)
    return reached("squared error", error, nothing=np.mean(x.var(axis=0)), goal=0.02)


class Sampling(L.Layer):
    """Draws from the code's distribution, and adds its divergence from the prior as a loss."""

    def __init__(self):
        super().__init__()
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, inputs):
        """Draw."""
        mean, log_variance = inputs
        divergence = ops.exp(log_variance) + mean**2 - 1 - log_variance
        self.add_loss(0.5 * ops.mean(ops.sum(divergence, axis=-1)))
        noise = keras.random.normal(ops.shape(mean), seed=self.seeds)
        return mean + ops.exp(log_variance / 2) * noise


def reconstruction(x, outputs):
    """Binary cross-entropy, summed over the pixels."""
    return ops.sum(ops.binary_crossentropy(x, outputs), axis=-1)


def mean_image_loss(x):
    """The loss of always answering with the mean image."""
    mean = x.mean(axis=0).clip(1e-6, 1 - 1e-6)
    return float(-np.sum(x.mean(axis=0) * np.log(mean) + (1 - mean) * np.log(1 - mean)))


@healthy
def vae_add_loss(log: Log) -> str:
    """A variational autoencoder whose divergence is an added loss."""
    x = digits(images=False)[0]
    inputs = keras.Input((64,))
    hidden = L.Dense(64, "relu")(inputs)
    code = Sampling()([L.Dense(8)(hidden), L.Dense(8)(hidden)])
    model = keras.Model(inputs, L.Dense(64, "sigmoid")(L.Dense(64, "relu")(code)))
    train(compiled(model, reconstruction, O.Adam(3e-3)), x, x, log, epochs=20)
    loss = model.history.history["loss"][-1]
    return reached("loss", loss, nothing=mean_image_loss(x), goal=25.5)


class Variational(keras.Model):
    """A variational autoencoder with a `train_step` of its own and `tf.random`."""

    def __init__(self):
        super().__init__()
        self.encoder = stack((64,), L.Dense(64, "relu"), L.Dense(16))
        self.decoder = stack((8,), L.Dense(64, "relu"), L.Dense(64))
        self.tracker = keras.metrics.Mean("loss")

    @property
    def metrics(self):
        """The mean loss."""
        return [self.tracker]

    def train_step(self, x):
        """One update by the negative evidence lower bound."""
        with tf.GradientTape() as tape:
            mean, log_variance = tf.split(self.encoder(x, training=True), 2, axis=-1)
            code = mean + tf.exp(log_variance / 2) * tf.random.normal(tf.shape(mean))
            logits = self.decoder(code, training=True)
            loss = tf.nn.sigmoid_cross_entropy_with_logits(x, logits)
            divergence = 0.5 * (tf.exp(log_variance) + mean**2 - 1 - log_variance)
            loss = tf.reduce_mean(tf.reduce_sum(loss, -1) + tf.reduce_sum(divergence, -1))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}


@healthy
def vae_train_step(log: Log) -> str:
    """The same as a model of its own."""
    x = digits(images=False)[0]
    model = compiled(Variational(), None, O.Adam(3e-3))
    train(model, x, None, log, epochs=20)
    loss = model.history.history["loss"][-1]
    return reached("loss", loss, nothing=mean_image_loss(x), goal=25.5)


def patches(inputs, size=2):
    """Tokens of the patches of an image."""
    path = L.Conv2D(32, size, strides=size)(inputs)
    return L.Reshape((-1, 32))(path)


@healthy
def vision_transformer(log: Log) -> str:
    """A block over patches of 2 x 2 pixels."""
    x, y, new_x, new_y = digits()
    inputs = keras.Input((8, 8, 1))
    path = patches(inputs)
    path = path + L.Embedding(16, 32)(ops.arange(16))
    normal = L.LayerNormalization()(path)
    path = path + L.MultiHeadAttention(2, 16)(normal, normal)
    path = path + L.Dense(32)(L.Dense(64, "gelu")(L.LayerNormalization()(path)))
    model = keras.Model(inputs, L.Dense(10, "softmax")(L.Flatten()(path)))
    train(classifying(model, O.Adam(3e-3)), x, y, log, epochs=8, batch_size=64)
    return tells_apart(model, new_x, new_y)


@healthy
def mlp_mixer(log: Log) -> str:
    """A block that mixes patches, then channels."""
    x, y, new_x, new_y = digits()
    inputs = keras.Input((8, 8, 1))
    path = patches(inputs)
    turned = L.Permute((2, 1))(L.LayerNormalization()(path))
    path = path + L.Permute((2, 1))(L.Dense(16)(L.Dense(32, "gelu")(turned)))
    path = path + L.Dense(32)(L.Dense(64, "gelu")(L.LayerNormalization()(path)))
    model = keras.Model(inputs, L.Dense(10, "softmax")(L.Flatten()(path)))
    train(classifying(model, O.Adam(3e-3)), x, y, log, epochs=8, batch_size=64)
    return tells_apart(model, new_x, new_y)


def encoder():
    """From a digit to a vector of 16."""
    return stack((64,), L.Dense(64, "relu"), L.Dense(16), L.UnitNormalization())


def neighbours_right(model, x, y):
    """The share of examples whose nearest neighbour is of the same class."""
    codes = np.array(model(x))
    distances = np.square(codes[:, None] - codes[None]).sum(-1)
    np.fill_diagonal(distances, np.inf)
    return float(np.mean(y[distances.argmin(axis=1)] == y))


@healthy
def siamese(log: Log) -> str:
    """Two towers that share weights tell whether two digits are the same."""
    x, y = digits(images=False)[:2]
    rng = np.random.default_rng(0)
    one = rng.integers(0, len(x), 3000)
    other = np.array([rng.choice(np.flatnonzero(y == y[i])) for i in one])
    other[::2] = rng.integers(0, len(x), 1500)
    same = (y[one] == y[other])[:, None].astype(np.float32)
    inputs = [keras.Input((64,)), keras.Input((64,))]
    shared = encoder()
    distance = ops.norm(shared(inputs[0]) - shared(inputs[1]) + 1e-6, axis=-1, keepdims=True)

    def margin(same, distance):
        return same * distance**2 + (1 - same) * ops.relu(1 - distance) ** 2

    model = compiled(keras.Model(inputs, distance), margin, O.Adam(1e-3))
    train(model, [x[one], x[other]], same, log, epochs=8)
    right = np.mean((np.array(model([x[one], x[other]])) < 0.5) == same)
    return reached("pairs right", right, nothing=max(same.mean(), 1 - same.mean()), goal=0.9)


class Triplets(keras.Model):
    """Learns from an anchor, an example of its class and one of another, by a margin."""

    def __init__(self):
        super().__init__()
        self.encoder = encoder()

    def call(self, triplet):
        """How much nearer the own class has to come."""
        anchor, own, other = (self.encoder(x) for x in triplet)
        near, far = (ops.sum(ops.square(anchor - code), -1) for code in (own, other))
        return ops.relu(near - far + 0.5)


@healthy
def triplet(log: Log) -> str:
    """A triplet loss, which ends near 0 as ever fewer triplets break the margin."""
    x, y = digits(images=False)[:2]
    rng = np.random.default_rng(0)
    anchor, other = rng.integers(0, len(x), (2, 3000))
    anchor, other = anchor[y[anchor] != y[other]], other[y[anchor] != y[other]]
    own = np.array([rng.choice(np.flatnonzero(y == y[i])) for i in anchor])
    model = compiled(Triplets(), lambda _, loss: loss, O.Adam(1e-3))
    train(model, (x[anchor], x[own], x[other]), np.zeros(len(anchor)), log, epochs=8)
    right = neighbours_right(model.encoder, x, y)
    return reached("neighbours of the same class", right, nothing=0.1, goal=0.9)


class Contrastive(keras.Model):
    """SimCLR: two noisy views of an image are to find each other among those of others."""

    def __init__(self):
        super().__init__()
        self.encoder = encoder()

    def call(self, x):
        """InfoNCE at a temperature of 0.1."""
        one, other = (self.encoder(x + tf.random.normal(tf.shape(x)) * 0.3) for _ in range(2))
        logits = tf.matmul(one, other, transpose_b=True) / 0.1
        own = tf.range(tf.shape(x)[0])
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(own, logits))

    def train_step(self, x):
        """One update."""
        with tf.GradientTape() as tape:
            loss = self(x, training=True)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


@healthy
def simclr(log: Log) -> str:
    """Without labels, pairs are found; InfoNCE starts at the logarithm of the batch size."""
    x = digits(images=False)[0]
    model = compiled(Contrastive(), None, O.Adam(3e-3))
    train(model, x[:1280], None, log, epochs=15, batch_size=64)
    return reached("loss", float(model(x[:64])), nothing=np.log(64), goal=1.5)


@healthy
def noisy_labels(log: Log) -> str:
    """A third of the labels is wrong; the model gets to 97% of what the others are."""
    x, y, new_x, new_y = digits(images=False)
    rng = np.random.default_rng(0)
    noisy = np.where(rng.uniform(size=len(y)) < 1 / 3, rng.integers(0, 10, len(y)), y)
    layers = L.Dense(64, "relu", kernel_regularizer="l2"), L.Dropout(0.3), L.Dense(10, "softmax")
    model = classifying(stack((64,), *layers))
    train(model, x, noisy, log, epochs=15)
    return reached("true accuracy", share_right(model, new_x, new_y), nothing=0.1, goal=0.85)
