"""MobileNetV2 from random weights: the gradients of a deep network, at a glance.

    python examples/mobilenet.py

A regular expression picks the convolution that ends each block, the first one and the
predictions: 19 of 105 layers with weights. Look at the Histograms tab, gradients/Conv1,
gradients/block_1_project …: from the last block to the input the gradients grow, rather than
vanish.
"""

import argparse
from pathlib import Path

import keras
import numpy as np

from mnist_vg import GradientLogger, Run, datasets
from mnist_vg.report import board_line

LAYERS = "^Conv1$|_project$|^predictions$"
SIZE, BATCH = 32, 32


def main():
    """Train for some steps, and list what every block receives."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--logdir", type=Path, default=Path("logdir"))
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds")
    options = parser.parse_args()
    steps = 2 if options.quick else 30

    train = datasets.load().train
    digits = train.inputs[: steps * BATCH].reshape(-1, 28, 28, 1) / 127.5 - 1
    margin = (SIZE - 28) // 2
    padded = np.pad(digits, [(0, 0), (margin, margin), (margin, margin), (0, 0)], mode="edge")
    images = np.repeat(padded.astype(np.float32), 3, axis=3)

    keras.utils.set_random_seed(1)
    model = keras.applications.MobileNetV2(
        input_shape=(SIZE, SIZE, 3), alpha=0.35, weights=None, classes=10
    )
    # Tracing the network takes longer than two steps do without it.
    model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=options.quick)
    folder = options.logdir / "mobilenet"
    logger = GradientLogger(folder, every=max(1, steps // 10), layers=LAYERS, overwrite=True)
    model.fit(images, train.labels[: len(images)], batch_size=BATCH, verbose=0, callbacks=[logger])

    history = Run.load(folder).history
    print("mean absolute gradient at the first step and at the last record")
    for layer, gradient in zip(history["layers"], history["gradient_mean_abs"].T, strict=True):
        print(f"{layer:22} {gradient[0]:9.5f} {gradient[-1]:9.5f}")
    print(board_line(options.logdir))


if __name__ == "__main__":
    main()
