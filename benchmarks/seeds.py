"""Many seeds of one scenario: one compilation for all, against one for each.

Both are whole runs in folders of their own, records, pictures and checkpoints included,
in turn in one process. They write the same numbers, bit for bit (a test).
"""

import argparse
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import _common_tf  # noqa: F401 - imports TensorFlow, which is not to be timed
from _common import in_turn, ratios, spread

from mnist_vg import SCENARIOS, Scenario
from mnist_vg.driver import train_all

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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    print(f"{arguments.seeds} seeds, {arguments.rounds} rounds in turn: median (min–max)\n")
    for name in ("sigmoid", "circles-tanh"):
        ways = {
            f"{way.__name__}, {name}": lambda way=way, name=name: seconds(
                way, SCENARIOS[name], arguments.seeds
            )
            for way in (together, each)
        }
        figures = in_turn(ways, arguments.rounds)
        for way, of_way in figures.items():
            print(f"{way:24}{spread(of_way, '.1f'):>22} s")
        ours, theirs = figures.values()
        faster = ratios(theirs, ours)
        met = "met" if sorted(faster)[len(faster) // 2] >= TARGET else "missed"
        print(f"ratio {spread(faster, '.2f')}, target at least {TARGET}: {met}\n")
