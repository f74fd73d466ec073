"""The same mathematics once more, in NumPy and float64, written without the package."""

import numpy as np

SLOPES = {
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z, a: a * (1 - a)),
    "tanh": (np.tanh, lambda z, a: 1 - a**2),
    "relu": (lambda z: np.maximum(z, 0), lambda z, a: (z > 0).astype(float)),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.2 * z), lambda z, a: np.where(z > 0, 1, 0.2)),
}


def forward(parameters, images, activation):
    """Sums and activations of every layer; `parameters` is kernel, bias, kernel, bias, …"""
    act, _ = SLOPES[activation]
    layers = list(zip(parameters[::2], parameters[1::2], strict=True))
    sums, activations = [], [images]
    for number, (kernel, bias) in enumerate(layers, 1):
        sums.append(activations[-1] @ kernel + bias)
        activations.append(sums[-1] if number == len(layers) else act(sums[-1]))
    return sums, activations


def cross_entropy(parameters, images, labels, activation):
    """Mean softmax cross-entropy."""
    logits = forward(parameters, images, activation)[1][-1]
    logits = logits - logits.max(axis=1, keepdims=True)
    log_probability = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -log_probability[np.arange(len(labels)), labels].mean()


def backprop(parameters, images, labels, activation):
    """The gradient of `cross_entropy`, in the order of `parameters`."""
    _, slope = SLOPES[activation]
    sums, activations = forward(parameters, images, activation)
    logits = activations[-1] - activations[-1].max(axis=1, keepdims=True)
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    delta = (probability - np.eye(logits.shape[1])[labels]) / len(labels)
    gradients = []
    for number in reversed(range(len(sums))):
        gradients[:0] = [activations[number].T @ delta, delta.sum(axis=0)]
        if number:
            delta = (delta @ parameters[2 * number].T) * slope(
                sums[number - 1], activations[number]
            )
    return gradients


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
