"""Models with one fault each and their twins without it, and healthy models of many kinds.

Each case is a function that gives a compiled model, its inputs and its targets. Cases with a
fault take whether it is in.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers as L
from keras import losses, ops
from keras import optimizers as O
from keras.initializers import Constant as constant
from keras.initializers import Orthogonal as orthogonal

ROWS = 64
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(ROWS, 6)).astype(np.float32)
SERIES = RNG.normal(size=(ROWS, 7, 4)).astype(np.float32)
IMAGES = RNG.uniform(size=(ROWS, 8, 8, 3)).astype(np.float32)
WORDS = RNG.integers(0, 30, (ROWS, 9))
CLASSES = np.arange(ROWS) % 3
ONE_HOT = np.eye(3, dtype=np.float32)[CLASSES]
YES = (np.arange(ROWS) % 2).astype(np.float32)
NUMBERS = (VECTORS @ RNG.normal(size=(6, 1)) / 2).astype(np.float32)
SPARSE = "sparse_categorical_crossentropy"
BINARY = "binary_crossentropy"


def network(*stack, inputs=VECTORS, loss="mse", optimizer=None) -> keras.Model:
    """A compiled stack of layers."""
    model = keras.Sequential([keras.Input(inputs.shape[1:], dtype=inputs.dtype.name), *stack])
    model.compile(optimizer or O.Adam(), loss, jit_compile=False)
    return model


def classifier(head=None, loss=SPARSE, **options) -> keras.Model:
    """A hidden layer and a head."""
    hidden = L.Dense(16, "relu", name="hidden")
    return network(hidden, head or L.Dense(3, "softmax", name="head"), loss=loss, **options)


def logits(loss, **options) -> losses.Loss:
    """A loss of logits."""
    return loss(from_logits=True, **options)


def deep(activation, depth=6, scale=0.15) -> keras.Model:
    """A stack of equal layers, and one for a number; `scale` is that of the weights."""
    weights = (keras.initializers.RandomNormal(0, scale) for _ in range(depth))
    return network(*(L.Dense(64, activation, kernel_initializer=w) for w in weights), L.Dense(1))


class Cut(L.Layer):
    """Applies a function without a gradient."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        """Apply it."""
        return self.function(inputs)


class Unused(keras.Model):
    """Computes a layer whose output goes nowhere."""

    def __init__(self, sick):
        super().__init__()
        self.sick, self.side, self.head = sick, L.Dense(16, "relu"), L.Dense(1)

    def call(self, inputs):
        """Use the side, or leave it out."""
        side = self.side(inputs)
        return self.head(inputs if self.sick else side)


def unused(sick):
    """A subclassed model, which is built by its first call."""
    model = Unused(sick)
    model.compile("adam", "mse")
    return model, VECTORS, NUMBERS


def with_cut(function, sick):
    """A function between two layers."""
    cut = [Cut(function)] if sick else []
    return network(L.Dense(16, "tanh", name="before"), *cut, L.Dense(16, "relu"), L.Dense(1))


def on_images(scale):
    """A small convolutional network."""
    stack = L.Conv2D(8, 3, activation="relu"), L.Flatten(), L.Dense(3, "softmax")
    return network(*stack, inputs=IMAGES, loss=SPARSE), (IMAGES * 255).round() * scale, CLASSES


def two_layers(initializer):
    """Two hidden layers of one initializer."""
    hidden = [L.Dense(6, "relu", kernel_initializer=initializer()) for _ in range(2)]
    return network(*hidden, L.Dense(1)), VECTORS, NUMBERS


def towers(sick):
    """The mean of two networks, which may begin as copies."""
    inputs = keras.Input((6,))
    one, other = (
        L.Dense(8, "tanh", kernel_initializer=keras.initializers.GlorotUniform(seed))(inputs)
        for seed in (1, 1 if sick else 2)
    )
    model = keras.Model(inputs, L.Dense(1)(L.Average()([one, other])))
    model.compile("adam", "mse")
    return model, VECTORS, NUMBERS


def recurrent(layer):
    """A recurrent classifier."""
    return network(layer, L.Dense(3, "softmax"), inputs=SERIES, loss=SPARSE), SERIES, CLASSES


def trained_by(optimizer):
    """A regression."""
    stack = L.Dense(32, "relu"), L.Dense(32, "relu"), L.Dense(1)
    return network(*stack, optimizer=optimizer), VECTORS, NUMBERS


def frozen(sick):
    """A network whose layers may all be frozen."""
    model = classifier()
    for layer in model.layers[: None if sick else 1]:
        layer.trainable = False
    model.compile("adam", SPARSE)
    return model, VECTORS, CLASSES


def half(sick):
    """A network in float16."""
    policy = keras.DTypePolicy("mixed_float16")
    model = keras.Sequential([keras.Input((6,)), L.Dense(8, "relu", dtype=policy), L.Dense(1)])
    model.compile(O.Adam() if sick else O.LossScaleOptimizer(O.Adam()), "mse")
    return model, VECTORS, NUMBERS


def spoilt(values, value):
    """A copy with one other value."""
    values = values.copy()
    values.flat[7] = value
    return values


def rows(count):
    """As many random examples, of which the last 2% are yes."""
    x = np.random.default_rng(1).normal(size=(count, 6)).astype(np.float32)
    return x, (np.arange(count) >= 0.98 * count).astype(np.float32)


def rare(sick):
    """A detector."""
    x, y = rows(1000)
    return classifier(L.Dense(1, "sigmoid"), BINARY), x, y if sick else np.arange(1000) % 2


def padded(layer=None, front=False, mask_zero=False):
    """A recurrent layer that reads nine words and sixty times their padding."""
    x = np.pad(1 + WORDS % 29, [(0, 0), (60, 0) if front else (0, 60)])
    embedding = L.Embedding(30, 8, mask_zero=mask_zero)
    return network(embedding, layer or L.GRU(8), L.Dense(1), inputs=x), x, NUMBERS


def long_series(layer):
    """A recurrent layer and 150 time steps."""
    x = np.random.default_rng(1).normal(size=(ROWS, 150, 2)).astype(np.float32)
    return network(layer, L.Dense(1), inputs=x), x, NUMBERS


FAULTS = {
    "softmax over one unit": (
        "softmax over one unit",
        lambda sick: (
            classifier(L.Dense(1, "softmax" if sick else "sigmoid"), BINARY),
            VECTORS,
            YES,
        ),
    ),
    "categorical loss on one unit": (
        "on one output unit",
        lambda sick: (
            classifier(L.Dense(1, "sigmoid"), "categorical_crossentropy" if sick else BINARY),
            VECTORS,
            YES[:, None],
        ),
    ),
    "sparse loss on one unit": (
        "on one output unit",
        lambda sick: (classifier(L.Dense(1, "sigmoid"), SPARSE if sick else BINARY), VECTORS, YES),
    ),
    "softmax and from_logits": (
        "probabilities already",
        lambda sick: (
            network(
                L.Dense(3, "softmax" if sick else None),
                L.Reshape((3,)),
                loss=logits(losses.SparseCategoricalCrossentropy),
            ),
            VECTORS,
            CLASSES,
        ),
    ),
    "sigmoid and from_logits": (
        "probabilities already",
        lambda sick: (
            classifier(L.Dense(1, "sigmoid" if sick else None), logits(losses.BinaryCrossentropy)),
            VECTORS,
            YES,
        ),
    ),
    "logits where probabilities are wanted, two classes": (
        "wants probabilities",
        lambda sick: (classifier(L.Dense(1, None if sick else "sigmoid"), BINARY), VECTORS, YES),
    ),
    "logits where probabilities are wanted": (
        "wants probabilities",
        lambda sick: (classifier(L.Dense(3, None if sick else "softmax")), VECTORS, CLASSES),
    ),
    "sigmoids where one class is wanted": (
        "add up to",
        lambda sick: (classifier(L.Dense(3, "sigmoid" if sick else "softmax")), VECTORS, CLASSES),
    ),
    "labels from 1": (
        "units stand for",
        lambda sick: (classifier(), VECTORS, CLASSES + sick),
    ),
    "a label of -1": (
        "units stand for",
        lambda sick: (classifier(), VECTORS, CLASSES - sick),
    ),
    "labels -1 and 1": (
        "takes 0 to 1",
        lambda sick: (
            classifier(L.Dense(1, "sigmoid"), BINARY),
            VECTORS,
            2 * YES - 1 if sick else YES,
        ),
    ),
    "one unit for many classes": (
        "one unit for 3 classes",
        lambda sick: (
            classifier(L.Dense(1, "sigmoid"), BINARY),
            VECTORS,
            CLASSES if sick else YES,
        ),
    ),
    "one-hot labels, sparse loss": (
        "targets of shape",
        lambda sick: (classifier(), VECTORS, ONE_HOT if sick else CLASSES),
    ),
    "class numbers, one-hot loss": (
        "targets of shape",
        lambda sick: (
            classifier(loss="categorical_crossentropy"),
            VECTORS,
            CLASSES if sick else ONE_HOT,
        ),
    ),
    "several labels at once, one-hot loss": (
        "add up to 1",
        lambda sick: (
            classifier(loss="categorical_crossentropy"),
            VECTORS,
            np.minimum(ONE_HOT + ONE_HOT[::-1], 1) if sick else ONE_HOT,
        ),
    ),
    "labels divided by 255": (
        "multiplied by 255",
        lambda sick: (classifier(), VECTORS, CLASSES / 255 if sick else CLASSES),
    ),
    "classes that are numbers": (
        "no whole numbers",
        lambda sick: (classifier(), VECTORS, NUMBERS if sick else CLASSES),
    ),
    "one class": (
        "labels are 0",
        lambda sick: (classifier(), VECTORS, 0 * CLASSES if sick else CLASSES),
    ),
    "one target": (
        "targets are 1",
        lambda sick: (classifier(L.Dense(1), "mse"), VECTORS, 0 * NUMBERS + 1 if sick else NUMBERS),
    ),
    "an answer for every time step": (
        "targets of shape",
        lambda sick: (
            network(L.LSTM(8, return_sequences=sick), L.Dense(1), inputs=SERIES),
            SERIES,
            NUMBERS,
        ),
    ),
    "ReLU before negative targets": (
        "out of reach",
        lambda sick: (classifier(L.Dense(1, "relu" if sick else None), "mse"), VECTORS, NUMBERS),
    ),
    "tanh before large targets": (
        "out of reach",
        lambda sick: (
            classifier(L.Dense(1, "tanh" if sick else None), "mse"),
            VECTORS,
            3 * NUMBERS,
        ),
    ),
    "a dead output": (
        "end in ReLU",
        lambda sick: (
            classifier(L.Dense(1, "relu", bias_initializer=constant(-9.0 if sick else 1.0)), "mse"),
            VECTORS,
            np.abs(NUMBERS),
        ),
    ),
    "NaN in the inputs": (
        "x has 1 values",
        lambda sick: (classifier(), spoilt(VECTORS, np.nan) if sick else VECTORS, CLASSES),
    ),
    "infinity in the targets": (
        "y has 1 values",
        lambda sick: (
            classifier(L.Dense(1), "mse"),
            VECTORS,
            spoilt(NUMBERS, np.inf) if sick else NUMBERS,
        ),
    ),
    "images of 0 to 255": ("as in images", lambda sick: on_images(1.0 if sick else 1 / 255)),
    "images divided by 255 twice": (
        "too small",
        lambda sick: on_images(1 / 255**2 if sick else 1 / 255),
    ),
    "a table that is not scaled": (
        "root mean square",
        lambda sick: (classifier(), 400 * VECTORS if sick else VECTORS, CLASSES),
    ),
    "constant inputs": (
        "same values",
        lambda sick: (classifier(), 0 * VECTORS + 1 if sick else VECTORS, CLASSES),
    ),
    "a rare class": ("times as many", rare),
    "targets far from unit scale": (
        "targets of this size",
        lambda sick: (classifier(L.Dense(1), "mse"), VECTORS, 1e4 * NUMBERS if sick else NUMBERS),
    ),
    "rounding between layers": (
        "back through Round",
        lambda sick: (with_cut(ops.round, sick), VECTORS, NUMBERS),
    ),
    "stop_gradient between layers": (
        "back through StopGradient",
        lambda sick: (with_cut(ops.stop_gradient, sick), VECTORS, NUMBERS),
    ),
    "a comparison between layers": (
        "back through Greater",
        lambda sick: (
            with_cut(lambda x: ops.cast(x > 0, "float32"), sick),
            VECTORS,
            NUMBERS,
        ),
    ),
    "a logarithm of 0 and less": (
        "NaN or infinite before",
        lambda sick: (
            network(L.Dense(8, ops.log if sick else "tanh"), L.Dense(1)),
            VECTORS,
            NUMBERS,
        ),
    ),
    "a layer that is not used": ("does not use", unused),
    "all layers frozen": ("all layers are frozen", frozen),
    "weights of 0": (
        "all weights are 0",
        lambda sick: two_layers(keras.initializers.Zeros if sick else keras.initializers.HeNormal),
    ),
    "constant weights": (
        "all weights are 0.1",
        lambda sick: two_layers(lambda: constant(0.1) if sick else "glorot_uniform"),
    ),
    "two towers of the same draws": ("value by value", towers),
    "dead units": (
        "all of its units are dead",
        lambda sick: (
            network(
                L.Dense(8, "relu", bias_initializer=constant(-99.0 * sick)),
                L.Dense(1),
            ),
            VECTORS,
            NUMBERS,
        ),
    ),
    "float16 without loss scaling": ("loss is not scaled", half),
    "ReLU in an LSTM": (
        "no upper bound",
        lambda sick: recurrent(L.LSTM(8, "relu" if sick else "tanh")),
    ),
    "ReLU in a bidirectional GRU": (
        "no upper bound",
        lambda sick: recurrent(L.Bidirectional(L.GRU(8, "relu" if sick else "tanh"))),
    ),
    "padding that a GRU reads": ("padding", lambda sick: padded(mask_zero=not sick)),
    "large recurrent weights": (
        "grows",
        lambda sick: long_series(L.SimpleRNN(8, recurrent_initializer=orthogonal(1 + 2 * sick))),
    ),
    "deep sigmoids": (
        "too deep",
        lambda sick: (deep("sigmoid" if sick else "relu"), VECTORS, NUMBERS),
    ),
    "small initial weights": (
        "shrinks",
        lambda sick: (
            deep("tanh", scale=0.01) if sick else deep("tanh"),
            VECTORS,
            NUMBERS,
        ),
    ),
    "large initial weights": (
        "grows",
        lambda sick: (
            deep("relu", scale=1.0) if sick else deep("relu", scale=(2 / 64) ** 0.5),
            VECTORS,
            NUMBERS,
        ),
    ),
    "large initial weights, bounded activation": (
        "the gradient grows",
        lambda sick: (deep("tanh", depth=14, scale=1.0 if sick else 0.15), VECTORS, NUMBERS),
    ),
    "a learning rate of 0": (
        "learning rate is 0",
        lambda sick: trained_by(O.Adam(0.0 if sick else 1e-3)),
    ),
    "a learning rate that is too high": (
        "times Keras' default",
        lambda sick: trained_by(O.Adam(0.3 if sick else 1e-2)),
    ),
    "a learning rate that is too low": (
        "below Keras' default",
        lambda sick: trained_by(O.SGD(1e-7 if sick else 1e-2)),
    ),
    "gradients clipped to nothing": (
        "leaves",
        lambda sick: trained_by(O.SGD(0.01, clipnorm=1e-6 if sick else 1.0)),
    ),
}
"""By name: what the first finding has to say, and the case."""


def imported(make, classes=4, size=32, **options):
    """A network of keras.applications, untrained, on inputs as its pages prescribe."""
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (ROWS, size, size, 3)).astype(np.float32)
    module = getattr(keras.applications, make.__module__.rpartition(".")[2])
    model = make(weights=None, input_shape=images.shape[1:], classes=classes, **options)
    model.compile("adam", SPARSE, jit_compile=False)
    return model, module.preprocess_input(images), np.arange(ROWS) % classes


def transformer():
    """A block of a Transformer on words that an input of floats holds."""
    inputs = keras.Input((9,))
    path = L.Embedding(30, 8)(inputs) + L.Embedding(9, 8)(ops.arange(9))
    path = L.LayerNormalization()(path + L.MultiHeadAttention(2, 4, dropout=0.1)(path, path))
    path = L.LayerNormalization()(path + L.Dense(8)(L.Dense(16, "gelu")(path)))
    return functional(inputs, L.Dense(3, "softmax")(path[:, 0]), SPARSE), WORDS, CLASSES


def language_model():
    """The next word for every word, of which some hardly occur."""
    inputs = keras.Input((9,), dtype="int32")
    path = L.LSTM(16, return_sequences=True)(L.Embedding(30, 8, mask_zero=True)(inputs))
    loss = logits(losses.SparseCategoricalCrossentropy)
    return functional(inputs, L.Dense(30)(path), loss), WORDS, np.roll(WORDS**2 // 30, -1, axis=1)


def functional(inputs, outputs, loss, optimizer="adam") -> keras.Model:
    """A compiled functional model."""
    model = keras.Model(inputs, outputs)
    model.compile(optimizer, loss, jit_compile=False)
    return model


def graph_network():
    """Two layers of messages between nodes."""
    nodes, edges = keras.Input((5, 4)), keras.Input((5, 5))
    path = nodes
    for _ in range(2):
        path = L.Dense(16, "relu")(edges @ path) + L.Dense(16)(path)
    outputs = L.Dense(1, "sigmoid")(ops.mean(path, axis=1))
    links = (RNG.uniform(size=(ROWS, 5, 5)) < 0.4).astype(np.float32)
    return functional([nodes, edges], outputs, BINARY), [SERIES[:, :5], links], YES


class Sampling(L.Layer):
    """Draws a code, and adds its divergence from a normal to the loss."""

    def call(self, mean, log_variance):
        """Draw."""
        divergence = ops.exp(log_variance) + mean**2 - 1 - log_variance
        self.add_loss(0.5e-2 * ops.mean(divergence))
        return mean + ops.exp(log_variance / 2) * keras.random.normal(ops.shape(mean))


def variational_autoencoder():
    """Pictures from a code that is drawn."""
    inputs = keras.Input((8, 8, 3))
    path = L.Dense(32, "relu")(L.Flatten()(inputs))
    code = Sampling()(L.Dense(4)(path), L.Dense(4)(path))
    outputs = L.Reshape((8, 8, 3))(L.Dense(192, "sigmoid")(L.Dense(32, "relu")(code)))
    return functional(inputs, outputs, BINARY), IMAGES, IMAGES


def generator():
    """The generator of a GAN, trained on whole pictures between -1 and 1."""
    stack = L.Dense(64, "relu"), L.Reshape((2, 2, 16)), L.BatchNormalization()
    up = L.Conv2DTranspose(8, 4, 2, "same", activation="leaky_relu")
    last = L.Conv2DTranspose(3, 4, 2, "same", activation="tanh")
    return network(*stack, up, last, loss="mae"), VECTORS, 2 * IMAGES - 1


class Gan(keras.Model):
    """Two networks with two optimizers and a `train_step` of their own."""

    def __init__(self):
        super().__init__()
        self.generator = keras.Sequential([keras.Input((6,)), L.Dense(6)])
        self.critic = keras.Sequential([keras.Input((6,)), L.Dense(8, "relu"), L.Dense(1)])

    def call(self, inputs):
        """Judge."""
        return self.critic(self.generator(inputs))

    def train_step(self, data):
        """Nothing that a check could call."""
        raise NotImplementedError


def gan():
    """A GAN as a Keras model."""
    model = Gan()
    model.compile("adam")
    return model, VECTORS, None


def siamese():
    """The distance of two inputs through one network, with a contrastive loss of its own."""
    tower = keras.Sequential([L.Dense(16, "relu"), L.Dense(4), L.UnitNormalization()])
    left, right = keras.Input((6,)), keras.Input((6,))
    distance = ops.sqrt(ops.sum((tower(left) - tower(right)) ** 2, axis=1, keepdims=True) + 1e-6)

    def contrastive(same, apart):
        return same * apart**2 + (1 - same) * ops.relu(1 - apart) ** 2

    return functional([left, right], distance, contrastive), [VECTORS, VECTORS[::-1]], YES[:, None]


def several_outputs():
    """A class, a number, and features without a loss."""
    inputs = {"table": keras.Input((6,)), "words": keras.Input((9,), dtype="int32")}
    words = L.GlobalAveragePooling1D()(L.Embedding(30, 8)(inputs["words"]))
    path = L.Dense(16, "relu")(L.Concatenate()([inputs["table"], words]))
    outputs = {"kind": L.Dense(3, "softmax")(path), "size": L.Dense(1)(path), "features": path}
    loss = {"kind": SPARSE, "size": "huber", "features": None}
    x, y = {"table": VECTORS, "words": WORDS}, {"kind": CLASSES, "size": NUMBERS[:, 0]}
    return functional(inputs, outputs, loss), x, y | {"features": NUMBERS}


def bidirectional():
    """A recurrent network of two directions."""
    return recurrent(L.Bidirectional(L.LSTM(8)))


def identity_recurrent():
    """ReLUs with a recurrent kernel that begins as the identity."""
    return recurrent(L.SimpleRNN(8, "relu", recurrent_initializer="identity"))


def padding_in_front():
    """Words behind their padding, and no mask."""
    return padded(front=True)


def padding_in_two_directions():
    """Padding that one direction of two reads first."""
    return padded(L.Bidirectional(L.GRU(8)))


def long_lstm():
    """An LSTM whose gradient vanishes on its way to the first of 150 steps, as it begins."""
    return long_series(L.LSTM(8))


def self_normalizing():
    """SELU and alpha dropout, eight layers."""
    stack = [L.Dense(32, "selu", kernel_initializer="lecun_normal") for _ in range(8)]
    return (
        network(*stack, L.AlphaDropout(0.1), L.Dense(3, "softmax"), loss=SPARSE),
        VECTORS,
        CLASSES,
    )


def table():
    """Columns of all scales, behind an adapted normalization."""
    values = VECTORS * [1, 10, 100, 1e3, 1e4, 1e5] + 7
    normalization = L.Normalization()
    normalization.adapt(values)
    return network(normalization, L.Dense(16, "relu"), L.Dense(1), loss="mae"), values, NUMBERS


def words_as_bags():
    """Counts of many words, most of them 0."""
    bags = (np.random.default_rng(2).uniform(size=(ROWS, 3000)) < 0.01).astype(np.float32)
    stack = L.Dense(16, "relu"), L.Dense(1, "sigmoid")
    return network(*stack, inputs=bags, loss=BINARY), bags, YES


def mixed_precision():
    """A policy of float16, whose loss Keras scales by itself."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return classifier(), VECTORS, CLASSES
    finally:
        keras.config.set_dtype_policy("float32")


def fine_tuning():
    """A frozen base with a new head, at a small learning rate."""
    base = keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(8, 3), L.BatchNormalization()])
    base.trainable = False
    stack = base, L.GlobalAveragePooling2D(), L.Dense(3, "softmax")
    return network(*stack, inputs=IMAGES, loss=SPARSE, optimizer=O.Adam(1e-4)), IMAGES, CLASSES


def residual():
    """Residual branches that begin at 0, and a head that does."""
    inputs = keras.Input((6,))
    path = L.Dense(16)(inputs)
    for _ in range(4):
        branch = L.Dense(16, "relu")(L.LayerNormalization()(path))
        path = path + L.Dense(16, kernel_initializer="zeros")(branch)
    outputs = L.Dense(3, "softmax", kernel_initializer="zeros")(path)
    return functional(inputs, outputs, SPARSE, O.AdamW(3e-4)), VECTORS, CLASSES


def normalized_behind():
    """Raw images, which a batch normalization behind the first layer brings to unit scale."""
    stack = L.Conv2D(8, 3, use_bias=False), L.BatchNormalization(), L.ReLU(), L.Flatten()
    model = network(*stack, L.Dense(3, "softmax"), inputs=IMAGES, loss=SPARSE)
    return model, (IMAGES * 255).round(), CLASSES


def several_labels():
    """Sigmoids for labels of which some are rare."""
    labels = (np.random.default_rng(3).uniform(size=(ROWS, 5)) < [0.5, 0.3, 0.1, 0.05, 0.02]) * 1.0
    return classifier(L.Dense(5, "sigmoid"), BINARY), VECTORS, labels


def ordinal():
    """Grades as sums of sigmoids."""
    grades = (np.arange(3) < CLASSES[:, None]).astype(np.float32)
    return classifier(L.Dense(3, "sigmoid"), BINARY), VECTORS, grades


def segmentation():
    """A class for every pixel, of which one is rare."""
    inputs = keras.Input((8, 8, 3))
    down = L.Conv2D(8, 3, 2, "same", activation="relu")(inputs)
    up = L.Conv2DTranspose(8, 3, 2, "same", activation="relu")(down)
    outputs = L.Conv2D(3, 1, activation="softmax")(L.Concatenate()([inputs, up]))
    masks = np.zeros((ROWS, 8, 8), int)
    masks[:, 2, 2], masks[::2, 3] = 1, 2
    return functional(inputs, outputs, SPARSE), IMAGES, masks


def autoencoder():
    """Pictures between 0 and 1, through a code."""
    stack = L.Flatten(), L.Dense(8, "relu"), L.Dense(192, "sigmoid"), L.Reshape((8, 8, 3))
    return network(*stack, inputs=IMAGES), IMAGES, IMAGES


def counts():
    """Counts with a Poisson loss, and outputs that are exponentials."""
    numbers = np.random.default_rng(4).poisson(4, (ROWS, 1)).astype(np.float32)
    return classifier(L.Dense(1, "exponential"), "poisson"), VECTORS, numbers


def quantiles():
    """Three quantiles of a number, by a loss of one's own."""

    def pinball(targets, outputs):
        error = targets - outputs
        return ops.maximum(error * [0.1, 0.5, 0.9], error * [-0.9, -0.5, -0.1])

    return classifier(L.Dense(3), pinball), VECTORS, NUMBERS


def adapter():
    """A low-rank adapter beside a frozen layer: its second factor begins at 0."""
    inputs = keras.Input((6,))
    frozen = L.Dense(8, trainable=False)(inputs)
    low_rank = L.Dense(8, use_bias=False, kernel_initializer="zeros")(L.Dense(2)(inputs))
    return functional(inputs, L.Dense(3, "softmax")(frozen + low_rank), SPARSE), VECTORS, CLASSES


def finished():
    """A model that has learned what there is to learn."""
    model, x, y = trained_by(O.Adam(1e-2))
    model.fit(x, y, epochs=100, verbose=0)
    return model, x, y


def warmed_up():
    """A learning rate that begins at 0."""
    rate = O.schedules.CosineDecay(0.0, 1000, warmup_target=1e-3, warmup_steps=100)
    return trained_by(O.Adam(rate))


def with_missing_labels():
    """Labels of which some are to be ignored."""
    loss = losses.SparseCategoricalCrossentropy(ignore_class=255)
    return classifier(loss=loss), VECTORS, np.where(np.arange(ROWS) % 5, CLASSES, 255)


def datasets_of_tensorflow():
    """A shuffled `tf.data.Dataset`."""
    dataset = tf.data.Dataset.from_tensor_slices((VECTORS, CLASSES)).shuffle(ROWS).batch(16)
    return classifier(), dataset, None


HEALTHY = {
    "MobileNetV2": lambda: imported(keras.applications.MobileNetV2, alpha=0.35),
    "EfficientNetB0, inputs of 0 to 255": lambda: imported(keras.applications.EfficientNetB0),
    "ResNet50": lambda: imported(keras.applications.ResNet50),
    **{
        make.__name__.replace("_", " "): make
        for make in (
            *(transformer, language_model, graph_network, variational_autoencoder, generator, gan),
            *(siamese, several_outputs, bidirectional, identity_recurrent, self_normalizing),
            *(padding_in_front, padding_in_two_directions, long_lstm),
            *(table, words_as_bags, mixed_precision, fine_tuning, residual, normalized_behind),
            *(several_labels, ordinal, segmentation, autoencoder, counts, quantiles, adapter),
            *(finished, warmed_up, with_missing_labels, datasets_of_tensorflow),
        )
    },
}
"""Models without a fault, by name."""
