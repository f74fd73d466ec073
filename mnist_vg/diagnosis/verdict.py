"""Numbers to verdicts: which symptoms a run has, a cause before what it leads to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mnist_vg.diagnosis.measurements import Signs, kappa, kappas, share_learned, signs_of
from mnist_vg.diagnosis.symptoms import NEEDS, STUCK, SYMPTOMS, Evidence
from mnist_vg.runs.events import buckets

LEARNED_KAPPA = 0.61
"""Where agreement beyond chance counts as substantial: Landis and Koch 1977, p. 165."""

LEARNED_LOSS = 0.5
"""The same where no accuracy is recorded: half of the first loss."""


def learned(accuracy: float | None, chance: float) -> bool:
    """Whether a test accuracy shows that a network could learn its task.

    Args:
        accuracy: share of right answers, 0 to 1; None where it is not finite.
        chance: accuracy of always answering the most frequent label, below 1.
    """
    return accuracy is not None and kappa(accuracy, chance) >= LEARNED_KAPPA


def root_causes(evidence: Sequence[Evidence]) -> list[Evidence]:
    """The evidence that no other, of the same step or an earlier one, explains.

    Being stuck at chance may follow from any other symptom.
    """
    causes = {symptom.name: symptom.causes for symptom in SYMPTOMS}
    return [
        effect
        for effect in evidence
        if not any(
            cause.step <= effect.step
            and (cause.symptom in causes[effect.symptom] or effect.symptom == STUCK)
            for cause in evidence
            if cause is not effect
        )
    ]


def has_learned(signs: Signs) -> bool:
    """Whether the newest records show that the network has learned: then nothing holds it up."""
    shares = kappas(signs)
    if np.isfinite(shares).any():
        return bool(shares[-1] >= LEARNED_KAPPA)
    newest = signs.loss[-3:]  # Of single batches, so one alone may be lucky.
    return bool(len(newest) and 0 < np.median(newest) <= LEARNED_LOSS * signs.loss[0])


def find_evidence(signs: Signs) -> list[Evidence]:
    """What makes a network sick, by the step from which on, and a cause before what it leads to.

    Nothing where the network has learned: symptoms that did not keep it from that are none.
    """
    if has_learned(signs):
        return []
    found = [evidence for symptom in SYMPTOMS if (evidence := symptom.find(signs))]
    # Whatever holds a network up, it is at chance from the beginning.
    return sorted(found, key=lambda evidence: (evidence.symptom == STUCK, evidence.step))


@dataclass(frozen=True)
class Diagnosis:
    """What is known of a run's health: its signs, what makes it sick, and whether it has ended."""

    signs: Signs
    evidence: list[Evidence]
    finished: bool

    @property
    def healthy(self) -> bool:
        """Whether nothing speaks against it: no symptom and, once finished, what it has learned.

        A run that has recorded no accuracy may have learned what its loss does not show.
        """
        recorded = len(self.signs.step) > 0
        unknown = recorded and not np.isfinite(kappas(self.signs)).any()
        return not self.evidence and (not self.finished or unknown or has_learned(self.signs))

    @property
    def verdict(self) -> str:
        """The symptoms in words, causes first, or what there is to say without any."""
        if self.evidence:
            return ", ".join(evidence.symptom for evidence in self.evidence)
        if not len(self.signs.step):
            return "nothing recorded"
        if not self.healthy:
            return "not learned, no known symptom"
        if has_learned(self.signs):
            return "healthy"
        return "no symptom found" if self.finished else "no symptom so far"

    @property
    def learned_share(self) -> float:
        """What the newest record knows of what chance does not; NaN where nothing tells."""
        shares = share_learned(self.signs)[-1:]
        return float(shares[0, 0]) if shares.size else np.nan

    @property
    def lacks(self) -> dict[str, str]:
        """Symptoms that cannot be looked for, and what would have to be recorded."""
        known = {key for key in NEEDS if np.isfinite(getattr(self.signs, key)).any()}
        if len(self.signs.layers) == 1:
            known |= {"dead", "saturated"}  # It has no activation to record.
        return {s.name: NEEDS[s.needs[-1]] for s in SYMPTOMS if not known & set(s.needs)}


def diagnose(history: Mapping, finished: bool) -> Diagnosis:
    """The diagnosis of a run that has recorded `history`, and has ended or not."""
    signs = signs_of(history)
    return Diagnosis(signs, find_evidence(signs), finished)


class Monitor:
    """Looks at a run record by record, and tells each symptom once.

    Args:
        history: of the records that a run which goes on has already.
    """

    def __init__(self, history: Mapping | None = None):
        self._signs = signs_of(history) if history else None
        self._told = {e.symptom for e in find_evidence(self._signs)} if history else set()

    def record(
        self, step: int, scalars: Mapping[str, float], tables: Sequence[tuple[Sequence, Mapping]]
    ) -> list[Evidence]:
        """The symptoms that one more record makes certain; arguments are `EventLog.record`'s."""
        history = {"step": np.array([step])} | {tag: [value] for tag, value in scalars.items()}
        for (layers, measures), name in zip(tables, ("layers", "activation_layers"), strict=False):
            history[name] = layers
            for group, measured in measures.items():
                histogram = isinstance(measured, Mapping)
                history[group] = [buckets(**measured) if histogram else measured]
        newest = signs_of(history)
        self._signs = self._signs.then(newest) if self._signs else newest
        found = find_evidence(self._signs)
        new = [evidence for evidence in found if evidence.symptom not in self._told]
        self._told |= {evidence.symptom for evidence in new}
        return new
