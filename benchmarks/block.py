"""The compiled block with small variables packed in one vector, and with each by itself.

`SMALL = 0` switches the vector off; layer 1's kernel is transposed either way. "compile"
is tracing and compiling.
"""

import argparse
import time
from unittest import mock

import _common_tf
from _common import in_turn, ratios, spread

from mnist_vg import datasets
from mnist_vg.datasets import Split
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.training import packing
from mnist_vg.training.trainer import BLOCK_STEPS, Trainer

NETS = {
    "tutorial: width 10, 6 layers": Scenario(),
    "deep: width 10, 30 layers": Scenario(num_layers=30),
    "wide: width 512, 6 layers": Scenario(hidden_size=512),
}
SMALL = {"packed": packing.SMALL, "not packed": 0}

COMPILES = 2
"""Trainers made of each kind: compiling is most of the time that all this takes."""

SECONDS = 0.2
"""How long blocks are run for one figure, or else one block."""


def compiled_trainer(scenario: Scenario, examples: Split, small: int) -> tuple[Trainer, float]:
    """A trainer that packs variables of up to `small` elements, and its compile seconds."""
    with mock.patch.object(packing, "SMALL", small):
        trainer = _common_tf.make_trainer(scenario, examples)
    start = time.perf_counter()
    trainer.compile()
    return trainer, time.perf_counter() - start


def steps_per_second(trainer: Trainer) -> float:
    """The speed of whole blocks."""
    first, start = trainer.steps_done, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        trainer.advance(BLOCK_STEPS, record=False)
    return (trainer.steps_done - first) / (time.perf_counter() - start)


def compare(scenario: Scenario, examples: Split, rounds: int) -> None:
    """Print the figures of one network, packed and not."""
    makers = {
        way: lambda small=small: compiled_trainer(scenario, examples, small)
        for way, small in SMALL.items()
    }
    made = in_turn(makers, COMPILES)
    seconds = {way: [each for _, each in pairs] for way, pairs in made.items()}
    trainers = {way: pairs[-1][0] for way, pairs in made.items()}
    runs = {way: lambda t=trainer: steps_per_second(t) for way, trainer in trainers.items()}
    speeds = in_turn(runs, rounds)
    for way in SMALL:
        print(f"  {way:28} {spread(speeds[way]):>24} {spread(seconds[way], '.2f'):>24}")
    faster = spread(ratios(*speeds.values()), ".2f")
    longer = spread(ratios(*seconds.values()), ".2f")
    print(f"  {'packed / not packed':28} {faster:>24} {longer:>24}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of steps [5]")
    rounds = parser.parse_args().rounds
    examples = datasets.load().train
    compiled_trainer(Scenario(), examples, 0)  # the first of a process takes longer
    print(f"{rounds} rounds of steps and {COMPILES} of compiling, in turn: median (min–max)")
    for name, scenario in NETS.items():
        print(f"\n{name:30} {'steps/s':>24} {'compile s':>24}")
        compare(scenario, examples, rounds)


if __name__ == "__main__":
    main()
