"""Networks that are too large for Keras or for this machine, found before anything is imported."""

import os

from mnist_vg.errors import UsageError
from mnist_vg.scenarios.scenario import PARAMETRIC_RELU, Scenario

MOST_KERAS_LAYERS = 900
"""Keras goes along a model's layers by recursion, and Python allows 1,000 calls (tried: Keras 3.15,
`Model(num_layers=1000)`, RecursionError)."""

FLOAT32_BYTES, COPIES = 4, 3
"""Each weight is held by the model and by the optimizer, and has a gradient."""


def check_depth(scenario: Scenario) -> None:
    """Check that a network that trains alone is not too deep for Keras.

    Raises:
        UsageError: it is.
    """
    normalized = scenario.normalization != "none"
    apart = normalized or scenario.activation == PARAMETRIC_RELU
    most = MOST_KERAS_LAYERS // (1 + normalized + apart + scenario.skip_connections)
    if scenario.num_layers > most:
        raise UsageError(
            f"num_layers: {scenario.num_layers} is too deep for Keras; give at most {most}"
        )


def check_memory(scenario: Scenario) -> None:
    """Check that this machine has the memory that the hidden layers alone need.

    Raises:
        UsageError: it has not.
    """
    kernels = max(0, scenario.num_layers - 2) * scenario.hidden_size**2
    beside = 2 * scenario.hidden_size if scenario.num_layers > 1 else 0
    needed = FLOAT32_BYTES * COPIES * (kernels + beside)
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > here:
        raise UsageError(
            f"hidden_size: {scenario.hidden_size}, with num_layers {scenario.num_layers}, needs "
            f"{needed / 1e9:,.0f} GB at least, and this machine has {here / 1e9:,.0f} GB; give less"
        )
