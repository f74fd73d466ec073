"""Models of Keras that show a symptom which no scenario has, each with and without its fault."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
import numpy as np

from mnist_vg import GradientLogger, Run, datasets
from mnist_vg.diagnosis import symptoms


class Example(NamedTuple):
    """A model that is trained twice.

    Attributes:
        make: the compiled model, and inputs and targets of the training, then of the validation.
        values: what it is given, by the name of the run: first with the fault, then without.
        parts: what else of the code the page shows.
        task: what the model learns, in words.
        cure: what helps, in words.
        fit: options of `fit`.
        logger: options of `GradientLogger`.
    """

    make: Callable[[Any], tuple[keras.Model, tuple]]
    values: dict[str, Any]
    task: str
    cure: str
    fit: dict[str, float]
    parts: tuple[Callable, ...] = ()
    logger: Mapping[str, Any] = MappingProxyType({})


def train(example: Example, folder: Path) -> list[Run]:
    """Train an example with its fault and without it, and return both runs."""
    runs = []
    for name, value in example.values.items():
        keras.utils.set_random_seed(0)
        model, (x, y, *validation) = example.make(value)
        logger = GradientLogger(folder / name, overwrite=True, **example.logger)
        options = dict(example.fit, validation_data=validation or None, verbose=0)
        model.fit(x, y, callbacks=[logger], **options)
        runs.append(Run.load(folder / name))
    return runs


def codes(choose):
    """An encoder that chooses one of 16 codes, and a decoder."""
    inputs = keras.Input((8,))
    code = choose(keras.layers.Dense(16, name="encoder")(inputs))
    hidden = keras.layers.Dense(16, "relu", name="hidden")(code)
    model = keras.Model(inputs, keras.layers.Dense(1, name="decoder")(hidden))
    model.compile("adam", "mse")
    return model, normal()


def argmax(scores):
    """The code with the largest score, without a gradient."""
    return keras.ops.one_hot(keras.ops.argmax(scores, axis=-1), 16)


def softmax(scores):
    """A share of each code, with a gradient."""
    return keras.ops.softmax(scores)


def normal():
    """Normal inputs, the first of which is the target."""
    inputs = np.random.default_rng(0).normal(size=(8192, 8)).astype(np.float32)
    return inputs, inputs[:, :1]


def regularized(penalty):
    """Digits, with a penalty on every kernel."""
    hidden = keras.layers.Dense(256, "relu", kernel_regularizer=penalty, name="hidden")
    digit = keras.layers.Dense(10, "softmax", kernel_regularizer=penalty, name="digit")
    model = keras.Sequential([hidden, digit])
    optimizer = keras.optimizers.Adam(0.005)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, mnist()


def mnist():
    """Some of MNIST, scaled to unit range."""
    loaded = datasets.load()
    train, test = loaded.train, loaded.test
    parts = train.inputs[:8192], train.labels[:8192], test.inputs[:2000], test.labels[:2000]
    return parts[0] / 255, parts[1], parts[2] / 255, parts[3]


def odd_or_even(activation):
    """One unit that tells odd digits from even ones."""
    loss = "categorical_crossentropy" if activation == "softmax" else "binary_crossentropy"
    hidden = keras.layers.Dense(32, "relu", name="hidden")
    model = keras.Sequential([hidden, keras.layers.Dense(1, activation, name="odd")])
    model.compile("adam", loss, metrics=["accuracy"])
    return model, parities()


def parities():
    """Digits of 8 by 8 pixels, and whether each is odd."""
    inputs, labels, *test = digits()
    return inputs, labels[:, np.newaxis] % 2, test[0], test[1][:, np.newaxis] % 2


def digits():
    """Digits of 8 by 8 pixels."""
    loaded = datasets.load("digits")
    return loaded.train.inputs, loaded.train.labels, loaded.test.inputs, loaded.test.labels


def three_layers(learning_rate):
    """Digits, with this learning rate."""
    layers = [keras.layers.Dense(64, "tanh", name=f"hidden{number}") for number in (1, 2, 3)]
    model = keras.Sequential([*layers, keras.layers.Dense(10, name="digit")])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(learning_rate), loss, metrics=["accuracy"])
    return model, digits()


def one_or_ten(units):
    """Digits from 0 to 9 as the targets of one sigmoid, or of ten units with a softmax."""
    loss = "binary_crossentropy" if units == 1 else "sparse_categorical_crossentropy"
    activation = "sigmoid" if units == 1 else "softmax"
    hidden = keras.layers.Dense(32, "relu", name="hidden")
    model = keras.Sequential([hidden, keras.layers.Dense(units, activation, name="digit")])
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return model, digits()


def last_word(mask_zero, layer=keras.layers.LSTM):
    """Reads a text that zeros fill up, and tells which kind of word it ends in."""
    words = keras.layers.Embedding(20, 8, mask_zero=mask_zero, name="words")
    kind = keras.layers.Dense(1, "sigmoid", name="kind")
    model = keras.Sequential([words, layer(16, name="reader"), kind])
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model, texts()


def last_word_by_gru(mask_zero):
    """The same with a GRU, which forgets faster."""
    return last_word(mask_zero, keras.layers.GRU)


def texts():
    """Texts of 5 to 10 words from 1 to 19, and zeros up to 60; is the last one above 9?"""
    draw = np.random.default_rng(0)
    words = draw.integers(1, 20, size=(2500, 60))
    lengths = draw.integers(5, 11, size=len(words))
    inputs = np.where(np.arange(60) < lengths[:, np.newaxis], words, 0)
    last = words[np.arange(len(words)), lengths - 1, np.newaxis] > 9
    return inputs[:2000], last[:2000].astype(int), inputs[2000:], last[2000:].astype(int)


def series_reader(gain):
    """Recurrent weights that are this multiple of an orthogonal matrix."""
    weights = keras.initializers.Orthogonal(gain)
    reader = keras.layers.SimpleRNN(32, recurrent_initializer=weights, name="reader")
    model = keras.Sequential([reader, keras.layers.Dense(1, "sigmoid", name="sign")])
    model.compile(keras.optimizers.Adam(0.003), "binary_crossentropy", metrics=["accuracy"])
    return model, series()


def series():
    """100 steps of noise; is the sum of the last five above 0?"""
    inputs = np.random.default_rng(0).normal(size=(2500, 100, 4)).astype(np.float32)
    above = (inputs[:, -5:, 0].sum(axis=1, keepdims=True) > 0).astype(int)
    return inputs[:2000], above[:2000], inputs[2000:], above[2000:]


def scheduled(decay_steps):
    """Digits, with a learning rate that halves every so many steps."""
    model = keras.Sequential([keras.layers.Dense(32, "relu"), keras.layers.Dense(10, "softmax")])
    rate = keras.optimizers.schedules.ExponentialDecay(0.001, decay_steps, 0.5)
    optimizer = keras.optimizers.Adam(rate)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, digits()


def wide(strength):
    """Far more weights than examples, with weight decay of this strength."""
    decay = keras.regularizers.L2(strength)
    hidden = keras.layers.Dense(512, "relu", kernel_regularizer=decay, name="hidden")
    digit = keras.layers.Dense(10, "softmax", kernel_regularizer=decay, name="digit")
    model = keras.Sequential([hidden, digit])
    optimizer = keras.optimizers.Adam(0.005)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, wrong_labels()


def wrong_labels():
    """300 digits, of which half have a label that is drawn at random."""
    inputs, labels, *test = digits()
    draw = np.random.default_rng(0)
    drawn = np.where(draw.random(len(labels)) < 0.5, draw.integers(10, size=len(labels)), labels)
    return inputs[:300], drawn[:300], *test


def normalized(momentum):
    """Measurements that batch normalization brings to unit scale."""
    scale = keras.layers.BatchNormalization(momentum=momentum, name="scale")
    hidden = keras.layers.Dense(32, "relu", name="hidden")
    model = keras.Sequential([scale, hidden, keras.layers.Dense(1, "sigmoid", name="warmer")])
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"])
    return model, temperatures()


def temperatures():
    """Eight temperatures in kelvin; is their mean above 300?"""
    inputs = np.random.default_rng(0).normal(300, 5, size=(5096, 8)).astype(np.float32)
    warmer = (inputs.mean(axis=1, keepdims=True) > 300).astype(int)
    return inputs[:4096], warmer[:4096], inputs[4096:], warmer[4096:]


def rows_in(order):
    """Digits with their rows in this order; `validation_split` takes the last ones."""
    model = keras.Sequential([keras.layers.Dense(32, "relu"), keras.layers.Dense(10, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    inputs, labels, *_ = digits()
    draw = np.random.default_rng(0)
    rows = np.argsort(labels) if order == "sorted" else draw.permutation(len(labels))
    return model, (inputs[rows], labels[rows])


EXAMPLES = {
    symptoms.NO_GRADIENT: Example(
        make=codes,
        values={"argmax": argmax, "softmax": softmax},
        parts=(argmax, softmax),
        task="trained to repeat its first input",
        cure="Use the layer, or put an operation with a gradient in place of the one without. If "
        "a layer is not meant to train, set its `trainable=False`. It is then marked as frozen, "
        "which is no symptom.",
        fit={"batch_size": 256, "epochs": 20},
        logger={"every": 20, "measures": "full"},
    ),
    symptoms.RATE_FADES_OUT: Example(
        make=scheduled,
        values={"decay_steps=10": 10, "decay_steps=200": 200},
        task="trained on digits of 8 by 8 pixels",
        cure="Count steps, and not epochs, when you choose a schedule: a step is one batch. Begin "
        "with a constant learning rate, and let it decay over the whole training.",
        fit={"batch_size": 32, "epochs": 20},
    ),
    symptoms.VANISHING_THROUGH_TIME: Example(
        make=last_word_by_gru,
        values={"mask_zero=False": False, "mask_zero=True": True},
        parts=(last_word,),
        task="trained on texts of 5 to 10 words that are filled up with zeros to a length of 60",
        cure="Let the layer stop at the last word: with a mask, or with padding in front. Where "
        "the way is long without padding, shorten it: by pooling or attention over all outputs "
        "(`return_sequences=True`), or by shorter sequences.",
        fit={"batch_size": 64, "epochs": 10},
        logger={"measures": "full"},
    ),
    symptoms.EXPLODING_THROUGH_TIME: Example(
        make=series_reader,
        values={"gain=4": 4.0, "gain=1": 1.0},
        task="trained on 100 steps of noise, to tell whether the last five add up to more than 0",
        cure="Begin with orthogonal recurrent weights, which is what Keras does, or with smaller "
        "ones. Gradient clipping keeps a single step from doing harm.",
        fit={"batch_size": 32, "epochs": 16},
        logger={"measures": "full"},
    ),
    symptoms.RISING_LOSS: Example(
        make=three_layers,
        values={"learning_rate=1": 1.0, "learning_rate=0.001": 0.001},
        task="trained on digits of 8 by 8 pixels",
        cure="Lower the learning rate by factors of ten until the loss falls from the first steps "
        "on.",
        fit={"batch_size": 32, "epochs": 5},
    ),
    symptoms.PENALTY_TOO_STRONG: Example(
        make=regularized,
        values={
            "penalty=L1(0.1)": keras.regularizers.L1(0.1),
            "penalty=L1(1e-5)": keras.regularizers.L1(1e-5),
        },
        task="trained on 8,192 digits of MNIST",
        cure="Begin without a regularizer, see that the network learns, and add as much as the "
        "validation data ask for. An L1 or L2 penalty is a sum over all weights, so a larger "
        "network needs a smaller factor.",
        fit={"batch_size": 128, "epochs": 4},
    ),
    symptoms.LOSS_OF_ZERO: Example(
        make=odd_or_even,
        values={"activation=softmax": "softmax", "activation=sigmoid": "sigmoid"},
        task="trained to tell odd digits from even ones",
        cure="Choose the last layer and the loss together: a sigmoid with `binary_crossentropy` "
        "for one unit; a softmax with `categorical_crossentropy` for one-hot labels, and with "
        "`sparse_categorical_crossentropy` for whole numbers. `mnist_vg.check` says which of "
        "them does not fit.",
        fit={"batch_size": 32, "epochs": 10},
    ),
    symptoms.NEGATIVE_LOSS: Example(
        make=one_or_ten,
        values={"units=1": 1, "units=10": 10},
        task="trained on the digits 0 to 9",
        cure="Use labels that the loss is made for: 0 and 1 for `binary_crossentropy`, a unit for "
        "each class with `sparse_categorical_crossentropy`. In a loss of your own, look for a "
        "wrong sign.",
        fit={"batch_size": 32, "epochs": 10},
    ),
    symptoms.ONE_ANSWER: Example(
        make=last_word,
        values={"mask_zero=False": False, "mask_zero=True": True},
        task="trained on texts of 5 to 10 words that are filled up with zeros to a length of 60",
        cure="Follow the inputs through the network to the layer after which all examples are "
        "alike. Here a mask lets the LSTM stop at the last word.",
        fit={"batch_size": 64, "epochs": 10},
    ),
    symptoms.OVERFITTING: Example(
        make=wide,
        values={"strength=0": 0.0, "strength=0.01": 0.01},
        task="trained on 300 digits, half of which have a label drawn at random",
        cure="Weight decay, as here, dropout or fewer units leave less room to learn single "
        "examples by heart. Early stopping ends the training where validation was best. More "
        "data and better labels help, too.",
        fit={"batch_size": 50, "epochs": 40},
    ),
    symptoms.MOVING_AVERAGES_BEHIND: Example(
        make=normalized,
        values={"momentum=0.99": 0.99, "momentum=0.9": 0.9},
        task="trained for 192 steps to tell whether the mean of eight temperatures in kelvin is "
        "above 300",
        cure="Lower the momentum of batch normalization, or train for more steps. For inputs, an "
        "adapted `keras.layers.Normalization` needs no moving averages at all.",
        fit={"batch_size": 64, "epochs": 3},
    ),
    symptoms.VALIDATION_FAR_OFF: Example(
        make=rows_in,
        values={"order=sorted": "sorted", "order=shuffled": "shuffled"},
        task="trained with `validation_split=0.2` on rows that are sorted by their label",
        cure="Shuffle the data before `validation_split` takes the last rows. Prepare both data "
        "sets with the same function, or by layers of the model.",
        fit={"batch_size": 32, "epochs": 20, "validation_split": 0.2},
    ),
}
"""The examples, by their symptom."""
