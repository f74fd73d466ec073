"""What a network is given of an example, and how its answers are scored."""

import tensorflow as tf

from mnist_vg.datasets import Split


def on_device(examples: Split) -> Split:
    """A split whose arrays are tensors: used again and again, it is copied only once."""
    return Split(tf.constant(examples.inputs), tf.constant(examples.labels))


def scaled_inputs(inputs) -> tf.Tensor:
    """Pixels, uint8, as float32 from 0 to 1; other inputs as they are."""
    return tf.cast(inputs, tf.float32) / 255 if inputs.dtype == tf.uint8 else inputs


def loss_and_accuracy(logits, labels) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean cross-entropy, in nats, and the share of right answers.

    Args:
        logits: `[..., examples, classes]`; a single one is that of the second class.
        labels: int `[..., examples]`.

    Returns:
        Two float32 `[...]`.
    """
    if logits.shape[-1] == 1:
        logits = logits[..., 0]
        losses = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(labels, tf.float32), logits)
        answers = tf.cast(logits > 0, labels.dtype)
    else:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        answers = tf.argmax(logits, axis=-1, output_type=labels.dtype)
    right = tf.cast(answers == labels, tf.float32)
    return tf.reduce_mean(losses, axis=-1), tf.reduce_mean(right, axis=-1)
