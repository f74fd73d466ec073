"""What a sweep is about to do: which networks train together, and how much work that is."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from mnist_vg.datasets import Dataset
from mnist_vg.scenarios.scenario import Scenario, group_key, stackable
from mnist_vg.sweeps.sweep import Sweep

REPLICAS = 100
"""Networks in a group, at most: more gain little (`benchmarks/replicas.py`), and a group is
what a killed sweep may lose."""

GROUP_WEIGHTS = 2**25
"""Weights in a group, at most: with gradients and Adam's two moments half a GiB."""


@dataclass(frozen=True)
class Plan:
    """A sweep's groups of networks that train together, in the order of the grid.

    Attributes:
        groups: the networks of each.
        work: multiplications and additions of each, about.
        done: numbers of the groups that are trained already.
    """

    groups: list[list[Scenario]]
    work: list[float]
    done: frozenset[int]

    @classmethod
    def of(
        cls, sweep: Sweep, datasets: Mapping[str, Dataset], done: frozenset[int] = frozenset()
    ) -> "Plan":
        """The plan of a sweep.

        Args:
            sweep: what to train.
            datasets: its data sets, by name.
            done: numbers of the groups that are trained already.
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
        return cls(groups, work, done)

    @property
    def left(self) -> list[int]:
        """Numbers of the groups that are to be trained."""
        return [number for number in range(len(self.groups)) if number not in self.done]


def _split(members, dataset):
    """Networks that could train together, in groups of even sizes that fit into memory."""
    first = members[0]
    most = max(1, min(REPLICAS, GROUP_WEIGHTS // _weights(first, dataset)))
    most = most if stackable(first) else 1
    parts = -(-len(members) // most)
    ends = [len(members) * part // parts for part in range(parts + 1)]
    return [members[a:b] for a, b in itertools.pairwise(ends)]


def _weights(scenario, dataset):
    """Weights of a network, without those of normalizations."""
    hidden = [scenario.hidden_size] * (scenario.num_layers - 1)
    units = [dataset.input_size, *hidden, dataset.label_size]
    return sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(units))


def _work(scenario, dataset):
    """Multiplications and additions of a network's training and records, about.

    Forward, backward to the weights, and backward to the inputs are each a product.
    """
    records = -(-scenario.iterations // scenario.log_every) + 1
    trained = 6 * scenario.iterations * scenario.batch_size
    return _weights(scenario, dataset) * (trained + 2 * records * len(dataset.test.labels))
