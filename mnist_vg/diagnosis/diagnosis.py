"""From a run's records to its diagnosis: which symptoms it has, and which came first."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mnist_vg.diagnosis.advice import fitting
from mnist_vg.diagnosis.learning import FEWEST, has_learned, is_improving, share_learned, shares
from mnist_vg.diagnosis.measurements import Measurements, kappas, measurements_of
from mnist_vg.diagnosis.symptom import LONG, Counts, Evidence
from mnist_vg.diagnosis.symptoms import NEEDS, NEEDS_IN_FULL, STUCK_AT_CHANCE, SYMPTOMS
from mnist_vg.runs.finding import find_named, load
from mnist_vg.runs.folder import broke_off
from mnist_vg.runs.marks import layer_marks
from mnist_vg.runs.results import LEARNED_KAPPA
from mnist_vg.runs.run import Run
from mnist_vg.scenarios.scenario import is_quick

ENOUGH, MANY = 20, 60
"""Records of single batches from which on a running training can be called sick, and from which on
it is said to have learned little; a `fit` has 100 at least. A rate that warms up does so before."""

SEPARATOR = ", "
"""Between the symptoms of a verdict."""
HEALTHY = "healthy"
NOT_LEARNED = "not learned, no known symptom"
STILL_IMPROVING = "still improving"
SO_FAR = "no symptom so far"
NOTHING_RECORDED = "could not judge: nothing recorded"
ONE_RECORD = "could not judge: only one record"
FEW_RECORDS = "could not judge: too few records"
NO_GRADIENTS = "could not judge: no gradients recorded"
BROKE_OFF = "could not judge: broke off early"
STOPPED_EARLY = "could not judge: stopped early (--quick)"

_ADVICE = {
    STILL_IMPROVING: ("more steps",),
    STOPPED_EARLY: ("the whole run, without --quick",),
    NOT_LEARNED: ("a look at data and labels: mnist_vg.check(model, x, y)",),
}
"""What to try without a symptom."""

UNSUITABLE = "unsuitable "
"""Before the kind of a check, the name of what it found."""

_STRUCTURAL = ("labels", "head", "network")
"""Kinds of checks whose findings are faults even if the model learns something all the same."""


def first_cause(verdict: str) -> str:
    """The symptom that a verdict names first; a verdict without symptoms as it is."""
    first = verdict.split(SEPARATOR)[0]
    known = first.startswith(UNSUITABLE) or first in [symptom.name for symptom in SYMPTOMS]
    return first if known else verdict


def is_verdict(text: str) -> bool:
    """Whether this may be the verdict of a finished run with accuracies."""
    known = {symptom.name for symptom in SYMPTOMS}
    without = (HEALTHY, NOT_LEARNED, STILL_IMPROVING, ONE_RECORD)
    return text in without or known.issuperset(text.split(SEPARATOR))


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
            and (
                cause.symptom in causes.get(effect.symptom, ()) or effect.symptom == STUCK_AT_CHANCE
            )
            for cause in evidence
            if cause is not effect
        )
    ]


def find_symptoms(
    measurements: Measurements, finished: bool = True
) -> tuple[list[Evidence], list[Evidence]]:
    """What makes a network sick, and what does not.

    A symptom is a fault while it harms. Most do not harm a network that has learned or still
    gets better, and not once they have passed. But a symptom that has passed counts if it
    explains one that lasts. See `Counts`. And what kept the layer nearest the input, or many
    layers, from learning for long has held up a network that has learned little.

    Args:
        measurements: of the run.
        finished: whether it has ended.

    Returns:
        Faults and remarks, each in the order of steps, then in that of `SYMPTOMS`.
    """
    found = [(s, evidence) for s in SYMPTOMS if (evidence := s.find(measurements))]
    counting = _counting(measurements, finished)
    little = finished and _has_learned_little(measurements)
    faults = {
        symptom.name
        for symptom, evidence in found
        if (symptom.counts is Counts.ALWAYS and evidence.until is None)
        or (symptom.counts in counting and (symptom.counts is Counts.ONCE or evidence.lasts))
        or (symptom.counts is Counts.LASTING and little and evidence.share_wide >= LONG)
        or (symptom.counts is Counts.IF_LITTLE and little and evidence.until is None)
    }
    # What always counts brings its causes along, also while a training is too young to be judged.
    named = {symptom.name: symptom for symptom, _ in found}
    explained = [
        s for s, _ in found if s.name in faults and (counting or s.counts is Counts.ALWAYS)
    ]
    faults |= {cause for symptom in explained for cause in symptom.causes if cause in named}
    # Every network begins at chance, so that step says nothing about the cause.
    ordered = sorted((e for _, e in found), key=lambda e: (e.symptom == STUCK_AT_CHANCE, e.step))
    return (
        [evidence for evidence in ordered if evidence.symptom in faults],
        [evidence for evidence in ordered if evidence.symptom not in faults],
    )


def find_evidence(measurements: Measurements, finished: bool = True) -> list[Evidence]:
    """The faults among the symptoms, see `find_symptoms`."""
    return find_symptoms(measurements, finished)[0]


def _counting(measurements, finished):
    """The kinds of symptoms that count now: those that may keep the network from learning."""
    if has_learned(measurements):
        return ()
    known, records = np.isfinite(kappas(measurements)).any(), len(measurements.step)
    if not known and is_improving(measurements):
        return ()
    if known or finished or records >= MANY:
        return tuple(Counts)
    return (Counts.ONCE, Counts.LASTING, Counts.IF_LITTLE) if records >= ENOUGH else ()


def _has_learned_little(measurements):
    """Whether less is learned than what kappa calls substantial."""
    if np.isfinite(kappas(measurements)).any():
        return not has_learned(measurements)
    return share_learned(measurements)[0] < LEARNED_KAPPA


def _of_finding(finding: Mapping[str, str | None]) -> Evidence:
    """A finding before the first step as evidence."""
    return Evidence(
        symptom=UNSUITABLE + finding["check"],
        layer=finding["layer"],
        step=0,
        known=0,
        value=np.nan,
        threshold=np.nan,
        words=finding["words"],
        source="mnist_vg.check, before the first step",
        advice=(finding["instead"],),
        why=finding["why"],
    )


def _from_findings(findings, measurements):
    """Faults and remarks among what was found before the first step."""
    share = np.nan
    if findings and len(measurements.step):
        share, _ = share_learned(measurements)
    faults, remarks = [], []
    for finding in findings:
        counts = finding["check"] in _STRUCTURAL or not share >= LEARNED_KAPPA
        (faults if counts else remarks).append(_of_finding(finding))
    return faults, remarks


@dataclass(frozen=True)
class Diagnosis:
    """What is known of a run's health.

    Attributes:
        measurements: what its records hold.
        evidence: its symptoms, in the order in which they show.
        remarks: symptoms that do not make it sick: they have passed, or it learns all the same.
        finished: whether the run has ended.
        full: whether it has the measures of a full record.
        broke_off: whether the run ended without being saved, see `runs.folder.broke_off`.
        quick: whether `mnist-vg train --quick` stopped it early, see `scenario.is_quick`.
    """

    measurements: Measurements
    evidence: list[Evidence]
    remarks: list[Evidence]
    finished: bool
    full: bool = False
    broke_off: bool = False
    quick: bool = False

    @classmethod
    def of(
        cls,
        history: Mapping,
        finished: bool,
        settings: Mapping | None = None,
        findings: Sequence[Mapping] = (),
        broke_off: bool = False,
    ) -> "Diagnosis":
        """The diagnosis of a run.

        Args:
            history: what it has recorded, see `runs.History`.
            finished: whether it has ended.
            settings: of the run, see `advice.fitting`.
            findings: what was found before its first step, see `Run`.
            broke_off: whether it ended without being saved.
        """
        measurements = measurements_of(history)
        found = find_symptoms(measurements, finished)
        full = "gradient_std" in history
        return cls.of_found(measurements, found, finished, settings, findings, broke_off, full)

    @classmethod
    def of_found(
        cls,
        measurements: Measurements,
        found: tuple[list[Evidence], list[Evidence]],
        finished: bool,
        settings: Mapping | None = None,
        findings: Sequence[Mapping] = (),
        broke_off: bool = False,
        full: bool = False,
    ) -> "Diagnosis":
        """The diagnosis of a run whose symptoms are known; see `of`, and `find_symptoms`."""
        parts = _from_findings(findings, measurements), found
        faults, remarks = ([*before, *later] for before, later in zip(*parts, strict=True))
        settings = settings or {}
        faults = fitting(faults, settings)
        quick = is_quick(settings)
        return cls(measurements, faults, remarks, finished, full, broke_off, quick)

    @classmethod
    def of_run(cls, run: Run) -> "Diagnosis":
        """The diagnosis of a run in its folder."""
        finished = run.status == "finished"
        return cls.of(run.history, finished, run.settings, run.findings, broke_off(run))

    def __repr__(self):
        return "\n    ".join([self.verdict, *(evidence.line for evidence in self.evidence)])

    @property
    def judged(self) -> bool:
        """Whether the records are enough to call the run sick or healthy."""
        return not self._not_judged

    @property
    def _not_judged(self):
        """Why the run could not be judged; empty if it could be, for which a symptom is enough.

        A single record shows no training. Gradients that another program has not recorded
        might have shown a symptom, and so might what a run that broke off has not recorded. A run
        that is stopped early need not have learned.
        """
        if self.evidence:
            return ""
        records = len(self.measurements.step)
        if records < 2:
            return ONE_RECORD if records else NOTHING_RECORDED
        if not np.isfinite(self.measurements.nonfinite).any():
            return NO_GRADIENTS
        by_batch = not np.isfinite(kappas(self.measurements)).any()
        if by_batch and records < 2 * FEWEST and has_learned(self.measurements) is False:
            return FEW_RECORDS
        if has_learned(self.measurements):
            return ""
        stopped = self.quick and self.finished and not is_improving(self.measurements)
        return BROKE_OFF if self.broke_off else STOPPED_EARLY if stopped else ""

    @property
    def healthy(self) -> bool:
        """Whether there is no symptom, and no sign that the network does not learn.

        What a finished run has learned may not be known, or it may still get better: then it is
        healthy if it has no symptom. A run that could not be judged is not healthy.
        """
        return self.judged and not self.evidence and self.verdict != NOT_LEARNED

    @property
    def verdict(self) -> str:
        """The symptoms in words, in the order in which they show, or what else can be said."""
        if self.evidence:
            return SEPARATOR.join(dict.fromkeys(evidence.symptom for evidence in self.evidence))
        if not self.judged:
            return self._not_judged
        learned = has_learned(self.measurements)
        if learned:
            return HEALTHY
        if not self.finished:
            return SO_FAR
        if learned is None:
            return "no symptom found"
        return STILL_IMPROVING if is_improving(self.measurements) else NOT_LEARNED

    @property
    def advice(self) -> tuple[str, ...]:
        """What to try where there is no symptom; empty if nothing needs to change."""
        return () if self.evidence else _ADVICE.get(self.verdict, ())

    @property
    def learned_share(self) -> float:
        """How much has been learned, 0 to 1, see `learning.shares`; NaN if it is not known."""
        known = shares(self.measurements)[-1:]
        if not np.isfinite(kappas(self.measurements)).any():
            known = np.array(share_learned(self.measurements)[:1])
        return float(np.maximum(known[0], 0)) if known.size else np.nan

    @property
    def layer_marks(self) -> dict[str, str]:
        """Layers with weights that got no gradient at the newest record, see `Run`."""
        newest = self.measurements.state[-1:]
        return layer_marks(self.measurements.layers, newest[0]) if len(newest) else {}

    @property
    def lacks(self) -> dict[str, str]:
        """Symptoms that could not be looked for, and what would have to be recorded for each."""
        known = {key for key in NEEDS if np.isfinite(getattr(self.measurements, key)).any()}
        # Not every training has validation data or a schedule, nor every network recurrent layers.
        known |= {"validation", "rate", "through_time"}
        if "accuracy" in known:
            known.add("same_answer")  # A test split tells the same.
        if len(self.measurements.layers) == 1:
            known |= {"dead", "saturated"}  # A single layer has no activation to record.
        needs = NEEDS | NEEDS_IN_FULL if self.full else NEEDS
        return {s.name: needs[s.needs[-1]] for s in SYMPTOMS if not known & set(s.needs)}


class Health(NamedTuple):
    """What a verdict comes to.

    Attributes:
        judged: whether the records are enough to call the run sick or healthy.
        healthy: whether it is healthy, see `Diagnosis.healthy`.
    """

    judged: bool
    healthy: bool

    @classmethod
    def of(cls, verdict: str) -> "Health":
        """The health of a finished run with accuracies, see `is_verdict`."""
        return cls(verdict != ONE_RECORD, verdict in (HEALTHY, STILL_IMPROVING))


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
    found = run if isinstance(run, Run) else load(run)
    if found is None:
        return diagnose_runs(run)
    return Diagnosis.of_run(found)


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
    return diagnose_each(find_named(logdir, names))


def diagnose_each(runs: Mapping[str, Run]) -> Diagnoses:
    """Diagnoses of runs by name, the worst first."""
    diagnoses = {name: diagnose(run) for name, run in runs.items()}

    def severity(item):
        _, diagnosis = item
        share = np.nan_to_num(diagnosis.learned_share, nan=-1.0)
        return diagnosis.healthy, not diagnosis.judged, share

    return Diagnoses(sorted(diagnoses.items(), key=severity))
