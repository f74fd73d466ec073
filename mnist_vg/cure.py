"""Remedies for a sick scenario: which fit its symptoms, and which of them help.

A remedy changes settings of the scenario and nothing else. Data, batches and seeds stay, so
that what differs in the end comes from the change.
"""

import dataclasses
import math
import os
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mnist_vg.diagnosis.diagnosis import diagnose, root_causes
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
from mnist_vg.runs.paths import as_path
from mnist_vg.runs.results import learned
from mnist_vg.runs.run import Run
from mnist_vg.scenarios.scenario import PARAMETRIC_RELU, Scenario
from mnist_vg.scenarios.suites import find_scenario
from mnist_vg.tensorflow_import import import_tensorflow

ROUNDS = 3
"""How often remedies are looked for: against the disease, and twice against what is left."""

NAME_LENGTH = 55
"""A run is named after the scenario and the changes, and has room for 100 letters."""

NOTICEABLE = 0.01
"""Test accuracy by which a larger change has to be better than a smaller one."""

CLIPNORM = 1.0
"""A norm of all gradients together at which they are clipped (Pascanu et al. 2013, section
3.2, who find training to depend little on it)."""

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

Changes = Mapping[str, Any]


def _initializer(scenario):
    """Keeps the variance of signals or gradients from layer to layer, for the activation.

    He et al. 2015 (eq. 10) for rectifiers, Klambauer et al. 2017 (LeCun's) for SELU, Glorot
    and Bengio 2010 (eq. 16) for the others.
    """
    if scenario.activation in RECTIFIERS:
        return {"kernel_initializer": "he_normal", "output_initializer": None}
    name = "lecun_normal" if scenario.activation == "selu" else "glorot_uniform"
    return {"kernel_initializer": name, "output_initializer": None}


def _activation(scenario):
    """ReLU with the weights that it needs (He et al. 2015)."""
    return {"activation": "relu"} | _initializer(dataclasses.replace(scenario, activation="relu"))


def _rate(factor, lower):
    """A multiple of the optimizer's own learning rate, where that is lower, or higher, than now."""

    def changes(scenario):
        from mnist_vg.training.build import make_optimizer

        own = float(make_optimizer(dataclasses.replace(scenario, learning_rate=None)).learning_rate)
        rate = float(f"{factor * own:.3g}")
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
OWN = LOWER[1]

REMEDIES = {
    UPDATES_TOO_LARGE: (*LOWER, CLIP, _both(OWN, BATCH)),
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
"""What is tried against a symptom, and where a network learns too little without any."""


@dataclass(frozen=True)
class Trial:
    """A scenario with some settings changed, trained under each seed."""

    scenario: Scenario
    changes: Changes
    runs: list[Run]

    @property
    def words(self) -> list[str]:
        """The changes as one reads them."""
        return [f"{key}={value}" for key, value in self.changes.items()]

    @property
    def accuracies(self) -> list[float]:
        """Test accuracies; 0 where one is not finite."""
        return [run.results["test_accuracy"] or 0.0 for run in self.runs]

    @property
    def accuracy(self) -> float:
        """Their median."""
        return statistics.median(self.accuracies)

    @property
    def healthy(self) -> bool:
        """Whether every run is."""
        return all(diagnose(run.history, True).healthy for run in self.runs)

    @property
    def symptoms(self) -> tuple[str, ...]:
        """The root causes that most of the runs agree on."""
        found = Counter(
            tuple(
                evidence.symptom for evidence in root_causes(diagnose(run.history, True).evidence)
            )
            for run in self.runs
        )
        return found.most_common(1)[0][0]

    def helped(self, before: "Trial") -> bool:
        """Whether every run could learn, and is better than each one before."""
        could = (learned(run.results["test_accuracy"], run.results["chance"]) for run in self.runs)
        return all(could) and min(self.accuracies) > max(before.accuracies)


@dataclass(frozen=True)
class Cure:
    """What was tried on a scenario: `before` any change, and each remedy, in order."""

    before: Trial
    trials: list[Trial]

    @property
    def recommended(self) -> Trial | None:
        """The smallest change that helped and is as good as any; None where none helped."""
        helped = [trial for trial in self.trials if trial.helped(self.before)]
        best = max((trial.accuracy for trial in helped), default=0.0)
        good = [trial for trial in helped if trial.accuracy >= best - NOTICEABLE]
        return min(good, key=lambda trial: len(trial.changes), default=None)


def fitting(scenario: Scenario, symptoms: Iterable[str]) -> list[dict]:
    """Changes of settings against symptoms, the smallest first, none twice."""
    found = []
    for symptom in symptoms or [None]:
        for remedy in REMEDIES[symptom]:
            changes = _different(scenario, remedy(scenario))
            if changes and changes not in found:
                found.append(changes)
    return sorted(found, key=len)


def _different(scenario, changes):
    """The changes that are any."""
    settings = scenario.settings()
    return {key: value for key, value in changes.items() if settings[key] != value}


def _changed(scenario, changes):
    """The scenario with changes, named after both."""
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
    """The scenario of a run in `logdir`, or else the named one.

    Raises:
        UsageError: there is neither, or the run was recorded from another program's model.
    """
    run = Run.load(as_path(logdir) / name)
    if run is None:
        return find_scenario(name)
    if run.dataset is None:
        raise UsageError(
            f"scenario: {name!r} was recorded from a model of your own, which only you can train; "
            f"mnist-vg diagnose {logdir} {name} tells what to try"
        )
    return Scenario(**{**run.settings, "name": run.recipe})


def cure(
    scenario: Scenario,
    logdir: str | os.PathLike = "logdir",
    *,
    seeds: int = 3,
    data_dir: str | os.PathLike | None = None,
    watch: Watcher = lambda *block: None,
) -> Cure:
    """Diagnose a scenario, train it with the remedies that fit, and compare.

    Every trial is trained under the same seeds, from the scenario's own on, so on the same
    batches, each into a run folder of its own in `logdir`; runs that are there are not
    trained again. A healthy scenario is left alone. Where no single remedy helps, what is
    left is treated on top of the best one, twice at most.

    Raises:
        UsageError: as `driver.train` does.
        RunFailed: as `driver.train` does; the same call goes on.
    """

    def train(trials):
        """Trials of changes to the scenario, trained together."""
        changed = [_changed(scenario, changes) for changes in trials]
        seeded = [s.with_seed(s.seed + more) for s in changed for more in range(seeds)]
        runs = iter(train_all(seeded, logdir, data_dir=data_dir, watch=watch))
        for changes, one in zip(trials, changed, strict=True):
            yield Trial(one, changes, [next(runs) for _ in range(seeds)])

    _check(scenario, seeds)
    import_tensorflow()  # In silence, also where there is nothing to train.
    [before] = train([{}])
    done = [before]
    for _ in range(ROUNDS):
        if any(t.helped(before) for t in done) or before.healthy:
            break
        best = max(done, key=lambda trial: trial.accuracy)
        further = []
        for more in fitting(best.scenario, best.symptoms):
            changes = _different(scenario, {**best.changes, **more})
            if changes not in [trial.changes for trial in done] + further:
                further.append(changes)
        done += train(further)
    return Cure(before, done[1:])


def _check(scenario, seeds):
    if not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 1:
        raise UsageError(f"seeds: {seeds!r} must be a whole number, 1 or more")
    if len(scenario.name) > NAME_LENGTH:
        raise UsageError(
            f"name: {scenario.name!r} has {len(scenario.name)} letters, and no more than "
            f"{NAME_LENGTH} leave room for a cure's; give the scenario a shorter name"
        )
