"""Whether `mnist_vg.check` names a fault before training, and says nothing of healthy models.

Each fault is in one model, and its twin differs in nothing else. A fault is named if the first
finding says so. The tables are those in docs/checks.md.
"""

import time
import warnings
from collections.abc import Sequence

import _common_tf  # noqa: F401 - imports TensorFlow quietly
import keras
from _check_cases import FAULTS, HEALTHY
from _common import run

from mnist_vg import check
from mnist_vg.checks import Checks


def checked(make) -> tuple[Checks, float]:
    """What a check says of a case, and the seconds it took, without those of making it."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(7)
    model, x, y = make()
    start = time.perf_counter()
    return check(model, x, y), time.perf_counter() - start


def main(faults: Sequence[str] = tuple(FAULTS), healthy: Sequence[str] = tuple(HEALTHY)) -> None:
    """Check and print."""
    warnings.simplefilter("ignore")  # Keras warns of some of the faults.
    print("| Fault | Named first | Findings on the twin |\n|---|---|---|")
    named = silent = 0
    for name in faults:
        words, make = FAULTS[name]
        sick, twin = (checked(lambda state=state, make=make: make(state))[0] for state in (1, 0))
        right = bool(sick.findings) and words in repr(sick.findings[0])
        named, silent = named + right, silent + (not twin.findings)
        print(f"| {name} | {'yes' if right else 'no'} | {len(twin.findings)} |", flush=True)
    print(f"\n{named} of {len(faults)} named, {silent} twins without a finding\n")
    print("| Healthy model | Findings | Seconds |\n|---|---|---|")
    for name in healthy:
        result, seconds = checked(HEALTHY[name])
        print(f"| {name} | {len(result.findings)} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    smoke = {"faults": ["labels from 1", "dead units"], "healthy": ["autoencoder"]}
    run(main, __doc__, takes="4 minutes", smoke=smoke)
