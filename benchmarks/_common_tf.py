"""What the benchmarks share that needs TensorFlow, imported without its start-up lines."""
# ruff: noqa: E402 - those lines are printed while TensorFlow is imported

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from mnist_vg.tensorflow_import import import_tensorflow

import_tensorflow()

import keras
import tensorflow as tf

# Each trainer traces its own block, and from the fifth on TensorFlow warns of it.
tf.get_logger().setLevel("ERROR")


def write_eagerly(
    step: int,
    scalars: dict[str, tf.Tensor],
    gradients: list[tf.Tensor],
    kernels: list[keras.Variable],
) -> None:
    """Write to the default writer, with TensorFlow's own calls, what a record holds."""
    for tag, value in scalars.items():
        tf.summary.scalar(tag, value, step)
    for number, (gradient, kernel) in enumerate(zip(gradients, kernels, strict=True), start=1):
        mean_abs = tf.reduce_mean(tf.abs(gradient))
        tf.summary.scalar(f"gradient_mean_abs/layer{number}", mean_abs, step)
        tf.summary.histogram(f"gradients/layer{number}", gradient, step)
        tf.summary.histogram(f"weights/layer{number}", kernel, step)
