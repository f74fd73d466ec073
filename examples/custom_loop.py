"""A training loop of one's own in a `tf.function`: two losses for a generator, and its gradient.

    python examples/custom_loop.py

A generative adversarial network learns a ring of eight Gaussians. Its discriminator is trained
ahead, and then rejects what the generator makes with confidence. The generator may minimize the
log-probability of being rejected (the saturating loss), or maximize that of being accepted
(Goodfellow et al. 2014, section 3). Look at gradient_mean_abs/hidden1 under Scalars: with the
saturating loss hardly any gradient arrives for the first hundreds of steps.
"""

import argparse
import math
from pathlib import Path

import keras
import tensorflow as tf

from mnist_vg import Recorder, Run
from mnist_vg.report import board_line

NOISE, BATCH = 8, 256


def network(name: str, inputs: int, outputs: int) -> keras.Model:
    """Two hidden layers."""
    layers = [
        keras.Input([inputs]),
        keras.layers.Dense(64, "relu", name="hidden1"),
        keras.layers.Dense(64, "relu", name="hidden2"),
        keras.layers.Dense(outputs, name="output"),
    ]
    return keras.Sequential(layers, name=name)


def real(random: tf.random.Generator):
    """A batch of points of the ring, `[batch, 2]`."""
    angle = tf.cast(random.uniform([BATCH], 0, 8, tf.int32), tf.float32) * (math.pi / 4)
    centre = 2 * tf.stack([tf.cos(angle), tf.sin(angle)], axis=1)
    return centre + 0.05 * random.normal([BATCH, 2])


def cross_entropy(logits, label: float):
    """Minus the mean log-probability of a label, 1 for real and 0 for generated."""
    labels = tf.fill(tf.shape(logits), label)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))


def train(folder: Path, saturating: bool, ahead: int, steps: int) -> None:
    """Train the discriminator `ahead` steps, then both in turn; the generator is recorded."""
    keras.utils.set_random_seed(1)
    random = tf.random.Generator.from_seed(1)
    generator = network("generator", NOISE, 2)
    discriminator = network("discriminator", 2, 1)
    generator_optimizer = keras.optimizers.Adam(2e-5, beta_1=0.5)
    discriminator_optimizer = keras.optimizers.Adam(5e-4, beta_1=0.5)
    # A `tf.function` may make no variables once it is traced.
    generator_optimizer.build(generator.trainable_variables)
    discriminator_optimizer.build(discriminator.trainable_variables)

    def train_discriminator():
        fake = generator(random.normal([BATCH, NOISE]))
        with tf.GradientTape() as tape:
            loss = cross_entropy(discriminator(real(random)), 1.0)
            loss += cross_entropy(discriminator(fake), 0.0)
        variables = discriminator.trainable_variables
        discriminator_optimizer.apply(tape.gradient(loss, variables), variables)

    def train_generator(step):
        with tf.GradientTape() as tape:
            logits = discriminator(generator(random.normal([BATCH, NOISE])))
            loss = -cross_entropy(logits, 0.0) if saturating else cross_entropy(logits, 1.0)
        variables = generator.trainable_variables
        gradients = tape.gradient(loss, variables)
        recorder.record(step, gradients, variables, loss=loss)
        generator_optimizer.apply(gradients, variables)

    @tf.function
    def loop():
        for _ in tf.range(ahead):
            train_discriminator()
        for step in tf.range(steps):
            train_discriminator()
            train_generator(step)

    every = max(1, steps // 50)
    with Recorder(folder, generator, every=every, overwrite=True) as recorder:
        loop()


def main():
    """Train with both losses, and say what reached the generator's first layer."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--logdir", type=Path, default=Path("logdir"))
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds")
    options = parser.parse_args()
    ahead, steps = (10, 4) if options.quick else (2000, 1000)

    for name, saturating in (("gan_saturating", True), ("gan_non_saturating", False)):
        folder = options.logdir / name
        train(folder, saturating, ahead, steps)
        history = Run.load(folder).history
        gradient = history["gradient_mean_abs"][:, 0]
        early = gradient[history["step"] < 200].mean()
        print(
            f"{name:18}  gradient of the generator's hidden1: {gradient[0]:.1e} at first,"
            f" {early:.1e} over the first 200 steps, {gradient[-1]:.1e} at last"
        )
    print(board_line(options.logdir))


if __name__ == "__main__":
    main()
