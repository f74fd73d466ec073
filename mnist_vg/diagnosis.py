"""Numbers to verdicts."""

LEARNED_KAPPA = 0.61
"""Where agreement beyond chance counts as substantial: Landis and Koch 1977, p. 165."""


def learned(accuracy: float | None, chance: float) -> bool:
    """Whether a test accuracy shows that a network could learn its task.

    Cohen's kappa (1960, eq. 1), the share of what chance leaves wrong that the
    network got right, must be at least `LEARNED_KAPPA`.

    Args:
        accuracy: share of right answers, 0 to 1; None where it is not finite.
        chance: accuracy of always answering the most frequent label, below 1.
    """
    return accuracy is not None and (accuracy - chance) / (1 - chance) >= LEARNED_KAPPA
