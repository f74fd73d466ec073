"""Numbers to verdicts: which symptom, in which layer, by which number, and since when.

Behind vanishing and exploding gradients stands the relative condition number of the loss
with respect to a layer's weights, `norm(weights) * norm(gradient) / loss` (Trefethen and
Bau 1997, lecture 12): by how many percent the loss changes, at most and to first order, when
the weights change by one. It is the same for every scale of the loss and of the weights.

Thresholds that no source gives were set on one half of the labelled corpus in
`benchmarks/corpus.json`, and are scored on the other by `make bench-diagnosis`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mnist_vg import tags
from mnist_vg.events import buckets

LEARNED_KAPPA = 0.61
"""Where agreement beyond chance counts as substantial: Landis and Koch 1977, p. 165."""

LEARNED_LOSS = 0.5
"""The same where no accuracy is recorded: half of the first loss."""


def kappa(accuracy, chance):
    """Cohen's kappa (1960, eq. 1): the share of what chance leaves wrong that is right."""
    return (accuracy - chance) / (1 - chance)


def learned(accuracy: float | None, chance: float) -> bool:
    """Whether a test accuracy shows that a network could learn its task.

    Args:
        accuracy: share of right answers, 0 to 1; None where it is not finite.
        chance: accuracy of always answering the most frequent label, below 1.
    """
    return accuracy is not None and kappa(accuracy, chance) >= LEARNED_KAPPA


@dataclass(frozen=True)
class Signs:
    """What the rules look at: a row a record, a column a layer; NaN where it is not recorded.

    `loss` is that of the step's batch, `test_loss` and `accuracy` those of the test
    split, `chance_accuracy` and `chance_loss` those of knowing nothing; `condition` is
    the relative condition number; `nonfinite` counts values of gradients and weights;
    `update_ratio` is the norm of an update over that of the weights; `dead` and
    `saturated` are shares of units, a column a layer that has an activation.
    """

    step: np.ndarray
    loss: np.ndarray
    test_loss: np.ndarray
    accuracy: np.ndarray
    chance_accuracy: np.ndarray
    chance_loss: np.ndarray
    layers: Sequence[str]
    condition: np.ndarray
    nonfinite: np.ndarray
    update_ratio: np.ndarray
    activation_layers: Sequence[str]
    dead: np.ndarray
    saturated: np.ndarray

    def then(self, later: "Signs") -> "Signs":
        """These signs, and those of later records of the same run."""
        return Signs(
            **{key: _joined(value, getattr(later, key)) for key, value in vars(self).items()}
        )


def _joined(earlier, later):
    """Rows after rows; names as they are. A table that one of the two lacks is unknown there."""
    if not isinstance(earlier, np.ndarray):
        return later if len(later) else earlier
    shape = max(earlier.shape[1:], later.shape[1:])
    return np.concatenate(
        [
            rows if rows.shape[1:] == shape else np.full((len(rows), *shape), np.nan)
            for rows in (earlier, later)
        ]
    )


def histogram_norm(buckets: np.ndarray) -> np.ndarray:
    """Norm of the values that a histogram counts, taken as even within each bucket.

    Args:
        buckets: rows of left edge, right edge and count, `[..., buckets, 3]`.
    """
    left, right, counts = np.moveaxis(buckets, -1, 0)
    return np.sqrt((counts * (left**2 + left * right + right**2) / 3).sum(axis=-1))


def signs_of(history: Mapping) -> Signs:
    """The signs in a run's records; for `history` see `events.History`."""
    steps = history["step"]
    layers = tuple(history.get("layers", ()))
    hidden = tuple(history.get("activation_layers", ()))

    def column(tag):
        return np.array(history.get(tag, np.full(len(steps), np.nan)))

    def table(group, names=layers):
        return np.array(history.get(group, np.full((len(steps), len(names)), np.nan)))

    def norm(scalars, histograms):
        if scalars not in history and histograms in history:
            return histogram_norm(history[histograms])
        return table(scalars)

    loss = column(tags.LOSS_TRAIN)
    counts = {group: np.nan_to_num(table(group)) for group in tags.NONFINITE}
    # Steps at which no gradient was measured have notes, or final weights.
    rows = np.isfinite(table(tags.GRADIENT_MEAN_ABS)) | (counts[tags.GRADIENT_NONFINITE] > 0)
    rows = rows.any(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        condition = norm("weight_norm", "weights") * norm("gradient_norm", "gradients")
        # Nothing is large or small beside a loss that overflows, or that has no natural zero.
        usable = np.isfinite(loss) & (loss > 0)
        condition /= np.where(usable, loss, np.nan)[:, np.newaxis]
    arrays = {
        "step": steps,
        "loss": loss,
        "test_loss": column(tags.LOSS_TEST),
        "accuracy": column(tags.ACCURACY_TEST),
        "chance_accuracy": column(tags.CHANCE_ACCURACY),
        "chance_loss": column(tags.CHANCE_LOSS),
        "condition": condition,
        "nonfinite": sum(counts.values()),
        "update_ratio": table(tags.UPDATE_RATIO),
        "dead": table(tags.ACTIVATION_DEAD, hidden),
        "saturated": table(tags.ACTIVATION_SATURATED, hidden),
    }
    rowwise = {key: np.asarray(values)[rows] for key, values in arrays.items()}
    return Signs(layers=layers, activation_layers=hidden, **rowwise)


@dataclass(frozen=True)
class Evidence:
    """Why a run is called sick: one symptom, where it shows first.

    `layer` is None where it is of the whole network; `step` is that of the first record
    which shows it, `known` that of the record at which it was certain; `value` is what
    was measured then, `threshold` what it has passed; `words` tells both; `source` is
    where the measure and the threshold are from, and `advice` what to try.
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
        """All of it in one line."""
        where = f" in {self.layer}" if self.layer else ""
        return f"{self.symptom}{where}, from step {self.step} on: {self.words}"


@dataclass(frozen=True)
class Symptom:
    """One way to be sick: a measure that passes a threshold for some records in a row.

    `measure` is a pure function from `Signs` to `[records, columns]`, NaN where it is not
    known; `columns` is the field that names its columns, None where there is one for the
    whole network. A value passes where it is at least the threshold, or `below`: at most.
    `from_start` asks every record from the first one on to pass, `still` the newest one.
    `needs` are fields of `Signs` of which one is enough to know it, and `causes` are
    symptoms that lead to this one.
    """

    name: str
    measure: Callable[[Signs], np.ndarray]
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

    def find(self, signs: Signs) -> Evidence | None:
        """The evidence for it; None where there is none, or where too little is known."""
        values = self.measure(signs)
        passed = values <= self.threshold if self.below else values >= self.threshold
        if self.from_start:
            passed = np.logical_and.accumulate(passed)
        if len(passed) < self.records or (self.still and not passed[-1].any()):
            return None
        windows = np.lib.stride_tricks.sliding_window_view(passed, self.records, axis=0)
        lasting = windows.all(axis=-1)
        if not lasting.any():
            return None
        since = int(np.argmax(lasting.any(axis=1)))
        known = since + self.records - 1
        worst = np.argmin if self.below else np.argmax
        hidden = np.inf if self.below else -np.inf
        column = int(worst(np.where(lasting[since], values[known], hidden)))
        value = float(values[known, column])
        return Evidence(
            symptom=self.name,
            layer=str(getattr(signs, self.columns)[column]) if self.columns else None,
            step=int(signs.step[since]),
            known=int(signs.step[known]),
            value=value,
            threshold=self.threshold,
            words=self.words.format(value=value, threshold=self.threshold),
            source=self.source,
            advice=self.advice,
        )


def _known(values):
    """The first value that is recorded, `[1]`; NaN where none is."""
    return values[np.isfinite(values)][:1] if np.isfinite(values).any() else np.array([np.nan])


def _gradient_in_units_of_chance(signs):
    known = _known(signs.chance_loss)
    reference = known if np.isfinite(known) else signs.loss[:1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return signs.condition * (signs.loss / reference)[:, np.newaxis]


def _first_not_finite(signs):
    """Counts, of the layer nearest the output alone: from there it comes down to the others."""
    later = np.cumsum(signs.nonfinite[:, ::-1], axis=1)[:, ::-1] - signs.nonfinite
    return np.where(later == 0, signs.nonfinite, 0)


def _update(signs):
    # Weights that are all zero move by more than any share of themselves.
    return np.where(np.isfinite(signs.update_ratio), signs.update_ratio, np.nan)


def _largest_update(signs):
    largest = np.nan_to_num(_update(signs), nan=-1.0).max(axis=1, initial=-1.0)
    return np.where(largest < 0, np.nan, largest)[:, np.newaxis]


SWING = 0.2
"""A rise of the loss from one record to the next that is no noise of the test split."""
SWING_RECORDS = 8


def _rises(signs):
    """Share of the last `SWING_RECORDS` records at which the loss has risen by `SWING`."""
    loss = signs.test_loss if np.isfinite(signs.test_loss).any() else signs.loss
    with np.errstate(invalid="ignore"):
        rose = (loss[:-1] > 0) & (loss[1:] > (1 + SWING) * loss[:-1])
    shares = np.full((len(loss), 1), np.nan)
    if len(rose) >= SWING_RECORDS:
        windows = np.lib.stride_tricks.sliding_window_view(rose, SWING_RECORDS)
        shares[SWING_RECORDS:, 0] = windows.mean(axis=1)
    return shares


def _share_learned(signs):
    """Kappa, from 0 on; where it is not known, the share of the first loss that is gone."""
    shares = _kappas(signs)
    if not np.isfinite(shares).any():
        loss = np.where(np.isfinite(signs.loss) & (signs.loss > 0), signs.loss, np.nan)
        shares = 1 - loss / loss[:1]
    return np.maximum(shares, 0)[:, np.newaxis]


def _kappas(signs):
    """NaN where accuracy or chance is not recorded, as in runs of earlier versions."""
    return kappa(signs.accuracy, _known(signs.chance_accuracy))


NEEDS = {
    "update_ratio": "update sizes (measures='full')",
    "dead": "activations (measures='full')",
    "saturated": "activations (measures='full')",
    "condition": "a loss with norms or histograms of weights and gradients",
    "nonfinite": "gradients",
    "accuracy": "an accuracy",
    "test_loss": "a loss",
    "loss": "a loss",
}
"""What a run has to record for a field of `Signs`."""

STUCK = "stuck at chance"

SYMPTOMS = (
    Symptom(
        name="updates too large",
        measure=_update,
        threshold=0.3,
        words="one update moves its weights by {value:.2g} of their norm (healthy: below "
        "{threshold:g})",
        source="set on the corpus; Karpathy's rule of thumb is 1e-3 (CS231n), SageMaker "
        "Debugger's UpdateTooLarge fires above 10",
        advice="lower the learning rate, or clip the gradients",
        needs=("update_ratio",),
    ),
    Symptom(
        name="updates too small",
        measure=_largest_update,
        threshold=5e-5,
        below=True,
        records=2,
        columns=None,
        from_start=True,
        words="one update moves no layer's weights by more than {value:.2g} of their norm "
        "(healthy: above {threshold:g})",
        source="set on the corpus; Karpathy's rule of thumb is 1e-3 (CS231n)",
        advice="raise the learning rate",
        causes=("vanishing gradients", "dead units"),
        needs=("update_ratio",),
    ),
    Symptom(
        name="saturated units",
        measure=lambda signs: signs.saturated,
        threshold=0.5,
        records=6,
        columns="activation_layers",
        words="{value:.0%} of its units are at an end of their activation for most examples "
        "(healthy: below {threshold:.0%})",
        source="DeepDiagnosis (Wardat et al. 2022): half of the units",
        advice="smaller initial weights, a normalization, or an activation without ends",
        causes=("updates too large",),
        needs=("saturated",),
    ),
    Symptom(
        name="dead units",
        measure=lambda signs: signs.dead,
        threshold=0.7,
        records=2,
        columns="activation_layers",
        words="{value:.0%} of its units give zero for every example (healthy: below "
        "{threshold:.0%})",
        source="AutoTrainer (Zhang et al. 2021) and DeepDiagnosis (Wardat et al. 2022): 70%",
        advice="a lower learning rate, leaky_relu, or initial weights around zero",
        causes=("updates too large",),
        needs=("dead",),
    ),
    Symptom(
        name="exploding gradients",
        measure=_gradient_in_units_of_chance,
        threshold=1e3,
        words="changing its weights by 1% changes the loss by up to {value:.2g}% of what chance "
        "costs (healthy: less than {threshold:g}%)",
        source="relative condition number (Trefethen and Bau 1997, lecture 12); set on the corpus",
        advice="smaller initial weights, a normalization, or a lower learning rate",
        needs=("condition",),
    ),
    Symptom(
        name="vanishing gradients",
        measure=lambda signs: signs.condition,
        threshold=0.03,
        below=True,
        records=2,
        words="changing its weights by 1% changes the loss by {value:.2g}% at most (healthy: more "
        "than {threshold:g}%)",
        source="relative condition number (Trefethen and Bau 1997, lecture 12); set on the corpus",
        advice="an activation such as relu, larger initial weights, a normalization, or skip "
        "connections",
        causes=("updates too large", "saturated units", "dead units"),
        needs=("condition",),
    ),
    Symptom(
        name="non-finite values",
        measure=_first_not_finite,
        threshold=1,
        words="{value:.0f} of its gradients and weights are NaN or Inf",
        source="IEEE 754; SageMaker Debugger's ExplodingTensor",
        advice="a lower learning rate, smaller initial weights, or clip the gradients",
        causes=("updates too large", "exploding gradients"),
        needs=("nonfinite",),
    ),
    Symptom(
        name="frozen layers",
        measure=_update,
        threshold=2.0**-24,
        below=True,
        records=2,
        from_start=True,
        words="one update moves its weights by {value:.2g} of their norm, and float32 loses what "
        "is below {threshold:.0e}",
        source="half of float32's machine epsilon (IEEE 754)",
        advice="raise the learning rate, or mend what keeps the gradient from the layer",
        causes=("updates too small", "vanishing gradients", "dead units"),
        needs=("update_ratio",),
    ),
    Symptom(
        name="oscillating loss",
        measure=_rises,
        threshold=0.375,
        columns=None,
        words=f"the loss rose by {SWING:.0%} or more at {{value:.0%}} of {SWING_RECORDS} records "
        "in a row (healthy: below {threshold:.0%})",
        source="set on the corpus",
        advice="lower the learning rate",
        causes=("updates too large", "exploding gradients"),
        needs=("test_loss", "loss"),
    ),
    Symptom(
        name=STUCK,
        measure=_share_learned,
        threshold=0.05,
        below=True,
        records=10,
        columns=None,
        still=True,
        words="it knows {value:.0%} of what chance does not, for 10 records (healthy: "
        "above {threshold:.0%})",
        source="Cohen's kappa (1960, eq. 1); set on the corpus",
        advice="mend the symptoms above; without any, check data and labels",
        needs=("accuracy", "loss"),
    ),
)
"""Every symptom, a cause before what it may lead to."""


def root_causes(evidence: Sequence[Evidence]) -> list[Evidence]:
    """The evidence that no other, of the same step or an earlier one, explains.

    Being stuck at chance is what any other symptom leads to.
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
    kappas = _kappas(signs)
    if np.isfinite(kappas).any():
        return bool(kappas[-1] >= LEARNED_KAPPA)
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
        """Whether there is no symptom and, of a finished run with an accuracy, it has learned."""
        no_need = not self.finished or not np.isfinite(_kappas(self.signs)).any()
        return not self.evidence and (no_need or has_learned(self.signs))

    @property
    def verdict(self) -> str:
        """The symptoms in words, causes first, or what there is to say without any."""
        if self.evidence:
            return ", ".join(evidence.symptom for evidence in self.evidence)
        if not len(self.signs.step):
            return "nothing recorded"
        if not self.healthy:
            return "not learned, no known symptom"
        return "healthy" if self.finished or has_learned(self.signs) else "no symptom so far"

    @property
    def learned_share(self) -> float:
        """What the newest record knows of what chance does not; NaN where nothing tells."""
        shares = _share_learned(self.signs)[-1:]
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
