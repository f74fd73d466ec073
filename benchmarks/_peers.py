"""The tutorial's work outside of TensorFlow: a script in JAX, and a loop in C as the limit.

Both train from the same initial weights on the same batches as our own trainer, and keep no
records. Each is left out where this machine lacks what it needs.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from mnist_vg.datasets import Dataset, Split
from mnist_vg.training.batches import batch_indices

HERE = Path(__file__).parent
BATCH, SIZES = 30, (784, 10, 10, 10, 10, 10, 10)
ROUNDING = 3e-6
"""How far losses of the first ten steps may be apart, relative to their size, in float32."""


def write_work(folder: Path, examples: Split, steps: int) -> list[np.ndarray]:
    """Write what the peers read, each array raw: pixels, labels, weights, batches.

    Args:
        folder: an empty one.
        examples: MNIST's training split.
        steps: how many batches of 30 there are.

    Returns:
        The initial weights: kernel, bias, kernel, … (Glorot and Bengio 2010, eq. 16; zeros).
    """
    random = np.random.default_rng(0)
    weights = []
    for size, units in itertools.pairwise(SIZES):
        limit = np.sqrt(6 / (size + units))
        weights.append(random.uniform(-limit, limit, (size, units)).astype(np.float32))
        weights.append(np.zeros(units, np.float32))
    arrays = {
        "images": examples.inputs,
        "labels": examples.labels,
        "weights": np.concatenate([part.ravel() for part in weights]),
        "batches": batch_indices(0, len(examples.labels), BATCH, 0, steps - 1),
    }
    for name, array in arrays.items():
        array.tofile(folder / name)
    return weights


def c_loop(folder: Path) -> list[str] | None:
    """The command of the C loop, compiled into the folder; None where there is no compiler."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        print("C loop: skipped, there is no C compiler (cc, or what CC names)")
        return None
    program = str(folder / "loop")
    # Without the last, sums are taken value by value, and the loop is three times slower.
    options = "-O3", "-march=native", "-ffast-math"
    subprocess.run([compiler, *options, str(HERE / "_loop.c"), "-o", program, "-lm"], check=True)
    return [program]


def jax_script() -> list[str] | None:
    """The command of the JAX script; None where JAX is not installed."""
    python = shutil.which(os.environ.get("JAX_PYTHON", sys.executable))
    find = "import sys, importlib.util as util; sys.exit(util.find_spec('jax') is None)"
    if python is None or subprocess.run([python, "-c", find], check=False).returncode:
        print(
            "JAX script: skipped, JAX is not installed (JAX_PYTHON may name a Python that has it)"
        )
        return None
    return [python, str(HERE / "_jax_twin.py")]


def train(command: list[str], folder: Path, activation: str) -> dict:
    """Train a network: steps a second, losses of the first ten steps and of the last."""
    arguments = [*command, str(folder), activation]
    return json.loads(subprocess.run(arguments, check=True, stdout=subprocess.PIPE).stdout)


def check(losses: list[float], activation: str, weights: list[np.ndarray], mnist: Dataset) -> None:
    """Compare a peer's first losses with those of our own trainer.

    Raises:
        AssertionError: they differ by more than rounding.
    """
    # Here, since `start.py` must not import TensorFlow.
    from mnist_vg.scenarios.scenario import Scenario
    from mnist_vg.training.build import make_trainer

    trainer = make_trainer(Scenario(activation=activation, batch_size=BATCH), mnist)
    trainer.jit_compile = False
    trainer.model.set_weights(weights)
    ours = [trainer.advance(1, record=False).loss for _ in losses]
    np.testing.assert_allclose(losses, ours, rtol=ROUNDING)
