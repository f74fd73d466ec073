"""A sweep's networks against the same ones trained one after the other, and what it costs beside.

In this process, so that both have the same cores. "beside" is all that is not training: the
plan, diagnoses, rows, files, and writing them. The data are decoded and TensorFlow is imported
before.
"""

import functools
import tempfile
import time
from collections.abc import Sequence
from statistics import median

import _common_tf  # noqa: F401
from _common import in_turn, ratios, run, spread

from mnist_vg import datasets
from mnist_vg.driver import train_all
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.sweeps.sweep import Sweep
from mnist_vg.sweeps.sweeper import Sweeper

SWEEP = Sweep("rates", Scenario(), {"learning_rate": (0.0003, 0.001, 0.003, 0.01)}, seeds=50)
BESIDE = 0.02
"""Share of the training time that everything beside it may take."""


def together(sweep: Sweep) -> tuple[float, float]:
    """Seconds a network, and the share of the training time that the rest takes."""
    training = []
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        sweeper = Sweeper(sweep, folder, workers=0)
        sweeper.run(watch=lambda number, outcome: training.append(outcome.seconds))
    seconds = time.perf_counter() - start
    return seconds / len(sweep.scenarios), seconds / sum(training) - 1


def alone(scenarios: Sequence[Scenario]) -> tuple[float, float]:
    """Seconds a network of `mnist-vg train`, which share a program, too."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        list(train_all(scenarios, folder))
    return (time.perf_counter() - start) / len(scenarios), 0.0


def main(rounds: int = 3, sweep: Sweep = SWEEP) -> None:
    """Measure and print; one after the other, networks take a second each, so only ten are."""
    datasets.load()
    ways = {
        "sweep": functools.partial(together, sweep),
        "train": functools.partial(alone, sweep.scenarios[:10]),
    }
    figures = in_turn(ways, rounds)
    seconds = {way: [figure for figure, _ in of_way] for way, of_way in figures.items()}
    beside = [share for _, share in figures["sweep"]]
    print(f"{len(sweep.scenarios)} networks, {rounds} rounds in turn: median (min–max)\n")
    for way in seconds:
        print(f"{way:10}{spread(seconds[way], '.3f'):>24} s a network")
    print(f"{'ratio':10}{spread(ratios(seconds['train'], seconds['sweep']), '.1f'):>24}")
    met = "met" if median(beside) <= BESIDE else "missed"
    print(f"{'beside':10}{spread(beside, '.1%'):>24}    target {BESIDE:.0%} at most: {met}")


if __name__ == "__main__":
    small = Sweep(
        "rates", Scenario(num_layers=1, iterations=1), {"learning_rate": (0.001,)}, seeds=2
    )
    run(main, __doc__, takes="3 minutes", smoke={"rounds": 1, "sweep": small})
