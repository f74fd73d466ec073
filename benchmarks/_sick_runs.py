"""Public reports of trainings that went wrong, rebuilt, each with a twin that is put right.

A report is a function that trains with a fault or, as the twin, without it; the two differ in
nothing else. It returns a score of the trained network, 0 for nothing learned and 1 for all. This
room has the half of the reports on which rules may be set; `_sick_runs_kept` has the half that is
only measured with. They were divided by the kind of fault, before any of them was diagnosed.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import _common_tf  # noqa: F401 - imports TensorFlow quietly
import keras
import numpy as np
import tensorflow as tf
from keras import layers as L
from keras import losses, ops
from keras import optimizers as O

from mnist_vg import check, datasets
from mnist_vg.errors import UsageError

SPARSE = "sparse_categorical_crossentropy"
BINARY = "binary_crossentropy"
CHECK_FILE = "check.json"
"""Beside the runs of a report: what `mnist_vg.check` said before they were trained."""
REFUSAL_FILE = "refused.txt"
"""Beside them: why `GradientLogger` did not let `fit` begin, if it did not."""
NOT_LEARNED = r"chance|not learned|(one|same) (answer|output|class)"
"""What may be said of any network that learns nothing."""


@dataclass(frozen=True)
class Report:
    """A public report of a training that went wrong.

    Attributes:
        name: in few words.
        train: trains into a log; takes whether the fault is in; returns the score.
        cause: what was wrong.
        source: where the report is.
        named: a regular expression; words that it matches name the cause.
        shows: another one; words that it matches tell a symptom that the run does have.
        goal: the score that the twin reaches, and that the run with the fault does not.
        half: "seen" if rules may be set on it, "kept" if it is only scored.
    """

    name: str
    train: Callable[..., float]
    cause: str
    source: str
    named: str
    shows: str
    goal: float
    half: str

    def __call__(self, log, sick: bool) -> str:
        """Train, and say the score.

        Raises:
            RuntimeError: the fault does no harm, or the twin does not learn.
        """
        score = self.train(log, sick)
        if (score >= self.goal) is sick:
            raise RuntimeError(f"{self.name}, {sick=}: a score of {score:.3g}, goal {self.goal:g}")
        return f"score {score:.3g}, goal {self.goal:g}"


REPORTS: dict[str, Report] = {}
"""Every report, by its name."""


def report(cause, source, named, *, shows="nothing else", goal=0.8, half="seen"):
    """Make a function a report; its name is that of the report."""

    def add(train):
        name = train.__name__
        shows_all = f"{shows}|{NOT_LEARNED}"
        REPORTS[name] = Report(name, train, cause, source, named, shows_all, goal, half)
        return train

    return add


@functools.cache
def all_digits():
    """MNIST's training images, not scaled."""
    return datasets.load("mnist", None).train


def digits(count=2000, first=0):
    """Images of digits, 0 to 1, and their classes."""
    rows = slice(first, first + count)
    images, labels = all_digits().inputs[rows], all_digits().labels[rows]
    return images.astype(np.float32) / 255, labels.astype(np.int32)


def two_classes(count=1000):
    """Eight normal features, and whether a product of two and a third is positive."""
    x = np.random.default_rng(0).normal(size=(count, 8)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] + x[:, 2] > 0).astype(np.float32)


def numbers(count=1000):
    """Four normal features, and a smooth function of them of unit variance."""
    x = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    y = np.sin(2 * x[:, :1]) + x[:, 1:2] * x[:, 2:3]
    return x, y / y.std()


def network(*stack, loss=SPARSE, optimizer="adam", metrics=("accuracy",), **options):
    """A compiled stack of layers."""
    model = keras.Sequential(stack)
    options = {"jit_compile": False} | options
    model.compile(optimizer, loss, metrics=list(metrics), **options)
    return model


def regression(*stack, loss="mse", **options):
    """A compiled stack of layers for numbers."""
    return network(*stack, loss=loss, metrics=(), **options)


def fit(log, model, x, y, **options):
    """Check, and train; keep what is found before, and why `fit` refused, if it did."""
    checks = check(model, x, y, class_weight=options.get("class_weight"))
    log.folder.mkdir(parents=True, exist_ok=True)
    (log.folder / CHECK_FILE).write_text(checks.json())
    try:
        model.fit(x, y, verbose=0, callbacks=[log.callback()], **options)
    except UsageError as error:
        (log.folder / REFUSAL_FILE).write_text(str(error))


def accuracy(model, x, y):
    """Share of right classes."""
    outputs = model.predict(x, verbose=0)
    classes = outputs.argmax(-1) if outputs.shape[-1] > 1 else outputs[:, 0] > 0.5
    return float((classes == y).mean())


def explained(model, x, y):
    """Share of the targets' variance that is explained, 0 at least."""
    share = 1 - np.mean((model.predict(x, verbose=0) - y) ** 2) / np.var(y)
    return max(0.0, float(share)) if np.isfinite(share) else 0.0


@report(
    "labels 1 to 10 for ten units",
    "issue of a public detector",
    shows="finite|nan",
    named=r"units stand for|label.*(range|outside|from 1)",
)
def labels_from_1(log, sick):
    x, y = digits()
    # XLA, as on a GPU, gives NaN for such a label; TensorFlow's CPU kernel raises.
    model = network(L.Dense(64, "relu"), L.Dense(10, "softmax"), jit_compile=True)
    fit(log, model, x, y + sick, epochs=5)
    return accuracy(model, x, y + sick)


@report("softmax over one unit", "DeepFD's benchmark", named=r"softmax (over|of) (one|a single)")
def softmax_over_one_unit(log, sick):
    x, y = two_classes()
    head = L.Dense(1, "softmax" if sick else "sigmoid")
    model = network(L.Dense(32, "relu"), head, loss=BINARY, optimizer=O.Adam(0.01))
    # Keras takes the loss from the logits, so that it falls, but every answer stays 1.
    fit(log, model, x, y, epochs=20)
    return accuracy(model, x, y)


@report(
    "categorical loss on one unit",
    "stats.stackexchange.com 565956",
    named=r"one (output )?unit",
    shows="loss is (exactly )?0|frozen|no gradient",
)
def categorical_loss_on_one_unit(log, sick):
    x, y = two_classes()
    loss = "categorical_crossentropy" if sick else BINARY
    stack = L.Dense(32, "relu"), L.Dense(1, "sigmoid")
    model = network(*stack, loss=loss, optimizer=O.Adam(0.01))
    fit(log, model, x, y[:, None], epochs=20)
    return accuracy(model, x, y)


@report(
    "from_logits=True behind a softmax",
    "issue of a public repository",
    goal=0.85,
    named=r"probabilities already|from_logits|softmax twice",
)
def softmax_twice(log, sick):
    x, y = digits()
    # Keras sees through a softmax that is the last operation, and warns.
    stack = L.Dense(64, "relu"), L.Dense(10, "softmax"), L.Reshape((10,))
    loss = losses.SparseCategoricalCrossentropy(from_logits=sick)
    model = network(*stack, loss=loss, optimizer=O.SGD(0.05))
    fit(log, model, x, y, epochs=8)
    return accuracy(model, x, y)


@report(
    "images of 0 to 255",
    "a Q&A thread",
    shows="dead|explod|too large|finite",
    named=r"as in images|inputs?.*(scale|255)|root mean square",
)
def images_not_scaled(log, sick):
    x, y = digits()
    conv = functools.partial(L.Conv2D, kernel_size=3, strides=2, activation="relu")
    stack = L.Reshape((28, 28, 1)), conv(8), conv(16), L.Flatten()
    model = network(*stack, L.Dense(64, "relu"), L.Dense(10, "softmax"), optimizer=O.SGD(0.1))
    x = 255 * x if sick else x
    fit(log, model, x, y, epochs=10)
    return accuracy(model, x, y)


@report(
    "x**4 from -100 to 100",
    "stackoverflow.com 52800582",
    shows="saturat|too small",
    named=r"(targets?|inputs?).*(scale|size|large)|root mean square",
)
def targets_not_scaled(log, sick):
    x = np.linspace(-100, 100, 1000, dtype=np.float32)[:, None]
    y = x**4
    if not sick:
        x, y = x / x.std(), (y - y.mean()) / y.std()
    model = regression(L.Dense(50, "sigmoid"), L.Dense(50, "elu"), L.Dense(1))
    fit(log, model, x, y, epochs=60)
    return explained(model, x, y)


@report(
    "Adam's learning rate is 100 times too high",
    "keras issue 4066",
    named=r"learning rate.*(high|times)|updates too large",
    shows="dead|saturat",
)
def adam_too_fast(log, sick):
    x, y = digits()
    conv = functools.partial(L.Conv2D, kernel_size=3, padding="same", activation="relu")
    stack = L.Reshape((28, 28, 1)), conv(8, strides=2), conv(16, strides=2), L.Flatten()
    head = L.Dense(64, "relu"), L.Dense(10, "softmax")
    model = network(*stack, *head, optimizer=O.Adam(0.1 if sick else 0.001))
    fit(log, model, x, y, epochs=5)
    return accuracy(model, x, y)


@report(
    "ReLU before the targets of a regression, dead at the start",
    "a public pull request",
    named=r"end in ReLU|out of reach|dead (unit|output|relu)",
    shows="frozen|no gradient",
)
def relu_at_the_output(log, sick):
    x, y = numbers()
    start = keras.initializers.RandomNormal(-0.3, 0.05, seed=1)  # The report's bad luck.
    head = L.Dense(1, "relu" if sick else None, kernel_initializer=start)
    model = regression(L.Dense(32, "sigmoid"), head, optimizer=O.Adam(0.03))
    fit(log, model, x, y + 2, epochs=30)
    return explained(model, x, y + 2)


@report(
    "four layers of sigmoids",
    "ai.stackexchange.com 16557",
    goal=0.5,
    named=r"vanish|shrink|too deep|saturat|differs? between examples",
)
def deep_sigmoids(log, sick):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (1000, 20)).astype(np.float32)
    y = np.sin(x @ rng.normal(size=(20, 3)) / 2).sum(1, keepdims=True).astype(np.float32)
    hidden = [L.Dense(100, "sigmoid" if sick else "relu") for _ in range(4)]
    model = regression(*hidden, L.Dense(1), optimizer=O.SGD(0.01, momentum=0.9))
    fit(log, model, x, y, epochs=25)
    return explained(model, x, y)


@report(
    "ReLU in an LSTM",
    "issue of a public repository",
    shows="too large|oscillat|finite|nan",
    named=r"no upper bound|lstm.*(explod|grow)|explod.*lstm",
)
def relu_in_lstm(log, sick):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    phase = np.arange(60) * (0.1 + 0.15 * y[:, None]) + 6 * rng.random((300, 1))
    x = 3 * np.sin(phase) + rng.normal(0, 0.3, (300, 60))
    lstm = L.LSTM(32, "relu" if sick else "tanh")
    model = network(lstm, L.Dense(3, "softmax"), optimizer=O.Adam(0.01))
    x = x[..., None].astype(np.float32)
    fit(log, model, x, y, epochs=12)
    return accuracy(model, x, y)


@report(
    "batch normalization's momentum of 0.99 in a short training",
    "keras issue 10666",
    named=r"momentum|moving (mean|average|statistic)|batch normali",
    goal=0.7,
    shows="validation|overfit",
)
def slow_batch_normalization(log, sick):
    x, y = digits(1200)
    stack = []
    for _ in range(5):
        stack += [
            L.Dense(48, use_bias=False),
            L.BatchNormalization(momentum=0.99 if sick else 0.9),
            L.Activation("relu"),
        ]
    model = network(*stack, L.Dense(10, "softmax"), optimizer=O.Adam(0.01))
    x = 255 * (1 - x)  # Black on white; batch normalization makes up for it, once it knows it.
    validation = x[1000:], y[1000:]
    fit(log, model, x[:1000], y[:1000], epochs=3, batch_size=64, validation_data=validation)
    return accuracy(model, *validation)


@report(
    "all layers stay frozen, since none has the name to thaw from",
    "issue of a public repository",
    named=r"frozen",
    shows="no gradient",
)
def all_frozen(log, sick):
    x, y = digits()
    stack = L.Dense(64, "relu", name="features"), L.Dense(32, "relu"), L.Dense(10, "softmax")
    model, thaw = keras.Sequential(stack), False
    for layer in model.layers:
        thaw |= layer.name == ("block_14" if sick else "features")
        layer.trainable = thaw
    model.compile("adam", SPARSE, metrics=["accuracy"], jit_compile=False)
    fit(log, model, x, y, epochs=5)
    return accuracy(model, x, y)


class Argmax(L.Layer):
    """The number of the largest value."""

    def call(self, inputs):
        """Take it; that has no gradient."""
        return ops.argmax(inputs, axis=-1)


@report(
    "argmax between layers",
    "keras issue 11157",
    goal=0.85,
    shows="frozen",
    named=r"argmax|no gradient",
)
def argmax_between_layers(log, sick):
    x, y = digits()
    first = L.Dense(32, "relu", name="before"), L.Dense(32, "softmax", name="code")
    between = [Argmax(), L.Embedding(32, 16)] if sick else [L.Dense(16)]
    model = network(*first, *between, L.Dense(32, "relu"), L.Dense(10, "softmax"))
    fit(log, model, x, y, epochs=15)
    return accuracy(model, x, y)


@report(
    "the discriminator wins: the generator hardly moves",
    "datascience.stackexchange.com 104930",
    named=r"discriminator|learning rate.*low|updates too small",
    goal=0.7,
)
def discriminator_wins(log, sick):
    rng = np.random.default_rng(0)
    real = rng.normal((3, -2), 0.5, (2000, 2)).astype(np.float32)
    generator = keras.Sequential([keras.Input((4,)), L.Dense(32, "relu"), L.Dense(2)])
    discriminator = keras.Sequential([keras.Input((2,)), L.Dense(32, "leaky_relu"), L.Dense(1)])
    slow, fast = O.Adam(1e-6 if sick else 2e-3, beta_1=0.5), O.Adam(2e-3, beta_1=0.5)
    loss = losses.BinaryCrossentropy(from_logits=True)

    @tf.function
    def step(batch):
        with tf.GradientTape(persistent=True) as tape:
            made = generator(tf.random.normal((64, 4)))
            on_real, on_made = discriminator(batch), discriminator(made)
            told_apart = loss(tf.ones_like(on_real), on_real)
            told_apart += loss(tf.zeros_like(on_made), on_made)
            not_fooled = loss(tf.ones_like(on_made), on_made)
        variables = discriminator.trainable_variables, generator.trainable_variables
        gradients = [
            tape.gradient(value, of)
            for value, of in zip((told_apart, not_fooled), variables, strict=True)
        ]
        fast.apply(gradients[0], variables[0])
        slow.apply(gradients[1], variables[1])
        return told_apart, not_fooled, gradients

    with (
        log.recorder(discriminator, "discriminator", every=20) as told,
        log.recorder(generator, "generator", every=20) as made,
    ):
        for i in range(1500):
            told_apart, not_fooled, gradients = step(real[rng.integers(0, 2000, 64)])
            told.record(i, gradients[0], discriminator.trainable_variables, loss=told_apart)
            made.record(i, gradients[1], generator.trainable_variables, loss=not_fooled)
    center = generator.predict(rng.normal(size=(500, 4)), verbose=0).mean(0)
    return 1 - min(1.0, float(np.linalg.norm(center - (3, -2)) / np.linalg.norm((3, -2))))


@report(
    "4% of the examples are positive, and no class weights",
    "keras issue 14141",
    goal=0.6,
    named=r"times as many|rare|imbalanc",
)
def rare_class(log, sick):
    rng = np.random.default_rng(0)
    y = (rng.random(3000) < 0.04).astype(np.float32)
    x = (rng.normal(size=(3000, 8)) + 0.5 * y[:, None]).astype(np.float32)
    model = network(L.Dense(16, "relu"), L.Dense(1, "sigmoid"), loss=BINARY)
    weights = {} if sick else {"class_weight": {0: 0.52, 1: 12.5}}
    fit(log, model, x, y, epochs=6, **weights)
    return accuracy(model, x[y == 1], 1)


@report(
    "all initial weights are 0",
    "datascience.stackexchange.com 19170",
    named=r"all weights are 0|weights.*(zero|equal|same)",
    shows="no gradient|dead",
)
def zero_weights(log, sick):
    x, y = digits()
    start = "zeros" if sick else "glorot_uniform"
    sizes = (50, "relu"), (50, "relu"), (10, "softmax")
    model = network(*(L.Dense(*size, kernel_initializer=start) for size in sizes))
    fit(log, model, x, y, epochs=5)
    return accuracy(model, x, y)


@report(
    "labels divided by 255, in place of the images",
    "DeepFD's benchmark",
    named=r"multiplied by 255|labels?.*(scaled|divided|whole)",
)
def labels_scaled(log, sick):
    x, y = digits()
    model = network(L.Dense(64, "relu"), L.Dense(10, "softmax"))
    fit(log, model, x, (y / 255 if sick else y).astype(np.float32), epochs=5)
    return accuracy(model, x, y)


@report(
    "RMSprop's default learning rate, for targets far from 0",
    "DeepFD's benchmark",
    named=r"targets of this size|learning rate.*low|too low|updates too small",
)
def rate_too_low(log, sick):
    celsius = np.linspace(-40, 60, 200, dtype=np.float32)[:, None]
    model = regression(L.Dense(1), optimizer=O.RMSprop(0.001 if sick else 0.1))
    fit(log, model, celsius, celsius * 1.8 + 32, epochs=80, batch_size=16)
    return explained(model, celsius, celsius * 1.8 + 32)


@report(
    "a NaN in the inputs",
    "issue 14 of danielegrattarola/keras-gat",
    named=r"\bx\b.*NaN|inputs?.*(NaN|not finite)|NaN.*inputs?",
    shows="finite|nan",
)
def nan_in_inputs(log, sick):
    x, y = two_classes()
    if sick:
        x[700, 3] = np.nan
    model = network(L.Dense(32, "relu"), L.Dense(1, "sigmoid"), loss=BINARY, optimizer=O.Adam(0.01))
    fit(log, model, x, y, epochs=20)
    return accuracy(model, x, y)


@report(
    "SGD's learning rate makes the loss grow beyond bounds",
    "datascience.stackexchange.com 15962",
    shows="explod|finite|nan|oscillat",
    named=r"learning rate.*(high|times)|updates too large",
)
def sgd_too_fast(log, sick):
    x, y = numbers()
    stack = L.Dense(32, "relu"), L.Dense(32, "relu"), L.Dense(1)
    model = regression(*stack, optimizer=O.SGD(0.5 if sick else 0.02, momentum=0.9))
    fit(log, model, 3 * x, y, epochs=30)
    return explained(model, 3 * x, y)


@report(
    "ReLUs with a negative bias are dead",
    "ai.stackexchange.com 39853",
    shows="no gradient|gradient is exactly 0",
    named=r"dead (unit|output|relu)|(units?|outputs?|relus?).* 0\b",
)
def dead_relus(log, sick):
    x, y = digits()
    bias = keras.initializers.Constant(-20.0 if sick else 0.0)
    model = network(L.Dense(64, "relu", bias_initializer=bias), L.Dense(10, "softmax"))
    fit(log, model, x, y, epochs=5)
    return accuracy(model, x, y)


@report(
    "validation images were not scaled as those of training were",
    "keras issue 2622",
    named=r"validation.*(scale|range|larger|unlike)",
    shows="validation|overfit",
)
def validation_not_scaled(log, sick):
    (x, y), (x_val, y_val) = digits(), digits(500, first=2000)
    middle, scale = x.mean(0), x.std(0) + 0.1
    x = (x - middle) / scale
    if not sick:
        x_val = (x_val - middle) / scale
    model = network(L.Dense(64, "relu"), L.Dense(32, "relu"), L.Dense(10, "softmax"))
    fit(log, model, x, y, epochs=6, validation_data=(x_val, y_val))
    return accuracy(model, x_val, y_val)


@report(
    "far too few examples are learned by heart",
    "keras issue 3894",
    goal=0.75,
    named=r"overfit|memor|by heart",
    shows="validation",
)
def overfitting(log, sick):
    x, y = digits(40 if sick else 2000)
    validation = digits(300, first=2000)
    model = network(L.Dense(256, "relu"), L.Dense(256, "relu"), L.Dense(10, "softmax"))
    epochs = 40 if sick else 2  # More do not help, and each is short.
    fit(log, model, x, y, epochs=epochs, batch_size=8, validation_data=validation)
    return accuracy(model, *validation)
