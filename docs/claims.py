"""What the tutorials and papers claim, and what the runs of their suites say to it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mnist_vg import Run
from mnist_vg.runs.results import learned, spread_of


class Finding(NamedTuple):
    """What the runs say to a claim; `holds` is None where there is nothing to decide.

    `why` is a remark on just this outcome.
    """

    ours: str
    holds: bool | None
    why: str = ""


@dataclass
class Suite:
    """The runs of a suite, by scenario, seeds in order."""

    runs: dict[str, list[Run]] = field(default_factory=dict)

    @classmethod
    def of(cls, runs: Iterable[Run]) -> "Suite":
        """Sort runs into scenarios."""
        suite = cls()
        for run in sorted(runs, key=lambda run: run.settings["seed"]):
            suite.runs.setdefault(run.recipe, []).append(run)
        return suite

    def results(self, scenario: str, key: str = "test_accuracy") -> np.ndarray:
        """A result of each seed, NaN where it is not finite."""
        return np.array([run.results[key] for run in self.runs[scenario]], float)

    def histories(self, scenario: str) -> list["Records"]:
        """What each seed recorded, without the row of the final weights."""
        return [Records(run.history, run.settings["iterations"]) for run in self.runs[scenario]]

    def learned(self, scenario: str) -> int:
        """How many seeds could learn."""
        return sum(
            learned(run.results["test_accuracy"], run.results["chance"])
            for run in self.runs[scenario]
        )


class Records(NamedTuple):
    """A run's history up to its last update."""

    history: Mapping
    iterations: int

    def __getitem__(self, name):
        part = self.history[name]
        if name in ("layers", "activation_layers"):
            return part
        return part[self.history["step"] < self.iterations]


class Claim(NamedTuple):
    """A claim, who made it, the figure that was published with it, and how it is measured."""

    suite: str
    text: str
    source: str
    published: str
    measure: Callable[[Suite], Finding]


CLAIMS: list[Claim] = []


def claim(suite, text, source, published="-"):
    """Register the function below as the measure of a claim."""

    def register(measure):
        CLAIMS.append(Claim(suite, text, source, published, measure))
        return measure

    return register


def spread(values, spec=".3f"):
    """Median, least and largest, in words."""
    return spread_of([float(v) if np.isfinite(v) else None for v in values], spec)


def within(values, published, digits=3):
    """Whether each published number is among ours, at the digits that it was published with."""
    low, high = np.round([np.nanmin(values), np.nanmax(values)], digits)
    return all(low <= number <= high for number in published)


def ranked(values, published, spec=".3f"):
    """Ours, and how many of them are below what was published."""
    below = " and ".join(f"{np.sum(values < number)}" for number in published)
    return f"{spread(values, spec)}; {below} of {len(values)} below"


def separate(better, worse):
    """Whether each of one's is above every one of the other's."""
    return np.nanmin(better) > np.nanmax(worse)
