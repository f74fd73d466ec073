"""Cures a sick scenario: trains it with the remedies that fit its symptoms, and compares them.

A remedy changes settings of the scenario. Data, batches and seeds stay the same, so a difference
in the results comes from the changed settings.
"""

import dataclasses
import math
import os
import shlex
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_vg.diagnosis.diagnosis import HEALTHY, Diagnosis, root_causes
from mnist_vg.diagnosis.symptoms import (
    DEAD_UNITS,
    EXPLODING_GRADIENTS,
    FROZEN_LAYERS,
    NONFINITE_VALUES,
    OSCILLATING_LOSS,
    SATURATED_UNITS,
    STUCK_AT_CHANCE,
    UPDATES_TOO_LARGE,
    UPDATES_TOO_SMALL,
    VANISHING_GRADIENTS,
)
from mnist_vg.driver import Watcher, train_all
from mnist_vg.errors import UsageError
from mnist_vg.runs.folder import check_writable
from mnist_vg.runs.paths import as_path
from mnist_vg.runs.results import learned
from mnist_vg.runs.run import CURE_FOLDER, Run
from mnist_vg.scenarios.scenario import PARAMETRIC_RELU, Scenario
from mnist_vg.scenarios.suites import find_scenario
from mnist_vg.tensorflow_import import import_tensorflow

ROUNDS = 3
"""How many rounds of remedies are tried: one for the scenario's symptoms, and two more for the
symptoms that are left."""

MAX_NAME_LENGTH = 55
"""Longest name of a scenario to cure, in characters. A trial's name is this name and the changes,
and a run's name has at most 100 characters."""

NOTICEABLE = 0.01
"""A change of more settings must reach a test accuracy that is higher by more than this."""

CLIPNORM = 1.0
"""The global norm to which gradients are clipped. Pascanu et al. 2013, section 3.2, found that
training depends little on its value."""

RECTIFIERS = (
    "relu",
    "leaky_relu",
    PARAMETRIC_RELU,
    "relu6",
    "elu",
    "gelu",
    "silu",
    "swish",
    "mish",
)
"""Activations that use He's initializer: ReLU, for which it was derived, and similar ones."""

Changes = Mapping[str, Any]
"""Settings of a scenario and their new values."""


def _initializer(scenario):
    """The initializer that keeps the variance from layer to layer, for the scenario's activation.

    He et al. 2015 (eq. 10) for rectifiers, LeCun's for SELU (Klambauer et al. 2017), and Glorot
    and Bengio 2010 (eq. 16) for the others.
    """
    if scenario.activation in RECTIFIERS:
        return {"kernel_initializer": "he_normal", "output_initializer": None}
    name = "lecun_normal" if scenario.activation == "selu" else "glorot_uniform"
    return {"kernel_initializer": name, "output_initializer": None}


def _activation(scenario):
    """ReLU with the initializer that it needs (He et al. 2015)."""
    return {"activation": "relu"} | _initializer(dataclasses.replace(scenario, activation="relu"))


def _rate(factor, lower):
    """Set the learning rate to a multiple of the optimizer's default.

    Changes nothing unless that lowers the rate (`lower=True`) or raises it (`lower=False`).
    """

    def changes(scenario):
        from mnist_vg.training.build import make_optimizer

        default = make_optimizer(dataclasses.replace(scenario, learning_rate=None)).learning_rate
        rate = float(f"{factor * float(default):.3g}")
        present = float(make_optimizer(scenario).learning_rate)
        same = math.isclose(rate, present, rel_tol=1e-6)
        return {} if same or (rate < present) != lower else {"learning_rate": rate}

    return changes


def _settings(**changes):
    return lambda scenario: changes


def _both(first, second):
    return lambda scenario: {**first(scenario), **second(scenario)}


INITIALIZER, ACTIVATION = _initializer, _activation
BATCH = _settings(normalization="batch")
SKIP = _settings(skip_connections=True)
LEAKY = _settings(activation="leaky_relu")
CLIP = _settings(global_clipnorm=CLIPNORM)
LOWER = tuple(_rate(factor, lower=True) for factor in (10, 1, 0.1))
HIGHER = tuple(_rate(factor, lower=False) for factor in (1, 10))
DEFAULT_RATE = LOWER[1]

REMEDIES = {
    UPDATES_TOO_LARGE: (*LOWER, CLIP, _both(DEFAULT_RATE, BATCH)),
    UPDATES_TOO_SMALL: HIGHER,
    SATURATED_UNITS: (INITIALIZER, BATCH, ACTIVATION, *LOWER, _both(ACTIVATION, BATCH)),
    DEAD_UNITS: (LEAKY, INITIALIZER, BATCH, *LOWER),
    EXPLODING_GRADIENTS: (INITIALIZER, BATCH, CLIP, *LOWER, _both(INITIALIZER, BATCH)),
    VANISHING_GRADIENTS: (INITIALIZER, ACTIVATION, BATCH, SKIP, _both(ACTIVATION, BATCH)),
    NONFINITE_VALUES: (*LOWER, INITIALIZER, CLIP, BATCH),
    FROZEN_LAYERS: HIGHER,
    OSCILLATING_LOSS: LOWER,
    STUCK_AT_CHANCE: (INITIALIZER, *HIGHER, BATCH),
    None: (INITIALIZER, *HIGHER, BATCH, SKIP, _both(BATCH, SKIP)),
}
"""The remedies for each symptom, and (None) for a network without a symptom that did not learn.

A remedy is a function from a scenario to changes."""


@dataclass(frozen=True)
class Trial:
    """A scenario with some settings changed, trained with each seed.

    Attributes:
        scenario: the changed scenario.
        changes: the changed settings.
        runs: the finished runs, one per seed.
    """

    scenario: Scenario
    changes: Changes
    runs: list[Run]

    @property
    def words(self) -> list[str]:
        """The changes in words, such as "activation=relu"."""
        return [f"{key}={value}" for key, value in self.changes.items()]

    @property
    def accuracies(self) -> list[float]:
        """The runs' test accuracies; 0 for one that is not finite."""
        return [run.results["test_accuracy"] or 0.0 for run in self.runs]

    @property
    def accuracy(self) -> float:
        """The median test accuracy."""
        return statistics.median(self.accuracies)

    @property
    def healthy(self) -> bool:
        """Whether every run is healthy."""
        return all(Diagnosis.of(run.history, True).verdict == HEALTHY for run in self.runs)

    @property
    def symptoms(self) -> tuple[str, ...]:
        """The most frequent combination of root causes among the runs."""
        found = Counter(
            tuple(
                evidence.symptom
                for evidence in root_causes(Diagnosis.of(run.history, True).evidence)
            )
            for run in self.runs
        )
        return found.most_common(1)[0][0]

    def helped(self, before: "Trial") -> bool:
        """Whether every run could learn, and has a higher accuracy than every run of `before`."""
        could = (learned(run.results["test_accuracy"], run.results["chance"]) for run in self.runs)
        return all(could) and min(self.accuracies) > max(before.accuracies)


@dataclass(frozen=True)
class Cure:
    """The result of `cure`.

    Attributes:
        before: the scenario without changes.
        trials: the changes that were tried, in order.
        logdir: the log folder.
    """

    before: Trial
    trials: list[Trial]
    logdir: Path

    @property
    def recommended(self) -> Trial | None:
        """The trial with the fewest changes among the best ones that helped; None if none helped.

        The best ones are within `NOTICEABLE` of the highest test accuracy.
        """
        helped = [trial for trial in self.trials if trial.helped(self.before)]
        best = max((trial.accuracy for trial in helped), default=0.0)
        good = [trial for trial in helped if trial.accuracy >= best - NOTICEABLE]
        return min(good, key=lambda trial: len(trial.changes), default=None)


def remedies_for(scenario: Scenario, symptoms: Iterable[str]) -> list[dict]:
    """The changes to try for some symptoms, without duplicates; those of fewest settings first."""
    found = []
    for symptom in symptoms or [None]:
        for remedy in REMEDIES[symptom]:
            changes = _real_changes(scenario, remedy(scenario))
            if changes and changes not in found:
                found.append(changes)
    return sorted(found, key=len)


def _real_changes(scenario, changes):
    """The changes without those to the value that the scenario has already."""
    settings = scenario.settings()
    return {key: value for key, value in changes.items() if settings[key] != value}


def _changed(scenario, changes):
    """The scenario with the changes, and a name made from its name and the changes."""
    words = {
        "learning_rate": lambda rate: f"rate{rate:g}",
        "global_clipnorm": lambda norm: f"clip{norm:g}",
        "skip_connections": lambda _: "skip",
        "output_initializer": lambda _: "all_layers",
    }
    parts = [words.get(key, str)(value) for key, value in changes.items()]
    name = "-".join([scenario.name, *parts])
    about = {"about": "", "source": ""} if changes else {}
    return dataclasses.replace(scenario, **{**changes, "name": name, **about})


def find_sick(name: str, logdir: str | os.PathLike) -> Scenario:
    """The scenario of the run `name` in `logdir`; if there is no such run, the named scenario.

    Raises:
        UsageError: there is neither, or the run is that of a Keras model of the user's own.
    """
    run = Run.load(as_path(logdir) / name)
    if run is None:
        return find_scenario(name)
    if run.dataset is None:
        raise UsageError(
            f"scenario: {name!r} is a run of your own model, which only you can train; "
            f"mnist-vg diagnose --logdir {shlex.quote(str(logdir))} {name} says what to try"
        )
    return Scenario(**{**run.settings, "name": run.recipe})


def cure(
    scenario: Scenario,
    logdir: str | os.PathLike = "logdir",
    *,
    seeds: int = 3,
    data_dir: str | os.PathLike | None = None,
    overwrite: bool = False,
    watch: Watcher = lambda *block: None,
    expect: Callable[[Sequence[Scenario]], None] = lambda scenarios: None,
    train: Callable[..., Iterable[Run]] = train_all,
) -> Cure:
    """Diagnose a scenario, and train it with each remedy that fits its symptoms.

    Every trial has the same seeds, and so the same batches. If no remedy helps, the best trial so
    far is diagnosed, and remedies for the symptoms that are left are added to it, twice at most.
    A healthy scenario is not changed. Each run gets a folder in `logdir/cure/<scenario's name>`,
    so that it is not among the runs of `logdir`; finished runs are not trained again.

    Args:
        scenario: the scenario to cure.
        logdir: the folder for TensorBoard's `--logdir`.
        seeds: the number of seeds, 1 or more. The first one is the scenario's seed.
        data_dir: where TFDS keeps prepared data sets; None is TFDS's default folder.
        overwrite: whether to remove the runs of an earlier cure, and train them again.
        watch: called after each block of steps; see `driver.Watcher`.
        expect: called with the scenarios of each round, before they are trained.
        train: trains them; `driver.train_all`, perhaps with more of its arguments given.

    Raises:
        UsageError: the name is too long, `seeds` is not a whole number of 1 or more, or as
            `driver.train`.
        RunFailed: as `driver.train`; the same call continues the cure.
    """

    def tried(trials):
        """Train the scenario with each of the changes, and yield the trials."""
        changed = [_changed(scenario, changes) for changes in trials]
        seeded = [s.with_seed(s.seed + n) for s in changed for n in range(seeds)]
        expect(seeded)
        options = {"data_dir": data_dir, "overwrite": overwrite, "watch": watch}
        runs = iter(train(seeded, folder, **options))
        for changes, variant in zip(trials, changed, strict=True):
            yield Trial(variant, changes, [next(runs) for _ in range(seeds)])

    check_cure(scenario, seeds)
    logdir = as_path(logdir)
    folder = logdir / CURE_FOLDER / scenario.name
    check_writable(folder)
    import_tensorflow()  # Without its messages, even if there is nothing to train.
    [before] = tried([{}])
    done = [before]
    for _ in range(ROUNDS):
        if any(t.helped(before) for t in done) or before.healthy:
            break
        best = max(done, key=lambda trial: trial.accuracy)
        untried = []
        for remedy in remedies_for(best.scenario, best.symptoms):
            changes = _real_changes(scenario, {**best.changes, **remedy})
            if changes not in [trial.changes for trial in done] + untried:
                untried.append(changes)
        done += tried(untried)
    return Cure(before, done[1:], logdir)


def check_cure(scenario: Scenario, seeds: int) -> None:
    """Check the arguments of `cure`.

    Raises:
        UsageError: the name is too long, or `seeds` is not a whole number of 1 or more.
    """
    if not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 1:
        raise UsageError(f"seeds: {seeds!r} must be a whole number, 1 or more")
    if len(scenario.name) > MAX_NAME_LENGTH:
        raise UsageError(
            f"name: {scenario.name!r} has {len(scenario.name)} characters; give the scenario a "
            f"name of at most {MAX_NAME_LENGTH}, to which cure can add the changes"
        )
