"""The compiled block with small variables packed in one vector, and with each by itself.

`SMALL = 0` switches the vector off; layer 1's kernel is transposed either way. "compile"
is tracing and compiling.
"""

import time
from collections.abc import Mapping
from unittest import mock

import _common_tf  # noqa: F401 - imports TensorFlow quietly
from _common import in_turn, ratios, run, spread

from mnist_vg import datasets
from mnist_vg.datasets import Dataset
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.training import packing
from mnist_vg.training.build import make_trainer
from mnist_vg.training.trainer import BLOCK_STEPS, Trainer

NETS = {
    "tutorial: width 10, 6 layers": Scenario(),
    "deep: width 10, 30 layers": Scenario(num_layers=30),
    "wide: width 512, 6 layers": Scenario(hidden_size=512),
}
SMALL = {"packed": packing.SMALL, "not packed": 0}


def compiled_trainer(scenario: Scenario, dataset: Dataset, small: int) -> tuple[Trainer, float]:
    """A trainer that packs variables of up to `small` elements, and its compile seconds."""
    with mock.patch.object(packing, "SMALL", small):
        trainer = make_trainer(scenario, dataset)
    start = time.perf_counter()
    trainer.compile()
    return trainer, time.perf_counter() - start


def steps_per_second(trainer: Trainer, seconds: float) -> float:
    """The speed of whole blocks, run for `seconds` or for one block."""
    first, start, passed = trainer.steps_done, time.perf_counter(), -1.0
    while passed < seconds:
        trainer.advance(BLOCK_STEPS, record=False)
        passed = time.perf_counter() - start
    return (trainer.steps_done - first) / passed


def compare(
    scenario: Scenario, dataset: Dataset, rounds: int, compiles: int, seconds: float
) -> None:
    """Print the figures of one network, packed and not."""
    makers = {
        way: lambda small=small: compiled_trainer(scenario, dataset, small)
        for way, small in SMALL.items()
    }
    made = in_turn(makers, compiles)
    times = {way: [each for _, each in pairs] for way, pairs in made.items()}
    trainers = {way: pairs[-1][0] for way, pairs in made.items()}
    runs = {
        way: lambda trainer=trainer: steps_per_second(trainer, seconds)
        for way, trainer in trainers.items()
    }
    speeds = in_turn(runs, rounds)
    for way in SMALL:
        print(f"  {way:28} {spread(speeds[way]):>24} {spread(times[way], '.2f'):>24}")
    faster = spread(ratios(*speeds.values()), ".2f")
    longer = spread(ratios(*times.values()), ".2f")
    print(f"  {'packed / not packed':28} {faster:>24} {longer:>24}")


def main(
    rounds: int = 5,
    compiles: int = 2,
    nets: Mapping[str, Scenario] = NETS,
    seconds: float = 0.2,
) -> None:
    """Measure and print; compiling is most of the time that all this takes."""
    dataset = datasets.load()
    compiled_trainer(next(iter(nets.values())), dataset, 0)  # the first takes longer
    print(f"{rounds} rounds of steps and {compiles} of compiling, in turn: median (min–max)")
    for name, scenario in nets.items():
        print(f"\n{name:30} {'steps/s':>24} {'compile s':>24}")
        compare(scenario, dataset, rounds, compiles, seconds)


if __name__ == "__main__":
    tiny = {"tiny: 1 layer": Scenario(num_layers=1)}
    run(
        main,
        __doc__,
        takes="2 minutes",
        smoke={"rounds": 1, "compiles": 1, "nets": tiny, "seconds": 0.0},
    )
