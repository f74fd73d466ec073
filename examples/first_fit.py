"""A first `fit` with `GradientLogger`, of a classifier whose last layer does not fit its loss.

python examples/first_fit.py
mnist-vg board --logdir logdir
"""

import argparse
from pathlib import Path

import keras

from mnist_vg import GradientLogger, datasets, diagnose
from mnist_vg.report import board_line


def main():
    """Train it, and say what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--logdir", type=Path, default=Path("logdir"))
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds")
    options = parser.parse_args()

    keras.utils.set_random_seed(0)
    digits = datasets.load("digits").train
    model = keras.Sequential([keras.layers.Dense(32, "relu"), keras.layers.Dense(10)])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    logger = GradientLogger(options.logdir / "my_run", overwrite=True)
    epochs = 1 if options.quick else 5
    model.fit(digits.inputs, digits.labels, epochs=epochs, verbose=2, callbacks=[logger])

    print(diagnose(options.logdir / "my_run"))
    print(board_line(options.logdir))


if __name__ == "__main__":
    main()
