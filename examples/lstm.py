"""A gradient that has to travel through time: recall the first symbol of a sequence.

    python examples/lstm.py

A sequence begins with one of four symbols, forty steps of noise follow, and the answer is the
symbol. The first symbol has a layer of its own, `first_symbol`, whose gradient has come back
through all of the steps. Three networks differ in their recurrent layer:

- lstm_simple_rnn: a simple recurrent layer.
- lstm_default: Keras' LSTM. Its forget gates start at sigmoid(1) = 0.73, and 0.73 ** 40 is 3e-6.
- lstm_remembering: the same with forget gates that start nearly open, at a bias of log(40)
  (after the chrono initialization of Tallec & Ollivier 2018).

Look at gradient_flow/log10_first_to_last under Scalars, first_symbol's gradient over that of the
last layer, and at loss/train: only the third one can learn.
"""

import argparse
import math
from pathlib import Path

import keras
import numpy as np

from mnist_vg import GradientLogger, Run
from mnist_vg.report import board_line

SYMBOLS, FEATURES, UNITS, BATCH = 4, 8, 32, 64


def recurrent(name: str, delay: int) -> keras.Layer:
    """The layer in which the networks differ."""
    if name == "lstm_simple_rnn":
        return keras.layers.SimpleRNN(UNITS, name="recurrent")
    layer = keras.layers.LSTM(UNITS, name="recurrent")
    layer.build([None, delay + 1, FEATURES])
    if name == "lstm_remembering":
        bias = np.zeros(4 * UNITS)
        bias[UNITS : 2 * UNITS] = math.log(delay)  # Input, forget, cell, output.
        layer.cell.bias.assign(bias)
    return layer


def network(name: str, delay: int) -> keras.Model:
    """A network whose first layer is met at the first step of time and never again."""
    symbol = keras.Input([SYMBOLS])
    noise = keras.Input([delay, FEATURES])
    first = keras.layers.Dense(FEATURES, name="first_symbol")(symbol)
    first = keras.layers.Reshape([1, FEATURES])(first)
    sequence = keras.layers.Concatenate(axis=1)([first, noise])
    last = recurrent(name, delay)(sequence)
    return keras.Model([symbol, noise], keras.layers.Dense(SYMBOLS, name="answer")(last))


def main():
    """Train the three networks, and say what came back to the first symbol."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--logdir", type=Path, default=Path("logdir"))
    parser.add_argument("--delay", type=int, default=40, help="steps of noise")
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds")
    options = parser.parse_args()
    steps = 4 if options.quick else 500
    delay = 5 if options.quick else options.delay

    generator = np.random.default_rng(1)
    answers = generator.integers(SYMBOLS, size=steps * BATCH)
    symbols = np.eye(SYMBOLS, dtype=np.float32)[answers]
    noise = generator.normal(size=(len(answers), delay, FEATURES)).astype(np.float32)
    for name in ("lstm_simple_rnn", "lstm_default", "lstm_remembering"):
        keras.utils.set_random_seed(1)
        model = network(name, delay)
        model.compile(
            keras.optimizers.Adam(0.003),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        folder = options.logdir / name
        logger = GradientLogger(folder, every=max(1, steps // 50), overwrite=True)
        model.fit([symbols, noise], answers, batch_size=BATCH, verbose=0, callbacks=[logger])

        history = Run.load(folder).history
        ratio = 10 ** history["gradient_flow/log10_first_to_last"]
        print(
            f"{name:16}  gradient of first_symbol over that of answer: {ratio[0]:.1e}"
            f"  last loss: {history['loss/train'][-1]:.3f} (chance {math.log(SYMBOLS):.3f})"
        )
    print(board_line(options.logdir))


if __name__ == "__main__":
    main()
