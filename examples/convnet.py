"""What batch normalization does for a convolutional network of sigmoids, from `model.fit`.

    python examples/convnet.py

Six convolutions with sigmoids learn MNIST, once as they are and once with batch normalization
before each sigmoid. Look at gradient_mean_abs/conv1 … conv6 under Scalars: without it, every
layer toward the input has less gradient than the one after it, and the network stays at chance;
with it, all are of one size.
"""

import argparse
import math
from pathlib import Path

import keras

from mnist_vg import GradientLogger, Run, datasets
from mnist_vg.report import board_line


def network(normalized: bool) -> keras.Model:
    """Six convolutions and ten logits."""
    model = keras.Sequential([keras.Input([28, 28, 1])])
    for number in range(1, 7):
        strides = 2 if number in (1, 3) else 1
        model.add(keras.layers.Conv2D(16, 3, strides=strides, padding="same", name=f"conv{number}"))
        if normalized:
            model.add(keras.layers.BatchNormalization(momentum=0.9, name=f"norm{number}"))
        model.add(keras.layers.Activation("sigmoid"))
    model.add(keras.layers.GlobalAveragePooling2D())
    model.add(keras.layers.Dense(10, name="logits"))
    return model


def main():
    """Train both networks, and say what reached the first layer."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--logdir", type=Path, default=Path("logdir"))
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds")
    options = parser.parse_args()
    steps = 4 if options.quick else 500

    train = datasets.load().train
    images = train.inputs[: 64 * steps].reshape(-1, 28, 28, 1) / 255.0
    labels = train.labels[: 64 * steps]
    for name, normalized in (("convnet_plain", False), ("convnet_normalized", True)):
        keras.utils.set_random_seed(1)
        model = network(normalized)
        model.compile(
            keras.optimizers.Adam(0.003),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        folder = options.logdir / name
        logger = GradientLogger(folder, every=max(1, steps // 50), overwrite=True)
        model.fit(images, labels, batch_size=64, shuffle=False, verbose=0, callbacks=[logger])

        history = Run.load(folder).history
        ratio = 10 ** history["gradient_flow/log10_first_to_last"]
        print(
            f"{name:18}  gradient of conv1 over that of logits: {ratio[0]:.1e} -> {ratio[-1]:.1e}"
            f"  last loss: {history['loss/train'][-1]:.3f} (chance {math.log(10):.3f})"
        )
    print(board_line(options.logdir))


if __name__ == "__main__":
    main()
