"""The other half of the reports, see `_sick_runs`: no rule is set on them."""

import functools

import keras
import numpy as np
import tensorflow as tf
from _sick_runs import (
    BINARY,
    SPARSE,
    accuracy,
    digits,
    explained,
    fit,
    network,
    numbers,
    regression,
    report,
    two_classes,
)
from keras import layers as L
from keras import losses, ops
from keras import optimizers as O

report = functools.partial(report, half="kept")


@report(
    "an output is missing in some of the targets",
    "keras issue 1628",
    shows="finite|nan",
    named=r"\by\b.*NaN|targets?.*(NaN|not finite|missing)|NaN.*targets?",
)
def nan_in_targets(log, sick):
    x, y = numbers()
    y = np.concatenate([y, y[:, ::-1] + x[:, :1]], axis=1)
    if sick:
        y[::50, 1] = np.nan
    model = regression(L.Dense(32, "relu"), L.Dense(2), optimizer=O.Adam(0.01))
    fit(log, model, x, y, epochs=30)
    return explained(model, x[1::50], y[1::50])


def focal(epsilon):
    """A focal loss of probabilities."""

    def loss(y, p):
        right, wrong = ops.log(p + epsilon), ops.log(1 - p + epsilon)
        return -ops.mean(y * (1 - p) ** 2 * right + (1 - y) * p**2 * wrong, axis=-1)

    return loss


@report(
    "the logarithm of 0 in a focal loss",
    "issue 17 of mkocabas/focal-loss-keras",
    named=r"\blog|loss (function|is|was).*(nan|infinit|not finite)|began in the loss",
    shows="finite|nan",
)
def log_of_zero(log, sick):
    x, y = two_classes()
    loss = focal(0.0 if sick else 1e-7)
    stack = L.Dense(32, "relu"), L.Dense(1, "sigmoid")
    model = network(*stack, loss=loss, optimizer=O.Adam(0.05))
    fit(log, model, 10 * x, y[:, None], epochs=40)
    return accuracy(model, 10 * x, y)


@report(
    "the square root of a distance of 0",
    "keras issue 9097",
    shows="finite|nan",
    named=r"sqrt|square root|gradient.*(nan|infinit|not finite)",
)
def distance_of_zero(log, sick):
    rng = np.random.default_rng(0)
    left = rng.normal(size=(600, 8)).astype(np.float32)
    same = rng.integers(0, 2, 600).astype(np.float32)
    right = np.where(same[:, None] > 0, left, rng.normal(size=(600, 8))).astype(np.float32)
    inputs = keras.Input((8,)), keras.Input((8,))
    tower = keras.Sequential([L.Dense(16, "tanh"), L.Dense(8)])
    difference = tower(inputs[0]) - tower(inputs[1])
    square = ops.sum(ops.square(difference), axis=-1, keepdims=True)
    distance = ops.sqrt(square if sick else ops.maximum(square, 1e-7))
    start = keras.initializers.Constant
    head = L.Dense(1, "sigmoid", kernel_initializer=start(-1), bias_initializer=start(1))
    model = keras.Model(inputs, head(distance))
    model.compile(O.Adam(0.01), BINARY, metrics=["accuracy"], jit_compile=False)
    fit(log, model, [left, right], same, epochs=15)
    return accuracy(model, [left, right], same)


@report(
    "float16 throughout, with Adam's epsilon for float32",
    "keras issue 11860",
    named=r"float16|half precision|loss is not scaled",
    shows="finite|nan",
)
def all_float16(log, sick):
    x, y = numbers()
    dtype = "float16" if sick else "float32"
    stack = L.Dense(32, "relu", dtype=dtype), L.Dense(32, "relu", dtype=dtype)
    model = regression(*stack, L.Dense(1, dtype=dtype), optimizer=O.Adam(0.005))
    fit(log, model, x, y, epochs=30)
    return explained(model, x, y)


@report(
    "L2 regularization outweighs the loss",
    "stackoverflow.com: Keras L2 regularization makes the network not learn",
    named=r"regulari[sz]|penalt|\bl2\b",
    shows="vanish|shrink|differs? between",
)
def strong_l2(log, sick):
    x, y = digits()
    l2 = keras.regularizers.L2(0.3 if sick else 1e-5)
    dense = functools.partial(L.Dense, kernel_regularizer=l2)
    model = network(dense(64, "relu"), dense(32, "relu"), dense(10, "softmax"))
    fit(log, model, x, y, epochs=6)
    return accuracy(model, x, y)


@report(
    "a dropout of 0.9 where 0.9 was to be kept",
    "issue 4 of bonlime/keras-deeplab-v3-plus",
    named=r"dropout",
    shows="dead|stuck|slow",
)
def dropout_inverted(log, sick):
    x, y = digits()
    stack = []
    for _ in range(4):
        stack += [L.Dense(32, "relu"), L.Dropout(0.9 if sick else 0.1)]
    model = network(*stack, L.Dense(10, "softmax"))
    fit(log, model, x, y, epochs=10)
    return accuracy(model, x, y)


@report(
    "softmax over the batch in place of the classes",
    "issue 32 of DeepReinforcementLearning/DeepReinforcementLearningInAction",
    named=r"softmax.*(axis|batch)|add up to|wants probabilities|no probabilities",
)
def softmax_over_the_batch(log, sick):
    x, y = digits()
    head = L.Lambda(functools.partial(ops.softmax, axis=0 if sick else -1))
    model = network(L.Dense(64, "relu"), L.Dense(10), head)
    fit(log, model, x, y, epochs=6)
    one_by_one = model.predict(x[:200], batch_size=1, verbose=0)
    return float((one_by_one.argmax(-1) == y[:200]).mean())


@report(
    "images were shuffled and their labels were not",
    "keras pull request 7520",
    named=r"labels?.*(unrelated|random|nothing to do|shuffled|not (fit|depend|match))",
    shows="overfit|memor|validation",
)
def labels_misaligned(log, sick):
    x, y = digits(2500)
    rows = np.random.default_rng(1).permutation(2000)
    shown = x[:2000][rows] if sick else x[:2000]
    model = network(L.Dense(64, "relu"), L.Dense(10, "softmax"))
    fit(log, model, shown, y[:2000], epochs=8, validation_data=(x[2000:], y[2000:]))
    return accuracy(model, x[2000:], y[2000:])


def dice(sign):
    """The overlap of two masks, times a sign."""

    def loss(y, p):
        both = ops.sum(y * p, axis=(1, 2, 3))
        return sign * (2 * both + 1) / (ops.sum(y + p, axis=(1, 2, 3)) + 1)

    return loss


@report(
    "the Dice overlap is minimized, as its sign is missing",
    "issue 7 of IAmSuyogJadhav/3d-mri-brain-tumor-segmentation-using-autoencoder-regularization",
    named=r"\bsign\b|wrong way|loss falls.*(metric|iou)|(metric|iou).*loss falls",
    goal=0.6,
)
def sign_of_the_loss(log, sick):
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:16, :16]
    middle = rng.integers(4, 12, (400, 2, 1, 1))
    masks = np.hypot(row - middle[:, 0], column - middle[:, 1]) < 3.5
    x = masks + rng.normal(0, 0.3, masks.shape)
    x, y = x[..., None].astype(np.float32), masks[..., None].astype(np.float32)
    conv = functools.partial(L.Conv2D, kernel_size=3, padding="same")
    metrics = [keras.metrics.BinaryIoU([1], name="iou")]
    stack = conv(8, activation="relu"), conv(1, activation="sigmoid")
    loss = dice(1 if sick else -1)
    model = network(*stack, loss=loss, metrics=metrics, optimizer=O.Adam(0.01))
    fit(log, model, x, y, epochs=10)
    return float(model.evaluate(x, y, verbose=0)[1])


@report(
    "binary crossentropy on a linear output",
    "keras issue 4784",
    goal=0.85,
    named=r"probabilities|sigmoid|from_logits",
    shows="frozen|no gradient|oscillat",
)
def linear_output(log, sick):
    x, y = two_classes()
    stack = L.Dense(32, "relu"), L.Dense(1, None if sick else "sigmoid")
    model = network(*stack, loss=BINARY, optimizer=O.SGD(0.1, momentum=0.9))
    fit(log, model, x, y, epochs=20)
    return accuracy(model, x, y)


@report(
    "one sigmoid for ten classes",
    "datascience.stackexchange.com 38604",
    named=r"one unit for|takes 0 to 1|labels?.*(outside|range)|loss is negative",
    shows="negative|saturat|explod",
)
def one_sigmoid_for_ten_classes(log, sick):
    x, y = digits()
    units, head, loss = (1, "sigmoid", BINARY) if sick else (10, "softmax", SPARSE)
    model = network(L.Dense(64, "relu"), L.Dense(units, head), loss=loss)
    fit(log, model, x, y, epochs=5)
    return accuracy(model, x, y)


@report(
    "tanh before targets of 1 to 4",
    "stackoverflow.com 3644795",
    named=r"out of reach|tanh|output.*(range|bounded)",
    shows="saturat",
)
def tanh_at_the_output(log, sick):
    x, y = numbers()
    y = 2.5 + 1.5 * np.tanh(y)
    stack = L.Dense(32, "relu"), L.Dense(1, "tanh" if sick else None)
    model = regression(*stack, optimizer=O.Adam(0.01))
    fit(log, model, x, y, epochs=25)
    return explained(model, x, y)


@report(
    "sequences are padded at their end, and not masked",
    "keras issue 1855",
    named=r"\bpad|mask",
    shows="vanish|shrink|differs? between|too deep|time step",
)
def padding_not_masked(log, sick):
    rng = np.random.default_rng(0)
    words = rng.integers(1, 20, (600, 40))
    words[:, 6:] = 0
    y = (words[:, :6] < 8).sum(1) > 2
    embedding = L.Embedding(20, 8, mask_zero=not sick)
    stack = embedding, L.SimpleRNN(16), L.Dense(1, "sigmoid")
    model = network(*stack, loss=BINARY, optimizer=O.Adam(0.01))
    fit(log, model, words, y.astype(np.float32), epochs=10)
    return accuracy(model, words, y)


@report(
    "images were divided by 255 twice",
    "magenta pull request 925",
    named=r"too small|inputs?.*(scale|small|root mean square)|divided",
    shows="vanish|small",
)
def scaled_twice(log, sick):
    x, y = digits()
    x = x / 255 if sick else x
    model = network(L.Dense(64, "relu"), L.Dense(10, "softmax"), optimizer=O.SGD(0.1))
    fit(log, model, x, y, epochs=8)
    return accuracy(model, x, y)


@report(
    "the learning rate decays at once",
    "keras issue 8086",
    named=r"learning rate.*(decay|schedule|low|fall|small|near 0)|updates too small",
    shows="slow|improv",
)
def decays_at_once(log, sick):
    x, y = digits()
    rate = O.schedules.InverseTimeDecay(0.1, 1, 2.0 if sick else 2e-4)
    model = network(L.Dense(64, "relu"), L.Dense(10, "softmax"), optimizer=O.SGD(rate))
    fit(log, model, x, y, epochs=8)
    return accuracy(model, x, y)


@report(
    "the last fifth is validation, and its class is nowhere else",
    "keras issue 8346",
    named=r"(class|label).*(missing|never|only in|not in|absent)|validation.*(class|label)",
    shows="validation|overfit",
)
def validation_is_one_class(log, sick):
    x, y = digits(2000)
    x, y = x[y < 5], y[y < 5]
    rows = np.argsort(y, kind="stable") if sick else np.arange(len(y))
    x, y = x[rows], y[rows]
    model = network(L.Dense(64, "relu"), L.Dense(5, "softmax"))
    fit(log, model, x, y, epochs=8, validation_split=0.2)
    last = -len(y) // 5
    return accuracy(model, x[last:], y[last:])


@report(
    "batch normalization of batches of one",
    "keras issue 8837",
    goal=0.7,
    named=r"batch.*(of|size).*(1|one)\b|batch normali|examples alike|differs? between examples",
    shows="no gradient|gradient is exactly 0|frozen|vanish|validation",
)
def batches_of_one(log, sick):
    x, y = digits(600)
    stack = L.Dense(32), L.BatchNormalization(), L.Activation("elu"), L.Dense(10, "softmax")
    model = network(*stack)
    fit(log, model, x, y, epochs=2 if sick else 20, batch_size=1 if sick else 8)
    return accuracy(model, x, y)


@report(
    "the loss is summed over a large batch",
    "jax pull request 3113",
    goal=0.75,
    named=r"\bsum|reduction|learning rate.*(high|times)|updates too large",
    shows="explod|dead|finite|nan|oscillat",
)
def summed_loss(log, sick):
    x, y = digits()
    how = "sum" if sick else "sum_over_batch_size"
    loss = losses.SparseCategoricalCrossentropy(reduction=how)
    stack = L.Dense(64, "relu"), L.Dense(32, "relu"), L.Dense(10, "softmax")
    model = network(*stack, loss=loss, optimizer=O.SGD(0.1))
    fit(log, model, x, y, epochs=25, batch_size=256)
    return accuracy(model, x, y)


@report(
    "gradients are clipped to nothing",
    "tensorflow issue 33929",
    named=r"clip|leaves",
    shows="updates too small|learning rate",
)
def clipped_to_nothing(log, sick):
    x, y = digits()
    optimizer = O.SGD(0.1, clipnorm=1e-6 if sick else 1.0)
    model = network(L.Dense(64, "relu"), L.Dense(10, "softmax"), optimizer=optimizer)
    fit(log, model, x, y, epochs=8)
    return accuracy(model, x, y)


@report(
    "what counts is a hundred steps back, in a simple recurrent layer",
    "stats.stackexchange.com 340898",
    named=r"time step|through time|(vanish|shrink).*(rnn|recurr)|(rnn|recurr).*(vanish|shrink)",
    shows="vanish|shrink|differs? between|explod|validation|overfit|memor",
)
def long_memory(log, sick):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (1000, 100, 1)).astype(np.float32)
    y = rng.integers(0, 2, 1000).astype(np.float32)
    x[:, 0 if sick else -3, 0] += 4 * y - 2
    stack = L.SimpleRNN(16), L.Dense(1, "sigmoid")
    model = network(*stack, loss=BINARY, optimizer=O.Adam(0.003))
    fit(log, model, x, y, epochs=10)
    return accuracy(model, x, y)


@report(
    "targets of shape [n] less outputs of shape [n, 1], in a loop of one's own",
    "keras issue 16836",
    named=r"shape|broadcast",
    shows="finite",
)
def broadcast_in_the_loss(log, sick):
    x, y = numbers()
    model = keras.Sequential([keras.Input((4,)), L.Dense(32, "relu"), L.Dense(1)])
    optimizer = O.Adam(0.01)

    @tf.function
    def step(inputs, targets):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((targets - model(inputs)) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss, gradients

    targets, rng = y[:, 0] if sick else y, np.random.default_rng(1)
    with log.recorder(model, every=5) as recorder:
        for i in range(600):
            rows = rng.integers(0, len(x), 32)
            loss, gradients = step(x[rows], targets[rows])
            recorder.record(i, gradients, model.trainable_variables, loss=loss)
    return explained(model, x, y)


@report(
    "a percentage error, and some targets are 0",
    "keras issue 2908",
    named=r"percentage|targets?.*(are|of|is) 0|divi(ded|sion) by",
    shows="explod",
)
def percentage_of_zero(log, sick):
    x, y = numbers()
    y = np.maximum(y, 0) if sick else np.maximum(y, 0) + 1
    loss = "mean_absolute_percentage_error"
    model = regression(L.Dense(32, "relu"), L.Dense(1), loss=loss, optimizer=O.Adam(0.01))
    fit(log, model, x, y, epochs=30)
    return explained(model, x, y)


@report(
    "all inputs are 0",
    "issue 35 of joaopauloschuler/neural-api",
    named=r"same values|constant|all (inputs|values|examples)",
    shows="no gradient",
)
def inputs_are_zero(log, sick):
    x, y = numbers()
    x = 0 * x if sick else x
    model = regression(L.Dense(32, "relu"), L.Dense(1), optimizer=O.Adam(0.01))
    fit(log, model, x, y, epochs=20)
    return explained(model, x, y)


class Sample(L.Layer):
    """Draws a code, and adds what the draws cost."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def call(self, inputs):
        """Draw around the first half of the inputs; the other half is the logarithm's scale."""
        middle, scale = ops.split(inputs, 2, axis=-1)
        cost = ops.exp(scale) + ops.square(middle) - 1 - scale
        self.add_loss(self.weight * ops.mean(ops.sum(cost, axis=-1)) / 2)
        return middle + ops.exp(scale / 2) * keras.random.normal(ops.shape(middle))


@report(
    "an autoencoder's divergence outweighs its reconstruction",
    "issue 12 of AppliedDataSciencePartners/WorldModels",
    goal=0.2,
    named=r"\bkl\b|diverg|collapse|outweigh|regulari[sz]|penalt|added loss",
    shows="differs? between|no gradient|vanish",
)
def collapsed_autoencoder(log, sick):
    x, _ = digits()
    encoder = L.Dense(64, "relu"), L.Dense(16), Sample(1.0 if sick else 0.002)
    model = regression(
        *encoder, L.Dense(64, "relu"), L.Dense(784, "sigmoid"), optimizer=O.Adam(0.003)
    )
    fit(log, model, x, x, epochs=15)
    pixels = ((model.predict(x, verbose=0) - x) ** 2).mean()
    return max(0.0, 1 - float(pixels / x.var(0).mean()))


@report(
    "exclusive or without an activation in the hidden layer",
    "stats.stackexchange.com 433365",
    named=r"linear|activation",
    shows="improv",
    goal=0.9,
)
def linear_network(log, sick):
    x = np.random.default_rng(0).integers(0, 2, (800, 2)).astype(np.float32)
    y = (x[:, 0] != x[:, 1]).astype(np.float32)
    hidden = L.Dense(16, None if sick else "relu")
    model = network(hidden, L.Dense(1, "sigmoid"), loss=BINARY, optimizer=O.Adam(0.02))
    fit(log, model, x, y, epochs=15)
    return accuracy(model, x, y)


@report(
    "a recurrent network without gradient clipping",
    "keras issue 5127",
    named=r"explod|grows|no upper bound|clip",
    shows="finite|nan|too large|oscillat",
)
def not_clipped(log, sick):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 30, 2)).astype(np.float32)
    y = x[:, :, :1].sum(1) / 6
    recurrent = keras.initializers.Identity(gain=1.05)
    rnn = L.SimpleRNN(8, None, recurrent_initializer=recurrent)
    optimizer = O.SGD(0.02, clipnorm=None if sick else 1.0)
    model = regression(rnn, L.Dense(1), optimizer=optimizer)
    fit(log, model, x, y, epochs=30)
    return explained(model, x, y)


@report(
    "weights drawn from 0 to 1, before sigmoids",
    "stackoverflow.com: Differences between numpy.random.rand vs numpy.random.randn",
    named=r"saturat|(initial|start).*weights|grows|vanish|differs? between",
    shows="dead|no gradient|gradient is exactly 0|shrink",
)
def weights_from_0_to_1(log, sick):
    x, y = digits()
    start = keras.initializers.RandomUniform(0, 1, seed=1) if sick else "glorot_uniform"
    dense = functools.partial(L.Dense, kernel_initializer=start)
    model = network(dense(64, "sigmoid"), dense(64, "sigmoid"), dense(10, "softmax"))
    fit(log, model, x, y, epochs=20)
    return accuracy(model, x, y)
