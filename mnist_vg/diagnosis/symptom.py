"""`Symptom`: one way to be sick, and `Evidence` that a run is."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from mnist_vg.diagnosis.measurements import Measurements


@dataclass(frozen=True)
class Evidence:
    """Why a run is called sick: one symptom, and where it shows first.

    Attributes:
        symptom: its name.
        layer: the layer that shows it most; None for a symptom of the whole network.
        step: of the first record that shows it.
        known: step of the record that made it certain.
        why: why it matters: what follows from it in training.
        until: step of the last record that shows it; None if it lasts.
        share: of the records, how many show it, 0 to 1.
        share_wide: of the records, how many in a row from the first one on show it in the layer
            nearest the input, or in `WIDE` of all layers.
        value: what was measured at `known`.
        threshold: what the value is beyond.
        words: value and threshold in words.
        source: where measure and threshold come from.
        advice: what to try.
    """

    symptom: str
    layer: str | None
    step: int
    known: int
    value: float
    threshold: float
    words: str
    source: str
    advice: tuple[str, ...]
    why: str = ""
    until: int | None = None
    share: float = 1.0
    share_wide: float = 0.0

    @property
    def lasts(self) -> bool:
        """Whether the newest records show it, or so many that it has cost much of the training."""
        return self.until is None or self.share >= LONG

    @property
    def line(self) -> str:
        """Symptom, layer, steps and words in one line."""
        where = f" in {self.layer}" if self.layer else ""
        when = f"from step {self.step} " + ("on" if self.until is None else f"to step {self.until}")
        if self.until == self.step:
            when = f"at step {self.step}"
        return f"{self.symptom}{where}, {when}: {self.words}"


class Counts(Enum):
    """When a symptom makes a run sick."""

    ALWAYS = auto()
    """While it lasts, also if the run has learned."""
    ONCE = auto()
    """Once it has happened, unless the run learns all the same."""
    LASTING = auto()
    """While it lasts, unless the run learns all the same."""
    IF_LITTLE = auto()
    """While it lasts, also if the run has learned something, but less than substantially."""
    IN_THE_END = auto()
    """As `LASTING`, but in a running training only after `MANY` records."""


@dataclass(frozen=True)
class Symptom:
    """One way to be sick: a measure that is beyond a threshold in several records in a row.

    Attributes:
        name: as verdicts have it.
        measure: a pure function from `Measurements` to `[records, columns]`, NaN where the
            value is not known.
        threshold: a value is sick from here on: at least this much or, with `below`, at most.
        words: the evidence in words, a format string of `value` and `threshold`.
        why: why it matters, in one sentence.
        source: where measure and threshold come from.
        advice: what to try, the best first; `diagnosis.advice` leaves out what the model has.
        needs: fields of `Measurements`; one of them is enough to look for the symptom.
        records: how many records in a row have to be sick.
        below: whether small values are sick, not large ones.
        columns: field of `Measurements` that names the columns; None for a symptom of the
            whole network.
        counts: when it makes a run sick.
        from_start: whether every record from the first one on has to be sick.
        still: whether the newest record has to be sick.
        causes: symptoms that lead to this one.
        of_validation: whether the measure has a row a validation, and not one a record.
        detail: from `Measurements` and the number of a record to further words, and to the advice
            that fits them.
    """

    name: str
    measure: Callable[[Measurements], np.ndarray]
    threshold: float
    words: str
    why: str
    source: str
    advice: tuple[str, ...]
    needs: tuple[str, ...]
    records: int = 1
    below: bool = False
    columns: str | None = "layers"
    counts: Counts = Counts.LASTING
    from_start: bool = False
    still: bool = False
    causes: tuple[str, ...] = ()
    of_validation: bool = False
    detail: Callable[[Measurements, int], tuple[str, tuple[str, ...]]] | None = None

    def find(self, measurements: Measurements) -> Evidence | None:
        """The evidence for this symptom; None if there is none, or too little is recorded."""
        values = self.measure(measurements)
        passed = values <= self.threshold if self.below else values >= self.threshold
        if self.from_start:
            passed = np.logical_and.accumulate(passed)
        if len(passed) < self.records or (self.still and not passed[-1].any()):
            return None
        windows = np.lib.stride_tricks.sliding_window_view(passed, self.records, axis=0)
        lasting = windows.all(axis=-1)
        if not lasting.any():
            return None
        certain = lasting.any(axis=1)
        since = int(np.argmax(certain))
        if self.still:  # The last unbroken stretch.
            gaps = np.flatnonzero(~certain[: np.flatnonzero(certain)[-1]])
            since = int(gaps[-1]) + 1 if len(gaps) else since
        known = since + self.records - 1
        last = int(np.flatnonzero(certain)[-1]) + self.records - 1
        worst = np.argmin if self.below else np.argmax
        hidden = np.inf if self.below else -np.inf
        column = int(worst(np.where(lasting[since], values[known], hidden)))
        value = float(values[known, column])
        steps = measurements.validation[:, 0] if self.of_validation else measurements.step
        passed_by = len(values) - 1 - last > len(values) * PASSED
        more, advice = self.detail(measurements, known) if self.detail else ("", self.advice)
        return Evidence(
            symptom=self.name,
            layer=str(getattr(measurements, self.columns)[column]) if self.columns else None,
            step=int(steps[since]),
            known=int(steps[known]),
            value=value,
            threshold=self.threshold,
            words=self.words.format(value=value, threshold=self.threshold) + more,
            why=self.why,
            source=self.source,
            advice=advice,
            until=int(steps[last]) if passed_by else None,
            share=float(passed.any(axis=1).mean()),
            share_wide=_share_wide(passed) if self.columns == "layers" else 0.0,
        )


def _share_wide(passed):
    wide = passed[:, 0] | (passed.mean(axis=1) >= WIDE)
    return float(np.logical_and.accumulate(wide).mean())


PASSED = 0.1
"""A symptom has passed if none of the newest records shows it, as a share of all records."""

WIDE = 1 / 3
"""So many layers are more than the queries and keys of a Transformer, which begin without a
gradient: a quarter of its layers."""

LONG = 0.2
"""A symptom of so many records has cost much of the training, as a share of all records."""
