"""`mnist-vg diagnose --against`: how often two seeds of one scenario differ, and a sick run.

Every seed of a scenario is compared with every other one. What is found between two healthy
ones are false alarms: so FACTOR, SHARE and LOW_LOSS of `runs/comparison.py` were set.
"""

import itertools
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import _common_tf  # noqa: F401 - imports TensorFlow
from _common import run

from mnist_vg import SCENARIOS, Run, Scenario
from mnist_vg.driver import train_all
from mnist_vg.runs.comparison import MEASURES, compare

LEARNING = "relu leaky_relu circles-relu-shallow circles-tanh circles-relu".split()
SICK, GOOD = "sigmoid", "relu"


def main(seeds: int = 4, scenarios: Sequence[Scenario] = ()) -> None:
    """Train, compare and print."""
    scenarios = scenarios or [SCENARIOS[name] for name in [*LEARNING, SICK]]
    with tempfile.TemporaryDirectory() as folder:
        trained = {
            scenario.name: list(train_all(_seeds(scenario, seeds), Path(folder)))
            for scenario in scenarios
        }
        for name, runs in trained.items():
            _print(f"two seeds of {name}", list(itertools.permutations(runs, 2)))
        if {SICK, GOOD} <= trained.keys():
            pairs = list(itertools.product(trained[SICK], trained[GOOD]))
            _print(f"{SICK} against {GOOD}", pairs)


def _seeds(scenario, seeds):
    return [scenario.with_seed(seed) for seed in range(seeds)]


def _print(title: str, pairs: list[tuple[Run, Run]]) -> None:
    """In how many pairs each measure differs in some layer."""
    found = Counter()
    for one, other in pairs:
        differences = compare(one.history, other.history).differences
        found.update({difference.measure for difference in differences})
    counts = [f"{MEASURES[tag]} {count}" for tag, count in found.most_common()]
    print(f"{title}, {len(pairs)} pairs: {', '.join(counts) or 'no difference'}")


if __name__ == "__main__":
    small = Scenario(num_layers=1, iterations=1)
    run(main, __doc__, takes="2 minutes", smoke={"seeds": 2, "scenarios": [small]})
