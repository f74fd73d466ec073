"""Errors of TensorFlow as errors of this package: one line that says what to do."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from mnist_vg.errors import RunFailed, UsageError, first_line
from mnist_vg.scenarios.scenario import Scenario


@contextlib.contextmanager
def makes_a_network(scenario: Scenario) -> Iterator[None]:
    """Within the context, a scenario that makes no network raises UsageError."""
    try:
        yield
    except UsageError:
        raise
    except (
        ValueError,
        TypeError,
        LookupError,
        MemoryError,
        RecursionError,
        tf.errors.OpError,
    ) as error:
        raise UsageError(
            f"scenario: {scenario.name!r} makes no network: {first_line(error)}"
        ) from error


@contextlib.contextmanager
def break_told(scenario: Scenario, trainer) -> Iterator[None]:
    """Within the context, an error of TensorFlow or the disk raises RunFailed with the step."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        raise RunFailed(
            f"run {scenario.name!r} broke at step {trainer.steps_done} of {scenario.iterations}: "
            f"{first_line(error)}; what was written is kept, and the same command (without "
            "--overwrite) goes on from its last checkpoint"
        ) from error
