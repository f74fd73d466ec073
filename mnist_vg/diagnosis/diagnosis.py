"""Numbers to verdicts: which symptoms a run has, a cause before what it leads to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnist_vg.diagnosis.measurements import Measurements, kappas, measurements_of, share_learned
from mnist_vg.diagnosis.symptoms import NEEDS, STUCK_AT_CHANCE, SYMPTOMS, Evidence
from mnist_vg.errors import UsageError, nearest
from mnist_vg.runs.paths import as_path
from mnist_vg.runs.results import LEARNED_KAPPA
from mnist_vg.runs.run import find_runs

LEARNED_LOSS = 0.5
"""The same where no accuracy is recorded: half of the first loss."""


SEPARATOR = ", "
"""Between the symptoms of a verdict."""
HEALTHY = "healthy"
NOT_LEARNED = "not learned, no known symptom"


def first_cause(verdict: str) -> str:
    """The symptom that a verdict names first; a verdict without symptoms as it is."""
    first = verdict.split(SEPARATOR)[0]
    return first if first in [symptom.name for symptom in SYMPTOMS] else verdict


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
            and (cause.symptom in causes[effect.symptom] or effect.symptom == STUCK_AT_CHANCE)
            for cause in evidence
            if cause is not effect
        )
    ]


def has_learned(measurements: Measurements) -> bool:
    """Whether the newest records show that the network has learned: then nothing holds it up."""
    shares = kappas(measurements)
    if np.isfinite(shares).any():
        return bool(shares[-1] >= LEARNED_KAPPA)
    newest = measurements.loss[-3:]  # Of single batches, so one alone may be lucky.
    return bool(len(newest) and 0 < np.median(newest) <= LEARNED_LOSS * measurements.loss[0])


def find_evidence(measurements: Measurements) -> list[Evidence]:
    """What makes a network sick, by the step from which on, and a cause before what it leads to.

    Nothing where the network has learned: symptoms that did not keep it from that are none.
    """
    if has_learned(measurements):
        return []
    found = [evidence for symptom in SYMPTOMS if (evidence := symptom.find(measurements))]
    # Whatever holds a network up, it is at chance from the beginning.
    return sorted(found, key=lambda evidence: (evidence.symptom == STUCK_AT_CHANCE, evidence.step))


@dataclass(frozen=True)
class Diagnosis:
    """What is known of a run's health.

    Attributes:
        measurements: what its records hold.
        evidence: its symptoms, a cause before what it leads to.
        finished: whether the run has ended.
    """

    measurements: Measurements
    evidence: list[Evidence]
    finished: bool

    @property
    def healthy(self) -> bool:
        """Whether nothing speaks against it: no symptom and, once finished, what it has learned.

        A run that has recorded no accuracy may have learned what its loss does not show.
        """
        recorded = len(self.measurements.step) > 0
        unknown = recorded and not np.isfinite(kappas(self.measurements)).any()
        return not self.evidence and (
            not self.finished or unknown or has_learned(self.measurements)
        )

    @property
    def verdict(self) -> str:
        """The symptoms in words, causes first, or what there is to say without any."""
        if self.evidence:
            return SEPARATOR.join(evidence.symptom for evidence in self.evidence)
        if not len(self.measurements.step):
            return "nothing recorded"
        if not self.healthy:
            return NOT_LEARNED
        if has_learned(self.measurements):
            return HEALTHY
        return "no symptom found" if self.finished else "no symptom so far"

    @property
    def learned_share(self) -> float:
        """What the newest record knows of what chance does not; NaN where nothing tells."""
        shares = share_learned(self.measurements)[-1:]
        return float(shares[0, 0]) if shares.size else np.nan

    @property
    def lacks(self) -> dict[str, str]:
        """Symptoms that cannot be looked for, and what would have to be recorded."""
        known = {key for key in NEEDS if np.isfinite(getattr(self.measurements, key)).any()}
        if len(self.measurements.layers) == 1:
            known |= {"dead", "saturated"}  # It has no activation to record.
        return {s.name: NEEDS[s.needs[-1]] for s in SYMPTOMS if not known & set(s.needs)}


def diagnose(history: Mapping, finished: bool) -> Diagnosis:
    """The diagnosis of a run that has recorded `history`, and has ended or not."""
    measurements = measurements_of(history)
    return Diagnosis(measurements, find_evidence(measurements), finished)


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
