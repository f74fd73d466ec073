"""Many seeds of one scenario: one compilation for all, against one for each.

Both are whole runs in folders of their own, records, pictures and checkpoints included,
in turn in one process. They write the same numbers, bit for bit (a test).
"""

import functools
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

import _common_tf  # noqa: F401 - imports TensorFlow, which is not to be timed
from _common import in_turn, ratios, run, spread

from mnist_vg import SCENARIOS, Scenario
from mnist_vg.driver import train_all

COMPARED = (SCENARIOS["sigmoid"], SCENARIOS["circles-tanh"])

TARGET = 2
"""How many times faster than with a compilation each, at least."""


def together(scenarios: Iterable[Scenario], folder: Path) -> None:
    """As `mnist-vg train SCENARIO --seeds N` trains them."""
    list(train_all(scenarios, folder))


def each(scenarios: Iterable[Scenario], folder: Path) -> None:
    """One call a seed."""
    for scenario in scenarios:
        together([scenario], folder)


def seconds(way, scenario: Scenario, seeds: int) -> float:
    """How long a way takes in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        way([scenario.with_seed(seed) for seed in range(seeds)], Path(folder))
        return time.perf_counter() - start


def main(rounds: int = 3, seeds: int = 10, scenarios: Sequence[Scenario] = COMPARED) -> None:
    """Measure and print."""
    print(f"{seeds} seeds, {rounds} rounds in turn: median (min–max)\n")
    for scenario in scenarios:
        ways = {
            f"{way.__name__}, {scenario.name}": functools.partial(seconds, way, scenario, seeds)
            for way in (together, each)
        }
        figures = in_turn(ways, rounds)
        for way, of_way in figures.items():
            print(f"{way:24}{spread(of_way, '.1f'):>22} s")
        ours, theirs = figures.values()
        faster = ratios(theirs, ours)
        met = "met" if median(faster) >= TARGET else "missed"
        print(f"ratio {spread(faster, '.2f')}, target at least {TARGET}: {met}\n")


if __name__ == "__main__":
    small = Scenario(num_layers=1, iterations=1)
    run(main, __doc__, takes="7 minutes", smoke={"rounds": 1, "seeds": 2, "scenarios": [small]})
