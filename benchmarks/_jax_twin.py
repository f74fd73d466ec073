"""The tutorial's networks in JAX: one `lax.scan` over the steps between records.

    python _jax_twin.py FOLDER sigmoid relu leaky_relu

`_peers.py` writes FOLDER and calls it, with a Python that has JAX and need not have this package.
A line of JSON for each network tells the steps a second, and the losses of the first ten steps and
of the last.
"""

import functools
import json
import math
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

INPUTS, UNITS, LAYERS, BATCH = 784, 10, 6, 30
RECORD_EVERY, TOLD = 200, 10
LEARNING_RATE, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.999, 1e-7
"""Keras' defaults."""

ACTIVATIONS = {
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "leaky_relu": functools.partial(jax.nn.leaky_relu, negative_slope=0.2),
}


def cross_entropy(parameters, activation, images, labels):
    """The batch's mean loss."""
    hidden = images
    for kernel, bias in parameters[:-1]:
        hidden = ACTIVATIONS[activation](hidden @ kernel + bias)
    kernel, bias = parameters[-1]
    log_probability = jax.nn.log_softmax(hidden @ kernel + bias)
    return -jnp.take_along_axis(log_probability, labels[:, None], axis=1).mean()


def adam(state, gradients):
    """Kingma and Ba 2015, at the end of section 2."""
    parameters, first, second, step = state
    step += 1
    rate = LEARNING_RATE * jnp.sqrt(1 - BETA_2**step) / (1 - BETA_1**step)
    first = jax.tree.map(lambda m, g: m + (g - m) * (1 - BETA_1), first, gradients)
    second = jax.tree.map(lambda v, g: v + (g * g - v) * (1 - BETA_2), second, gradients)
    parameters = jax.tree.map(
        lambda p, m, v: p - rate * m / (jnp.sqrt(v) + EPSILON), parameters, first, second
    )
    return parameters, first, second, step


@functools.partial(jax.jit, static_argnames="activation")
def train(state, examples, batches, activation):
    """Some steps; the new state, and the loss of each step."""
    images, labels = examples

    def step(state, batch):
        inputs = images[batch].astype(jnp.float32) / 255
        loss, gradients = jax.value_and_grad(cross_entropy)(
            state[0], activation, inputs, labels[batch]
        )
        return adam(state, gradients), loss

    return jax.lax.scan(step, state, batches)


def initial_state(weights):
    """Kernels and biases, layer by layer, and the state of Adam."""
    parameters, rest = [], weights
    for size in (INPUTS, *[UNITS] * (LAYERS - 1)):
        kernel, bias, rest = np.split(rest, [size * UNITS, (size + 1) * UNITS])
        parameters.append((jnp.array(kernel.reshape(size, UNITS)), jnp.array(bias)))
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    return parameters, zeros, zeros, jnp.float32(0)


def main(folder, *activations):
    """Train each network, and print."""
    folder = Path(folder)
    images = np.fromfile(folder / "images", np.uint8).reshape(-1, INPUTS)
    examples = jnp.array(images), jnp.array(np.fromfile(folder / "labels", np.int32))
    batches = np.fromfile(folder / "batches", np.int32).reshape(-1, BATCH)
    steps = len(batches)
    # Blocks of one length, so that they share a program; a block ends at each record.
    blocks = batches.reshape(-1, math.gcd(steps, RECORD_EVERY), BATCH)
    for activation in activations:
        state = initial_state(np.fromfile(folder / "weights", np.float32))
        compiled = train.lower(state, examples, blocks[0], activation).compile()
        losses = []
        start = time.perf_counter()
        for block in blocks:
            state, losses_of_block = compiled(state, examples, block)
            losses += losses_of_block.tolist()
        seconds = time.perf_counter() - start
        told = {"first_losses": losses[:TOLD], "last_loss": losses[-1]}
        print(json.dumps({"steps_per_second": steps / seconds, **told}))


if __name__ == "__main__":
    main(*sys.argv[1:])
