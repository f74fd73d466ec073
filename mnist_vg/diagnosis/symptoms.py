"""The symptoms: what each one measures, its threshold, and the source of both.

Thresholds without a published source were set on one half of the labelled corpus in
`benchmarks/corpus.json`; `make bench-diagnosis` scores them on the other half.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mnist_vg.diagnosis.measurements import Measurements, known, share_learned
from mnist_vg.runs.marks import WITHOUT_GRADIENT

NO_GRADIENT = "no gradient"
UPDATES_TOO_LARGE = "updates too large"
UPDATES_TOO_SMALL = "updates too small"
SATURATED_UNITS = "saturated units"
DEAD_UNITS = "dead units"
EXPLODING_GRADIENTS = "exploding gradients"
VANISHING_GRADIENTS = "vanishing gradients"
NONFINITE_VALUES = "non-finite values"
FROZEN_LAYERS = "frozen layers"
OSCILLATING_LOSS = "oscillating loss"
STUCK_AT_CHANCE = "stuck at chance"


@dataclass(frozen=True)
class Evidence:
    """Why a run is called sick: one symptom, and where it shows first.

    Attributes:
        symptom: its name.
        layer: the layer that shows it most; None for a symptom of the whole network.
        step: of the first record that shows it.
        known: step of the record that made it certain.
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
    advice: str

    @property
    def line(self) -> str:
        """Symptom, layer, step and words in one line."""
        where = f" in {self.layer}" if self.layer else ""
        return f"{self.symptom}{where}, from step {self.step} on: {self.words}"


@dataclass(frozen=True)
class Symptom:
    """One way to be sick: a measure that is beyond a threshold in several records in a row.

    Attributes:
        name: as verdicts have it.
        measure: a pure function from `Measurements` to `[records, columns]`, NaN where the
            value is not known.
        threshold: a value is sick from here on: at least this much or, with `below`, at most.
        words: the evidence in words, a format string of `value` and `threshold`.
        source: where measure and threshold come from.
        advice: what to try.
        needs: fields of `Measurements`; one of them is enough to look for the symptom.
        records: how many records in a row have to be sick.
        below: whether small values are sick, not large ones.
        columns: field of `Measurements` that names the columns; None for a symptom of the
            whole network.
        from_start: whether every record from the first one on has to be sick.
        still: whether the newest record has to be sick.
        causes: symptoms that lead to this one.
    """

    name: str
    measure: Callable[[Measurements], np.ndarray]
    threshold: float
    words: str
    source: str
    advice: str
    needs: tuple[str, ...]
    records: int = 1
    below: bool = False
    columns: str | None = "layers"
    from_start: bool = False
    still: bool = False
    causes: tuple[str, ...] = ()

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
        worst = np.argmin if self.below else np.argmax
        hidden = np.inf if self.below else -np.inf
        column = int(worst(np.where(lasting[since], values[known], hidden)))
        value = float(values[known, column])
        return Evidence(
            symptom=self.name,
            layer=str(getattr(measurements, self.columns)[column]) if self.columns else None,
            step=int(measurements.step[since]),
            known=int(measurements.step[known]),
            value=value,
            threshold=self.threshold,
            words=self.words.format(value=value, threshold=self.threshold),
            source=self.source,
            advice=self.advice,
        )


def _gradient_in_units_of_chance(measurements):
    chance = known(measurements.chance_loss)
    reference = chance if np.isfinite(chance) else measurements.loss[:1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return measurements.condition * (measurements.loss / reference)[:, np.newaxis]


def _first_not_finite(measurements):
    """Counts only of the last layer that has any: backpropagation carries them to the others."""
    counts = np.nan_to_num(measurements.nonfinite)
    later = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1] - counts
    return np.where(later == 0, counts, 0)


def _update(measurements):
    # The ratio is infinite for weights that are all zero; that is no large update.
    return np.where(np.isfinite(measurements.update_ratio), measurements.update_ratio, np.nan)


def _largest_update(measurements):
    largest = np.nan_to_num(_update(measurements), nan=-1.0).max(axis=1, initial=-1.0)
    return np.where(largest < 0, np.nan, largest)[:, np.newaxis]


SWING = 0.2
"""A relative rise of the loss from one record to the next that is more than noise."""
SWING_RECORDS = 8


def _rises(measurements):
    """Share of the last `SWING_RECORDS` records in which the loss rose by `SWING` or more."""
    loss = (
        measurements.test_loss if np.isfinite(measurements.test_loss).any() else measurements.loss
    )
    with np.errstate(invalid="ignore"):
        rose = (loss[:-1] > 0) & (loss[1:] > (1 + SWING) * loss[:-1])
    shares = np.full((len(loss), 1), np.nan)
    if len(rose) >= SWING_RECORDS:
        windows = np.lib.stride_tricks.sliding_window_view(rose, SWING_RECORDS)
        shares[SWING_RECORDS:, 0] = windows.mean(axis=1)
    return shares


NEEDS = {
    "update_ratio": "update sizes (measures='full')",
    "dead": "activations (measures='full')",
    "saturated": "activations (measures='full')",
    "condition": "a loss with norms or histograms of weights and gradients",
    "nonfinite": "gradients",
    "state": "gradients",
    "accuracy": "an accuracy",
    "test_loss": "a loss",
    "loss": "a loss",
}
"""What a run has to record for each field of `Measurements`."""

NEEDS_IN_FULL = {
    "update_ratio": "update sizes (Recorder.watch)",
    "dead": "activations (Recorder.watch)",
    "saturated": "activations (Recorder.watch)",
}
"""The same for a run that has full measures already: only a `Recorder`'s may lack these."""

SYMPTOMS = (
    Symptom(
        name=NO_GRADIENT,
        measure=lambda measurements: (measurements.state == WITHOUT_GRADIENT).astype(float),
        threshold=1,
        words="none of its weights gets a gradient, though they are to be trained",
        source="backpropagation gives None where the loss is no differentiable function of a "
        "weight (tf.GradientTape)",
        advice="use the layer in the loss, replace what has no gradient behind it (argmax, "
        "rounding, a cast to whole numbers, stop_gradient), or set its trainable=False",
        needs=("state",),
    ),
    Symptom(
        name=UPDATES_TOO_LARGE,
        measure=_update,
        threshold=0.3,
        words="one update moves its weights by {value:.2g} times their norm (healthy: less than "
        "{threshold:g})",
        source="set on the corpus; Karpathy's rule of thumb is 1e-3 (CS231n), SageMaker "
        "Debugger's WeightUpdateRatio has 10",
        advice="lower the learning rate, or clip the gradients",
        needs=("update_ratio",),
    ),
    Symptom(
        name=UPDATES_TOO_SMALL,
        measure=_largest_update,
        threshold=5e-5,
        below=True,
        records=2,
        columns=None,
        from_start=True,
        words="one update moves no layer's weights by more than {value:.2g} times their norm "
        "(healthy: more than {threshold:g})",
        source="set on the corpus; Karpathy's rule of thumb is 1e-3 (CS231n)",
        advice="raise the learning rate",
        causes=(VANISHING_GRADIENTS, DEAD_UNITS),
        needs=("update_ratio",),
    ),
    Symptom(
        name=SATURATED_UNITS,
        measure=lambda measurements: measurements.saturated,
        threshold=0.5,
        records=6,
        columns="activation_layers",
        words="{value:.0%} of its units are at an end of their activation for most of the batch "
        "(healthy: less than {threshold:.0%})",
        source="DeepDiagnosis (Wardat et al. 2022): half of the units",
        advice="smaller initial weights, a normalization, or an activation without ends",
        causes=(UPDATES_TOO_LARGE,),
        needs=("saturated",),
    ),
    Symptom(
        name=DEAD_UNITS,
        measure=lambda measurements: measurements.dead,
        threshold=0.7,
        records=2,
        columns="activation_layers",
        words="{value:.0%} of its units give zero for all of the batch (healthy: less than "
        "{threshold:.0%})",
        source="AutoTrainer (Zhang et al. 2021) and DeepDiagnosis (Wardat et al. 2022): 70%",
        advice="a lower learning rate, leaky_relu, or initial weights around zero",
        causes=(UPDATES_TOO_LARGE,),
        needs=("dead",),
    ),
    Symptom(
        name=EXPLODING_GRADIENTS,
        measure=_gradient_in_units_of_chance,
        threshold=1e3,
        words="changing its weights by 1% changes the loss by up to {value:.2g}% of what chance "
        "costs (healthy: less than {threshold:g}%)",
        source="relative condition number (Trefethen and Bau 1997, lecture 12); set on the corpus",
        advice="smaller initial weights, a normalization, or a lower learning rate",
        needs=("condition",),
    ),
    Symptom(
        name=VANISHING_GRADIENTS,
        measure=lambda measurements: measurements.condition,
        threshold=0.03,  # Percent of the loss for one percent of the weights.
        below=True,
        records=2,
        words="changing its weights by 1% changes the loss by {value:.2g}% at most (healthy: more "
        "than {threshold:g}%)",
        source="relative condition number (Trefethen and Bau 1997, lecture 12); set on the corpus",
        advice="an activation such as relu, larger initial weights, a normalization, or skip "
        "connections",
        causes=(UPDATES_TOO_LARGE, SATURATED_UNITS, DEAD_UNITS),
        needs=("condition",),
    ),
    Symptom(
        name=NONFINITE_VALUES,
        measure=_first_not_finite,
        threshold=1,
        words="{value:.0f} of its gradients and weights are NaN or Inf",
        source="IEEE 754; SageMaker Debugger's ExplodingTensor",
        advice="a lower learning rate, smaller initial weights, or clip the gradients",
        causes=(UPDATES_TOO_LARGE, EXPLODING_GRADIENTS),
        needs=("nonfinite",),
    ),
    Symptom(
        name=FROZEN_LAYERS,
        measure=_update,
        threshold=2.0**-24,
        below=True,
        records=2,
        from_start=True,
        words="one update moves its weights by {value:.2g} times their norm, and float32 loses "
        "what is below {threshold:.0e}",
        source="half of float32's machine epsilon (IEEE 754)",
        advice="raise the learning rate, or mend what keeps the gradient from the layer",
        causes=(UPDATES_TOO_SMALL, VANISHING_GRADIENTS, DEAD_UNITS),
        needs=("update_ratio",),
    ),
    Symptom(
        name=OSCILLATING_LOSS,
        measure=_rises,
        threshold=0.375,
        columns=None,
        words=f"the loss rose by {SWING:.0%} or more at {{value:.0%}} of {SWING_RECORDS} records "
        "in a row (healthy: less than {threshold:.0%})",
        source="set on the corpus",
        advice="lower the learning rate",
        causes=(UPDATES_TOO_LARGE, EXPLODING_GRADIENTS),
        needs=("test_loss", "loss"),
    ),
    Symptom(
        name=STUCK_AT_CHANCE,
        measure=share_learned,
        threshold=0.05,
        below=True,
        records=10,
        columns=None,
        still=True,
        words="{value:.0%} of what chance gets wrong is right, at 10 records in a row (healthy: "
        "more than {threshold:.0%})",
        source="of the form of Cohen's kappa (1960); set on the corpus",
        advice="mend the symptoms above; without any, check data and labels",
        needs=("accuracy", "loss"),
    ),
)
"""Every symptom. Of symptoms that show from the same step on, a verdict has this order."""
