"""A second implementation of the mathematics, in NumPy and float64, without the package."""

import numpy as np

SLOPES = {
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z, a: a * (1 - a)),
    "tanh": (np.tanh, lambda z, a: 1 - a**2),
    "relu": (lambda z: np.maximum(z, 0), lambda z, a: (z > 0).astype(float)),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.2 * z), lambda z, a: np.where(z > 0, 1, 0.2)),
}


def forward(parameters, images, activation):
    """Pre-activations and activations of every layer, for parameters kernel, bias, kernel, …"""
    act, _ = SLOPES[activation]
    layers = list(zip(parameters[::2], parameters[1::2], strict=True))
    sums, activations = [], [images]
    for number, (kernel, bias) in enumerate(layers, 1):
        sums.append(activations[-1] @ kernel + bias)
        activations.append(sums[-1] if number == len(layers) else act(sums[-1]))
    return sums, activations


def losses(logits, labels):
    """Each example's cross-entropy and its gradient. One logit is that of the second class."""
    if logits.shape[1] == 1:
        z = logits[:, 0]
        probability = (1 + np.tanh(z / 2)) / 2
        return np.logaddexp(0, z) - labels * z, (probability - labels)[:, np.newaxis]
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    right = np.eye(logits.shape[1])[labels]
    return -(right * log_probability).sum(axis=1), np.exp(log_probability) - right


def cross_entropy(parameters, images, labels, activation):
    """Mean cross-entropy with a softmax or, for one logit, with a sigmoid."""
    return losses(forward(parameters, images, activation)[1][-1], labels)[0].mean()


def accuracy(parameters, images, labels, activation):
    """The share of right predictions."""
    logits = forward(parameters, images, activation)[1][-1]
    answers = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(axis=1)
    return (answers == labels).mean()


def signals(parameters, images, labels, activation):
    """Back-propagated gradients, one row per example: of its own loss, not of the mean loss.

    Returns:
        The slopes of the hidden activations, the gradients of the pre-activations of every layer,
        including the logits, and the gradients of the hidden activations.
    """
    sums, activations = forward(parameters, images, activation)
    to_sums, to_outputs, slopes = [losses(activations[-1], labels)[1]], [], []
    for number in reversed(range(1, len(sums))):
        to_outputs[:0] = [to_sums[0] @ parameters[2 * number].T]
        slopes[:0] = [SLOPES[activation][1](sums[number - 1], activations[number])]
        to_sums[:0] = [to_outputs[0] * slopes[0]]
    return slopes, to_sums, to_outputs


def backprop(parameters, images, labels, activation):
    """The gradient of `cross_entropy`, in the order of `parameters`."""
    inputs = forward(parameters, images, activation)[1]
    to_sums = signals(parameters, images, labels, activation)[1]
    gradients = []
    for values, delta in zip(inputs, to_sums, strict=False):
        gradients += [values.T @ delta / len(labels), delta.mean(axis=0)]
    return gradients


def rms(values):
    """Root mean square."""
    return np.sqrt(np.mean(np.square(values)))


def adam_step(parameters, gradients, learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-7):
    """The first step of Adam (Kingma and Ba 2015, algorithm 1, in section 2's last form)."""
    rate = learning_rate * np.sqrt(1 - beta2) / (1 - beta1)
    return [
        p - rate * (1 - beta1) * g / (np.sqrt((1 - beta2) * g**2) + epsilon)
        for p, g in zip(parameters, gradients, strict=True)
    ]


def histogram(values, buckets=30):
    """Left edge, right edge and count of equal buckets, the last one closed."""
    counts, edges = np.histogram(np.asarray(values, np.float64).ravel(), bins=buckets)
    return np.stack([edges[:-1], edges[1:], counts], axis=1)
