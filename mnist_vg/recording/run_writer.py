"""`RunWriter`: writes a run, from its first record to its verdict."""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

from mnist_vg.diagnosis.diagnosis import Diagnosis
from mnist_vg.diagnosis.facts import run_facts
from mnist_vg.diagnosis.monitor import Monitor
from mnist_vg.diagnosis.symptom import Evidence
from mnist_vg.errors import UsageError
from mnist_vg.figures.drawings import profile_picture
from mnist_vg.recording.event_log import EventLog, as_recorded
from mnist_vg.runs.events import cut_event_files, read_facts, remaining_files, whole_records
from mnist_vg.runs.folder import checksums
from mnist_vg.runs.history import History
from mnist_vg.runs.marks import layer_marks
from mnist_vg.runs.results import finite_or_none
from mnist_vg.runs.run import Run
from mnist_vg.runs.tags import LAYER_STATE, RELATIVE_SENSITIVITY

Table = tuple[Sequence[str], Mapping]
"""Names of layers, the one nearest the input first, and what was measured of them, by name."""


class RunWriter:
    """Opens a run in its folder, records it, watches it for symptoms, and concludes it.

    The process must have claimed the folder, see `runs.folder.claim_folder`.

    Args:
        run: the run as `run.json` is to describe it; `seconds` is the time it took before.
        lengths: for a run that is resumed, the bytes to keep of each event file, as the
            method `lengths` returned them; empty for a new run.
        about: what the run is known for, for its text card.
        graph: the forward pass as a GraphDef, for the Graphs tab.
        chance: what chance scores, tag to value.

    Raises:
        UsageError: event files are missing, damaged, or shorter than `lengths`.
        OSError: the folder cannot be written. Every method raises it, too.
    """

    def __init__(
        self,
        run: Run,
        lengths: Sequence[int] = (),
        *,
        about: str = "",
        graph=None,
        chance: Mapping[str, float] | None = None,
    ):
        self.run = run
        self._chance = chance or {}
        self._started = time.monotonic() - run.seconds
        damage = _damage(run.folder, lengths)
        if damage:
            raise UsageError(
                f"logdir: {damage}; train this run anew with --overwrite, or elsewhere with "
                "--logdir"
            )
        cut_event_files(run.folder, list(lengths))
        run.save()
        self._monitor = Monitor(History.read(run.folder) if lengths else None)
        self._last_step = max(self._monitor.measurements.step, default=0)
        told = read_facts(run.folder) if lengths else None
        resumes = told and not told["finished"]
        self._told = _outline(run, self._diagnosis()) if resumes else None
        self._log = EventLog(run.folder)
        if not lengths:
            self._log.describe(run.settings, about, graph)
            if self._chance:
                self._log.record(0, {}, arrays=self._chance)
        self._tell(self._last_step)

    @property
    def seconds(self) -> float:
        """How long the run has taken so far, in all processes that worked on it."""
        return time.monotonic() - self._started

    def record(
        self,
        step: int,
        scalars: Mapping[str, float],
        tables: Iterable[Table] = (),
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> list[Evidence]:
        """Write a record; arguments are those of `EventLog.record`.

        Returns:
            The symptoms that this record makes certain.
        """
        tables = as_recorded(tables)
        known = {tag: value for tag, value in scalars.items() if value is not None}
        with np.errstate(over="ignore"):  # A loss may explode.
            numbers = {tag: float(np.float32(v)) for tag, v in (known | self._chance).items()}
        evidence = self._monitor.record(step, numbers, tables)
        # Facts come first: what a kill leaves may lack a record, but no facts of one.
        self._mark_layers(step, tables)
        self._tell(step)
        self.note(step, scalars, self._with_sensitivity(tables), arrays)
        return evidence

    def _with_sensitivity(self, tables):
        """The tables of a record with the number by which the diagnosis goes."""
        condition = self._monitor.newest.condition
        if not condition.size:  # A record without gradients.
            return tables
        (layers, measures), *others = tables
        return [(layers, measures | {RELATIVE_SENSITIVITY: condition[0]}), *others]

    def _tell(self, step):
        """Write the run's facts anew, if what the tab waits for has changed."""
        diagnosis = self._diagnosis()
        outline = _outline(self.run, diagnosis)
        if outline != self._told:
            self._log.tell(step, self._facts(self.run, diagnosis))
            self._told = outline

    def _diagnosis(self):
        """The diagnosis of the records so far."""
        monitor, run = self._monitor, self.run
        return Diagnosis.of_found(
            monitor.measurements, monitor.found, False, run.settings, run.findings
        )

    def _facts(self, run, diagnosis):
        return run_facts(run, diagnosis, self._monitor.passed(diagnosis))

    def _mark_layers(self, step, tables):
        marks = {}
        for layers, measures in tables:
            if LAYER_STATE in measures:
                marks |= layer_marks(layers, measures[LAYER_STATE])
        if marks != self.run.layer_marks:
            self._log.card(step, "layers without a gradient", marks)
            self._save(layer_marks=marks)

    def note(
        self,
        step: int,
        scalars: Mapping[str, float],
        tables: Iterable[Table] = (),
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Write without looking for symptoms; arguments are those of `EventLog.record`."""
        self._log.record(step, scalars, tables, arrays)
        self._last_step = max(self._last_step, step)

    def note_findings(self, step: int, findings: Sequence[Mapping[str, str | None]]) -> None:
        """Keep what was found before the first step, in `run.json` and in a text card."""
        card = {f["layer"] or f["check"]: f"{f['words']}; {f['instead']}" for f in findings}
        self._log.card(step, "before the first step", card)
        self._save(findings=list(findings))
        self._tell(step)

    def lengths(self) -> list[int]:
        """The size of each event file in bytes, for a checkpoint."""
        return self._log.lengths()

    def mark(self, status: str) -> None:
        """Write the run's status to `run.json`."""
        self._save(status=status, seconds=self.seconds)

    def break_off(self) -> None:
        """End a run whose log cannot be written, and mark it as broken, if that can be written."""
        with contextlib.suppress(OSError):
            self.close()
        with contextlib.suppress(OSError):
            try:
                self.mark("broken")
            except OSError:
                self.run.save_without_room()

    def read_back(self) -> Run:
        """The run as its folder describes it now, with all that was recorded."""
        self._log.upload()
        run = Run.load(self.run.folder)
        _ = run.history  # Read before the check, so that what was read is sound.
        self._check_records()
        return run

    def conclude(
        self,
        run: Run,
        results: Mapping[str, float | None],
        *,
        card: Mapping[str, str] | None = None,
        diagnosis: Diagnosis | None = None,
        seconds: float | None = None,
    ) -> Run:
        """Write the end of the run: its results, its diagnosis and its picture.

        Args:
            run: what `read_back` returned.
            results: name to number.
            card: the results in words, for the text card.
            diagnosis: of the run, if it is known already.
            seconds: how long the run took; default: the time up to now.

        Returns:
            The finished run.
        """
        results = finite_or_none(results)
        diagnosis = diagnosis or Diagnosis.of(run.history, True, run.settings, run.findings)
        card = card or {k: "not finite" if v is None else v for k, v in results.items()}
        facts = self._facts(dataclasses.replace(run, results=results), diagnosis)
        self._log.tell(self._last_step, facts)
        symptoms = [evidence.line for evidence in diagnosis.evidence]
        self._log.conclude(
            self._last_step,
            {**card, "Diagnosis": "<br>".join(symptoms) or diagnosis.verdict},
            len(symptoms),
            profile_picture(run),
        )
        left = checksums(self.run.folder)
        self._check_records()  # After the checksums, which are then those of sound files.
        self._save(
            status="finished",
            checksums=left,
            results=results,
            verdict=diagnosis.verdict,
            seconds=self.seconds if seconds is None else seconds,
        )
        return self.run

    def _save(self, **facts):
        self.run = dataclasses.replace(self.run, **facts)
        self.run.save()

    def _check_records(self):
        """Bring all records to the disk, and see that no other program has damaged them."""
        damage = _damage(self.run.folder, self._log.lengths())
        if damage:
            raise OSError(damage)

    def close(self) -> None:
        """End the event file."""
        self._log.close()


def _outline(run, diagnosis):
    """What calls for writing a run's facts anew if it changes."""
    shown = [
        [(evidence.symptom, evidence.until is None) for evidence in found]
        for found in (diagnosis.evidence, diagnosis.remarks)
    ]
    of_layers = diagnosis.measurements.layers, diagnosis.measurements.activation_layers
    return (*of_layers, run.layer_marks, *shown)


def _damage(folder, lengths):
    """What is wrong with event files that are to have these lengths; empty if nothing is."""
    files = remaining_files(folder)
    if len(files) < len(lengths):
        return f"event files are missing in {folder}"
    for path, length in zip(files, lengths, strict=False):
        count, end = whole_records(path, 0, length)
        # It checks each record against its checksum, and ends before one that is damaged. A
        # `TFRecordDataset` takes 200 times as long for a small file.
        records = RawEventFileLoader(str(path)).Load()
        sound = sum(1 for _ in itertools.islice(records, count))
        if sound < count or end < length:
            return f"{path} is damaged at record {sound} of those to keep"
    return ""
