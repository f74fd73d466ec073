"""From a run's records to its diagnosis: which symptoms it has, and which came first."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mnist_vg.diagnosis.measurements import Measurements, kappas, measurements_of, share_learned
from mnist_vg.diagnosis.symptoms import NEEDS, NEEDS_IN_FULL, STUCK_AT_CHANCE, SYMPTOMS, Evidence
from mnist_vg.errors import UsageError, nearest
from mnist_vg.runs.marks import layer_marks
from mnist_vg.runs.paths import as_path
from mnist_vg.runs.results import LEARNED_KAPPA
from mnist_vg.runs.run import Run, find_runs

LEARNED_LOSS = 0.5
"""Without accuracies, a loss of at most this share of the first one counts as learned."""


SEPARATOR = ", "
"""Between the symptoms of a verdict."""
HEALTHY = "healthy"
NOT_LEARNED = "not learned, no known symptom"


def first_cause(verdict: str) -> str:
    """The symptom that a verdict names first; a verdict without symptoms as it is."""
    first = verdict.split(SEPARATOR)[0]
    return first if first in [symptom.name for symptom in SYMPTOMS] else verdict


def is_verdict(text: str) -> bool:
    """Whether this may be the verdict of a finished run with accuracies."""
    known = {symptom.name for symptom in SYMPTOMS}
    return text in (HEALTHY, NOT_LEARNED) or known.issuperset(text.split(SEPARATOR))


def root_causes(evidence: Sequence[Evidence]) -> list[Evidence]:
    """The evidence that no other evidence explains.

    A symptom explains those that it may cause, from its own step on. Any symptom may
    explain that a network is stuck at chance.
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
    """Whether the newest records show that the network has learned."""
    shares = kappas(measurements)
    if np.isfinite(shares).any():
        return bool(shares[-1] >= LEARNED_KAPPA)
    newest = measurements.loss[-3:]  # Losses of single batches: one alone may be lucky.
    return bool(len(newest) and 0 < np.median(newest) <= LEARNED_LOSS * measurements.loss[0])


def find_evidence(measurements: Measurements) -> list[Evidence]:
    """What makes a network sick, in the order of steps, then in that of `SYMPTOMS`.

    Empty if the network has learned: what did not keep it from learning is no symptom.
    """
    if has_learned(measurements):
        return []
    found = [evidence for symptom in SYMPTOMS if (evidence := symptom.find(measurements))]
    # Every network begins at chance, so that step says nothing about the cause.
    return sorted(found, key=lambda evidence: (evidence.symptom == STUCK_AT_CHANCE, evidence.step))


@dataclass(frozen=True)
class Diagnosis:
    """What is known of a run's health.

    Attributes:
        measurements: what its records hold.
        evidence: its symptoms, in the order in which they show.
        finished: whether the run has ended.
        full: whether it has the measures of a full record.
    """

    measurements: Measurements
    evidence: list[Evidence]
    finished: bool
    full: bool = False

    @classmethod
    def of(cls, history: Mapping, finished: bool) -> "Diagnosis":
        """The diagnosis of a run.

        Args:
            history: what it has recorded, see `runs.History`.
            finished: whether it has ended.
        """
        measurements = measurements_of(history)
        full = "gradient_std" in history
        return cls(measurements, find_evidence(measurements), finished, full)

    def __repr__(self):
        return "\n    ".join([self.verdict, *(evidence.line for evidence in self.evidence)])

    @property
    def healthy(self) -> bool:
        """Whether there is no symptom and, once the run is finished, the network has learned.

        A run without accuracies may have learned what its loss does not show, so it is
        healthy if it has no symptom.
        """
        recorded = len(self.measurements.step) > 0
        unknown = recorded and not np.isfinite(kappas(self.measurements)).any()
        return not self.evidence and (
            not self.finished or unknown or has_learned(self.measurements)
        )

    @property
    def verdict(self) -> str:
        """The symptoms in words, in the order in which they show, or what else can be said."""
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
        """How much the newest record has learned, see `share_learned`; NaN if it is not known."""
        shares = share_learned(self.measurements)[-1:]
        return float(shares[0, 0]) if shares.size else np.nan

    @property
    def layer_marks(self) -> dict[str, str]:
        """Layers with weights that got no gradient at the newest record, see `Run`."""
        newest = self.measurements.state[-1:]
        return layer_marks(self.measurements.layers, newest[0]) if len(newest) else {}

    @property
    def lacks(self) -> dict[str, str]:
        """Symptoms that could not be looked for, and what would have to be recorded for each."""
        known = {key for key in NEEDS if np.isfinite(getattr(self.measurements, key)).any()}
        if len(self.measurements.layers) == 1:
            known |= {"dead", "saturated"}  # A single layer has no activation to record.
        needs = NEEDS | NEEDS_IN_FULL if self.full else NEEDS
        return {s.name: needs[s.needs[-1]] for s in SYMPTOMS if not known & set(s.needs)}


class Diagnoses(dict[str, Diagnosis]):
    """Diagnoses of runs, by the path of each run in their folder, the worst first."""

    def __repr__(self):
        return "\n".join(f"{name}: {diagnosis!r}" for name, diagnosis in self.items())


def diagnose(run: Run | str | os.PathLike) -> Diagnosis | Diagnoses:
    """Say what is wrong with a run, or with each of several runs.

    Args:
        run: a run, its folder, or a folder with run folders below it.

    Returns:
        The diagnosis of a run; for a folder with run folders below it, that of each.

    Raises:
        UsageError: the folder holds no run, or cannot be read.
    """
    found = run if isinstance(run, Run) else Run.load(run)
    if found is None:
        return diagnose_runs(run)
    return Diagnosis.of(found.history, found.status == "finished")


def diagnose_runs(logdir: str | os.PathLike, names: Sequence[str] = ()) -> Diagnoses:
    """Diagnoses of the runs in a folder, the worst first.

    Args:
        logdir: the folder.
        names: paths of runs in that folder; default: all runs.

    Returns:
        Path in the folder to diagnosis.

    Raises:
        UsageError: the folder holds no run, or no run of one of these names.
    """
    logdir = as_path(logdir)
    found = {run.folder.relative_to(logdir).as_posix(): run for run in find_runs(logdir)}
    found = {name if name != "." else run.name: run for name, run in found.items()}
    for name in names:
        if name not in found:
            raise UsageError(f"run: {name!r} is not in {logdir}; {nearest(name, found)}")
    diagnoses = {name: diagnose(run) for name, run in found.items() if name in names or not names}

    def severity(item):
        _, diagnosis = item
        return diagnosis.healthy, np.nan_to_num(diagnosis.learned_share, nan=-1.0)

    return Diagnoses(sorted(diagnoses.items(), key=severity))
