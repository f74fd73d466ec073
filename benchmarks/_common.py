"""What the benchmarks share: ways run in turn, and how their figures are printed.

Other programs use the machine too, and slow whatever happens to run at the moment.
So nothing here is measured alone: ways take turns, and only ratios within a round
are worth comparing.
"""

from collections.abc import Callable
from statistics import median
from typing import TypeVar

Figure = TypeVar("Figure")


def in_turn(ways: dict[str, Callable[[], Figure]], rounds: int) -> dict[str, list[Figure]]:
    """Call every way once a round: A B C, A B C and so on.

    Args:
        ways: what is measured, by name; each returns its figure.
        rounds: how often.

    Returns:
        The figures of each way, one a round.
    """
    figures = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            figures[name].append(way())
    return figures


def ratios(figures: list[float], others: list[float]) -> list[float]:
    """The first over the second, round by round."""
    return [figure / other for figure, other in zip(figures, others, strict=True)]


def spread(figures: list[float], spec: str = ",.0f") -> str:
    """`median (min–max)`, each number formatted by `spec`."""
    return f"{median(figures):{spec}} ({min(figures):{spec}}–{max(figures):{spec}})"
