"""What a run came to: whether it has learned, and its results in words."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence


def kappa(accuracy, chance):
    """Accuracy corrected for chance: 0 is chance, 1 is perfect.

    `(accuracy - chance) / (1 - chance)`, the form of Cohen's kappa (1960). Chance is the
    accuracy of always answering the most frequent label.
    """
    return (accuracy - chance) / (1 - chance)


LEARNED_KAPPA = 0.61
"""From here on, agreement beyond chance is called substantial (Landis and Koch 1977, p. 165)."""


def learned(accuracy: float | None, chance: float) -> bool:
    """Whether a test accuracy shows that a network could learn its task.

    Args:
        accuracy: share of right answers, 0 to 1; None if it is not finite.
        chance: accuracy of always answering the most frequent label, below 1.
    """
    return accuracy is not None and kappa(accuracy, chance) >= LEARNED_KAPPA


def result_row(results: Sequence[dict[str, float | None]]) -> dict[str, str]:
    """Results of a scenario's finished runs in words, as heading to text.

    Several runs (one per seed) give the median with the smallest and the largest value.
    Losses and accuracies are those of the final weights on whole splits. The gradient
    ratio is layer 1's mean absolute gradient over the last layer's, at the first record
    and at the last.
    """

    def spread(key, spec):
        return spread_of([of_run[key] for of_run in results], spec)

    return {
        "Could learn": how_many([learned(r["test_accuracy"], r["chance"]) for r in results]),
        "Loss": spread("train_loss", ".3f"),
        "Train accuracy": spread("train_accuracy", ".2%"),
        "Test accuracy": spread("test_accuracy", ".2%"),
        "Gradient ratio": f"{spread('first_gradient_ratio', '.2g')} -> "
        f"{spread('last_gradient_ratio', '.2g')}",
    }


def how_many(true: Sequence[bool]) -> str:
    """How many of some runs, in words: "yes" or "no" for one, else "2 of 3"."""
    return ("yes" if true[0] else "no") if len(true) == 1 else f"{sum(true)} of {len(true)}"


def counted(verdicts: Sequence[str]) -> str:
    """The verdict of a run; of several runs, a line for each verdict with the number of runs."""
    if len(verdicts) == 1:
        return verdicts[0]
    counts = Counter(verdicts).most_common()
    return "\n".join(f"{verdict} ({count} of {len(verdicts)})" for verdict, count in counts)


def spread_of(values: Sequence[float | None], spec: str) -> str:
    """Median, smallest and largest of some values, in words; None stands for a value not finite."""
    finite = [value for value in values if value is not None]
    if not finite:
        return "not finite"
    median = format(statistics.median(finite), spec)
    if len(values) == 1:
        return median
    lacking = f", {len(values) - len(finite)} not finite" if len(finite) < len(values) else ""
    return f"{median} ({min(finite):{spec}}–{max(finite):{spec}}{lacking})"


def finite_or_none(results: Mapping[str, float | None]) -> dict[str, float | None]:
    """The results in a form that JSON can hold: None for a number that is not finite."""
    return {
        name: None if value is None or not math.isfinite(value) else float(value)
        for name, value in results.items()
    }
