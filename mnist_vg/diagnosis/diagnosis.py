"""Numbers to verdicts: which symptoms a run has, a cause before what it leads to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnist_vg.diagnosis.measurements import Signs, kappas, share_learned, signs_of
from mnist_vg.diagnosis.symptoms import NEEDS, STUCK, SYMPTOMS, Evidence
from mnist_vg.errors import UsageError, nearest
from mnist_vg.runs.paths import as_path
from mnist_vg.runs.results import LEARNED_KAPPA
from mnist_vg.runs.run import find_runs

LEARNED_LOSS = 0.5
"""The same where no accuracy is recorded: half of the first loss."""


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


def diagnose_runs(logdir: str | Path, names: Sequence[str] = ()) -> dict[str, Diagnosis]:
    """Diagnoses of the runs in a folder, or of some, by their place in it; the worst first.

    Raises:
        UsageError: there is no run, or none of a name.
    """
    logdir = as_path(logdir)
    found = {run.folder.relative_to(logdir).as_posix(): run for run in find_runs(logdir)}
    found = {name if name != "." else run.name: run for name, run in found.items()}
    for name in names:
        if name not in found:
            raise UsageError(f"run: {name!r} is not in {logdir}; {nearest(name, found)}")
    diagnoses = {
        name: diagnose(run.history, run.status == "finished")
        for name, run in found.items()
        if name in names or not names
    }

    def severity(item):
        _, diagnosis = item
        return diagnosis.healthy, np.nan_to_num(diagnosis.learned_share, nan=-1.0)

    return dict(sorted(diagnoses.items(), key=severity))
