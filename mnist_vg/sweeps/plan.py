"""The plan of a sweep: which networks train together, and how much work each group is."""

import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mnist_vg.datasets import Dataset
from mnist_vg.scenarios.scenario import Scenario, group_key, stackable
from mnist_vg.sweeps.sweep import Sweep

MAX_REPLICAS = 100
"""Most networks in a group. Larger groups are hardly faster (`benchmarks/replicas.py`), and a
sweep that is killed loses the groups that are in training."""

MAX_GROUP_WEIGHTS = 2**25
"""Most weights in a group: with gradients and Adam's two moments, these take 0.5 GiB."""


@dataclass(frozen=True)
class Plan:
    """A sweep's groups: the networks that train together.

    Attributes:
        groups: the scenarios of each group. A group's number is its index here.
        work: about how many multiplications and additions each group takes.
        done: the numbers of the groups that have been trained already.
    """

    groups: list[list[Scenario]]
    work: list[float]
    done: frozenset[int]

    @classmethod
    def of(
        cls, sweep: Sweep, datasets: Mapping[str, Dataset], done: Collection[int] = ()
    ) -> "Plan":
        """The plan of a sweep.

        Args:
            sweep: the sweep.
            datasets: its data sets, by name.
            done: the numbers of the parts that the table has.
        """
        together: dict[tuple, list[Scenario]] = {}
        for scenario in sweep.scenarios:
            together.setdefault(group_key(scenario), []).append(scenario)
        groups = [
            group
            for members in together.values()
            for group in _split(members, datasets[members[0].dataset])
        ]
        work = [len(group) * _work(group[0], datasets[group[0].dataset]) for group in groups]
        return cls(groups, work, frozenset(done).intersection(range(len(groups))))

    @property
    def left(self) -> list[int]:
        """The numbers of the groups that have not been trained yet."""
        return [number for number in range(len(self.groups)) if number not in self.done]


def _split(members, dataset):
    """Split networks that may train together into groups of about equal size, within the limits."""
    first = members[0]
    largest = max(1, min(MAX_REPLICAS, MAX_GROUP_WEIGHTS // _weights(first, dataset)))
    largest = largest if stackable(first) else 1
    count = math.ceil(len(members) / largest)
    ends = [len(members) * n // count for n in range(count + 1)]
    return [members[a:b] for a, b in itertools.pairwise(ends)]


def _weights(scenario, dataset):
    """The number of a network's weights, without those of its normalization layers."""
    hidden = [scenario.hidden_size] * (scenario.num_layers - 1)
    units = [dataset.input_size, *hidden, dataset.label_size]
    return sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(units))


def _work(scenario, dataset):
    """About how many multiplications and additions a network's training and records take.

    A training step has three matrix products for each kernel: the forward pass, the gradient
    of the kernel, and the gradient of its inputs. Each record evaluates the test split.
    """
    records = math.ceil(scenario.iterations / scenario.log_every) + 1
    training = 6 * scenario.iterations * scenario.batch_size
    return _weights(scenario, dataset) * (training + 2 * records * len(dataset.test.labels))
