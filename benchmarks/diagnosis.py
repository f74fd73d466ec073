"""How often verdicts on the labelled corpus are right: ours, and those of published rules.

    python benchmarks/corpus.py train LOGDIR
    python benchmarks/diagnosis.py LOGDIR

reads what the runs have recorded, without TensorFlow. The thresholds of our rules were set
on the half `tune` of the corpus; what counts is the half `test`. A published rule fires at
the first record that satisfies it, with its authors' default thresholds.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click
import corpus
import numpy as np
from _common import opening
from rich.table import Table

from mnist_vg.diagnosis.diagnosis import find_evidence
from mnist_vg.diagnosis.measurements import Measurements, measurements_of
from mnist_vg.diagnosis.symptoms import SYMPTOMS
from mnist_vg.report import make_console
from mnist_vg.runs import tags
from mnist_vg.runs.run import Run

RECALL = 0.95
"""Target: the least recall of each symptom."""
EARLY = 0.1
"""Target: the part of training within which `EARLY_SYMPTOMS` are found, where they are."""
EARLY_SYMPTOMS = ("exploding gradients", "vanishing gradients", "non-finite values")

Verdict = dict[str, int | None]
"""The step at which each symptom was first found, None where it was not."""


def ours(run: Run) -> Verdict:
    """Our verdict on the whole run, and when it was first right."""
    measurements = measurements_of(run.history)
    announced = announcements(measurements)
    found = {evidence.symptom for evidence in find_evidence(measurements)}
    return {s.name: announced[s.name] if s.name in found else None for s in SYMPTOMS}


def announcements(measurements: Measurements) -> dict[str, int]:
    """What is announced while a run trains, and at which step; it may learn all the same."""
    firsts: dict[str, int] = {}
    for records, step in enumerate(measurements.step, start=1):
        found = [
            evidence.symptom
            for evidence in find_evidence(measurements.until(records), finished=False)
        ]
        firsts = dict.fromkeys(found, int(step)) | firsts
    return firsts


def autotrainer(run: Run) -> Verdict:
    """AutoTrainer's rules (Zhang et al., ICSE 2021).

    As in `utils/monitor.py` and, for the thresholds, `default_param` of its code,
    github.com/shiningrain/AUTOTRAINER: it calls values that are not finite and a test loss of
    1e5 exploding at once. The rest it looks at from 30% of training on: vanishing, exploding
    and dying where the best accuracy is below 0.7 or has never risen by 0.01 from one epoch to
    the next, which itself is slow convergence; an oscillation where it is none of these.

    Here a record is an epoch, the accuracy is that of the test split, gradients are those of
    kernels alone, and each rule that holds counts, where AutoTrainer stops at the first.
    """
    history = run.history
    norms, zeros = history["gradient_norm"], history["gradient_zeros"]
    losses = np.stack([history[tags.LOSS_TRAIN], history[tags.LOSS_TEST]], axis=1)
    accuracy = history[tags.ACCURACY_TEST]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = norms[:, 0] / norms[:, -1]
    rises = np.diff(accuracy, prepend=accuracy[0])
    failing = np.fmax.accumulate(accuracy) < 0.7
    slow = np.fmax.accumulate(rises) < 0.01
    late = history["step"] >= 0.3 * run.settings["iterations"]
    nonfinite = _nonfinite(history) | np.isinf(losses).any(axis=1)
    sizes = history["weights"][..., 2].sum(axis=-1).max(axis=0)
    sick = {
        "vanishing gradients": (ratio < 1e-3) & (norms[:, 0] < 1e-4),
        "exploding gradients": ratio > 70,
        "dead units": zeros @ sizes / sizes.sum() >= 0.7,
    }
    held_up = late & (failing | slow)
    fires = {symptom: np.logical_or.accumulate(there) & held_up for symptom, there in sick.items()}
    fires["exploding gradients"] |= nonfinite | (losses[:, 1] >= 1e5)
    fires["non-finite values"] = nonfinite
    fires["stuck at chance"] = late & slow
    fires["oscillating loss"] = late & ~held_up & _swings(accuracy)
    return _firsts(history, fires)


def _nonfinite(history):
    """Records at which a gradient or a weight is NaN or infinite."""
    # They are recorded only where there are some.
    counts = [np.nan_to_num(history[group]) for group in tags.NONFINITE if group in history]
    return np.concatenate([*counts, np.zeros([len(history["step"]), 1])], axis=1).any(axis=1)


def _swings(accuracy):
    """Whether the peaks and dips up to a record, in pairs, differ by 0.03 for 20% of records."""
    before, here, after = accuracy[:-2], accuracy[1:-1], accuracy[2:]
    peak, dip = (here >= before) & (here >= after), (here <= before) & (here <= after)
    swinging = np.zeros(len(accuracy), bool)
    for newest in range(2, len(accuracy)):
        known = slice(0, newest - 1)
        pairs = zip(here[known][peak[known]], here[known][dip[known]], strict=False)
        swinging[newest] = sum(high - low >= 0.03 for high, low in pairs) >= 0.2 * (newest + 1)
    return swinging


def sagemaker(run: Run) -> Verdict:
    """The built-in rules of Amazon SageMaker Debugger that are about one of our symptoms.

    Definitions and defaults are those of docs.aws.amazon.com/sagemaker/latest/dg/
    debugger-built-in-rules.html; the code is not public.

    - VanishingGradient: a mean absolute gradient below 1e-7.
    - ExplodingTensor: a value that is not finite.
    - WeightUpdateRatio: above 10, or below 1e-8, here of one update. It looks at each tensor:
      all too small are updates too small, a single one is a frozen layer.
    - DeadRelu: over half of a layer is active less than 1% of the time: on none of 30 examples.
    - SaturatedActivation: over half of a layer is beyond `SATURATED` more than 99% of the time.
      No record tells units apart, so it fires where that share of the layer's inputs is beyond,
      as it then must be.
    - LossNotDecreasing: over ten steps or more, here from record to record, the loss, here that
      of the test split, has not come down by 0.1%.

    Left out are UnchangedTensor, which needs whole tensors, AllZero and TensorVariance, which
    have to be told what to look at, and PoorWeightInitialization, Overfit and others, which
    are about none of our symptoms.
    """
    history, activation = run.history, run.settings["activation"]
    ratio = history[tags.UPDATE_RATIO]
    losses = history[tags.LOSS_TEST]
    fires = {
        "vanishing gradients": (history[tags.GRADIENT_MEAN_ABS] < 1e-7).any(axis=1),
        "non-finite values": _nonfinite(history),
        "updates too large": (ratio > 10).any(axis=1),
        "updates too small": (ratio < 1e-8).all(axis=1),
        "frozen layers": (ratio < 1e-8).any(axis=1),
        "dead units": (history[tags.UNITS_DEAD] > 0.5).any(axis=1) & ("relu" in activation),
        "saturated units": _beyond(history, activation),
        "stuck at chance": np.append(False, losses[1:] > (1 - 0.001) * losses[:-1]),
    }
    return _firsts(history, fires)


SATURATED = {"tanh": (-9.4999, 9.4999), "sigmoid": (-23, 16.99999)}
"""Where SaturatedActivation has the ends of an activation's inputs."""


def _beyond(history, activation):
    """Records at which 99% of half of what a layer's activation gets lies beyond its ends."""
    for name, (low, high) in SATURATED.items():
        if activation.endswith(name):
            left, right, counts = np.moveaxis(history[tags.ACTIVATION_INPUTS], -1, 0)
            centre = (left + right) / 2
            outside = np.where((centre <= low) | (centre >= high), counts, 0).sum(axis=-1)
            return (outside > 0.99 * 0.5 * counts.sum(axis=-1)).any(axis=1)
    return np.zeros(len(history["step"]), bool)


def _firsts(history, fires):
    """The step of the first record at which each rule fires."""
    return {
        symptom: int(history["step"][np.argmax(fired)]) if fired.any() else None
        for symptom, fired in fires.items()
    }


RULES = {"mnist_vg": ours, "AutoTrainer": autotrainer, "SageMaker": sagemaker}
OURS, *PUBLISHED = RULES


@dataclass(frozen=True)
class Score:
    """How rules do on one symptom: `right` has when each labelled run was first found."""

    labelled: int
    found: int
    right: tuple[float, ...]

    @property
    def recall(self) -> float:
        """The share of labelled runs that are found."""
        return len(self.right) / self.labelled

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return 2 * len(self.right) / (self.labelled + self.found)


Scores = dict[str, dict[str, Score]]
"""By symptom and rules, where they have one for it."""


def score(symptom: str, labels: list[list[str]], verdicts: list[Verdict], runs: list[Run]) -> Score:
    """One symptom in all runs, by their labels and the verdicts of one set of rules."""
    steps = [verdict[symptom] for verdict in verdicts]
    sick = [symptom in names for names in labels]
    right = [
        step / run.settings["iterations"]
        for run, step, there in zip(runs, steps, sick, strict=True)
        if there and step is not None
    ]
    return Score(sum(sick), len(steps) - steps.count(None), tuple(right))


FIGURES = {
    "precision": lambda score: f"{len(score.right)}/{score.found}",
    "recall": lambda score: f"{len(score.right)}/{score.labelled}",
    "F1": lambda score: f"{score.f1:.2f}",
}
FIRST = {
    "median (worst)": lambda score: (
        f"{median(score.right):.0%} ({max(score.right):.0%})" if score.right else "never"
    )
}


def table(title: str, figures: dict, scores: Scores) -> Table:
    """Figures of each set of rules, a row a symptom; a dash where there is no rule for it."""
    table = Table(title=title, title_justify="left")
    table.add_column("symptom", no_wrap=True)
    table.add_column("runs", justify="right")
    for rules in RULES:
        for figure in figures:
            table.add_column(f"{rules}\n{figure}", justify="right")
    for symptom, by_rules in scores.items():
        cells = [
            show(by_rules[rules]) if rules in by_rules else "–"
            for rules in RULES
            for show in figures.values()
        ]
        table.add_row(symptom, str(by_rules[OURS].labelled), *cells)
    return table


def shortfalls(scores: Scores, called_sick: int) -> dict[str, list[str]]:
    """Each target, and where it is missed."""
    mine = {symptom: by_rules[OURS] for symptom, by_rules in scores.items()}
    late = {
        name: sum(share > EARLY for share in own.right)
        for name, own in mine.items()
        if name in EARLY_SYMPTOMS
    }
    return {
        f"recall of each symptom {RECALL:.0%} or more": [
            f"{symptom} {own.recall:.0%}" for symptom, own in mine.items() if own.recall < RECALL
        ],
        "no healthy run called sick": [f"{called_sick} are"] if called_sick else [],
        f"{', '.join(EARLY_SYMPTOMS)} found within {EARLY:.0%} of training": [
            f"{symptom} later in {count} of {len(mine[symptom].right)}"
            for symptom, count in late.items()
            if count
        ],
        f"a higher F1 than {' and '.join(PUBLISHED)}": [
            f"{symptom} {own.f1:.2f}, {rules} {scores[symptom][rules].f1:.2f}"
            for symptom, own in mine.items()
            for rules in PUBLISHED
            if rules in scores[symptom] and own.f1 <= scores[symptom][rules].f1
        ],
    }


def load(entries: list[dict], logdir: Path) -> list[Run]:
    """The runs of entries of the corpus."""
    runs = [Run.load(logdir / entry["scenario"].name) for entry in entries]
    if not all(run and run.status == "finished" for run in runs):
        raise click.ClickException(f"runs are missing: python benchmarks/corpus.py train {logdir}")
    return runs


def compare(labels: list[list[str]], runs: list[Run]) -> None:
    """Score every set of rules on labelled runs, and print; symptoms that none has are left out."""
    verdicts = {name: [rules(run) for run in runs] for name, rules in RULES.items()}
    scores = {
        symptom.name: {
            name: score(symptom.name, labels, given, runs)
            for name, given in verdicts.items()
            if symptom.name in given[0]
        }
        for symptom in SYMPTOMS
        if any(symptom.name in names for names in labels)
    }
    console = make_console()
    console.print(table(f"{len(runs)} runs", FIGURES, scores))
    console.print(table("When it is first right, by the part of training", FIRST, scores))
    healthy = [number for number, names in enumerate(labels) if names == ["healthy"]]
    called_sick = {
        name: sum(any(step is not None for step in given[number].values()) for number in healthy)
        for name, given in verdicts.items()
    }
    listed = ", ".join(f"{count} by {name}" for name, count in called_sick.items())
    warned = sum(bool(announcements(measurements_of(runs[number].history))) for number in healthy)
    console.print(
        f"Of {len(healthy)} healthy runs called sick: {listed}. Ours is the verdict in the end, "
        f"when what has learned is healthy; on the way {warned} had a symptom announced.\n",
        soft_wrap=True,
    )
    for target, short in shortfalls(scores, called_sick[OURS]).items():
        console.print(f"{target}: {'missed: ' + '; '.join(short) if short else 'met'}")


def smoke() -> None:
    """Score the rules on the smallest corpus."""
    entries = corpus.smallest()
    with tempfile.TemporaryDirectory() as folder:
        logdir = Path(folder)
        corpus.train(entries, logdir)
        compare([entry["labels"] for entry in entries], load(entries, logdir))


@click.command()
@opening(smoke)
@click.argument("logdir", type=click.Path(path_type=Path))
@click.option("--half", type=click.Choice(["test", "tune"]), default="test", show_default=True)
def main(logdir, half):
    """Score every set of rules on the runs of the corpus in LOGDIR."""
    entries = [entry for entry in corpus.load() if entry["half"] == half]
    click.echo(f"The half {half} of the corpus.")
    compare([entry["labels"] for entry in entries], load(entries, logdir))


if __name__ == "__main__":
    main()
