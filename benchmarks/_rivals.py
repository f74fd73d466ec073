"""Published linters of trainings, on the curves of our runs.

Each gets what it would read of such a run: step, training loss, validation loss and norm of the
gradient, from our records (of the learning rate we keep none). All three judge such numbers and
nothing else: none looks at data, model or layers.

- trainproof 0.22 reads event files and tables, of any framework. Called sick: FAIL or WARN.
- gradsnitch 0.1 has a callback for Keras, whose rows have no norm of the gradient. Called sick: any
  finding. Its lists of likely causes are the same for every run, and are left out.
- losslint 0.4 reads event files and tables, of any framework. Called sick: an error or a warning;
  what it calls "info" (the loss is on a plateau, overfitting begins) is said, but no verdict.

What is not installed is left out. They must not change the packages of this environment, so:

    pip install --no-deps --target FOLDER trainproof==0.22.0 gradsnitch==0.1.0 losslint==0.4.1
    PYTHONPATH=FOLDER python benchmarks/anyone.py
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnist_vg.runs import tags
from mnist_vg.runs.run import Run


@dataclass(frozen=True)
class Opinion:
    """What a rival says of a run.

    Attributes:
        sick: whether it raises an alarm.
        words: its first finding; empty if there is none.
    """

    sick: bool
    words: str


def curves(run: Run) -> dict[str, np.ndarray]:
    """Step, loss, and where they were recorded validation loss and norm of the whole gradient."""
    history = run.history
    unknown = np.full(len(history["step"]), np.nan)
    loss = history.get(tags.LOSS_TRAIN_MEAN, history.get(tags.LOSS_TRAIN, unknown))
    columns = {"step": history["step"], "loss": loss}
    columns["grad_norm"] = np.sqrt(np.sum(history["gradient_norm"] ** 2, axis=1))
    # At the end of an epoch there may be metrics alone. The loss may be NaN, weights have a norm.
    recorded = np.isfinite(history["weight_norm"]).any(axis=1)
    if "val_loss" in history:
        columns["val_loss"] = np.full(len(loss), np.nan)
        taken = np.flatnonzero(np.isfinite(history["val_loss"]))
        before = [np.flatnonzero(recorded[: row + 1])[-1] for row in taken]
        columns["val_loss"][before] = history["val_loss"][taken]
    return {name: values[recorded] for name, values in columns.items()}


def trainproof(columns) -> Opinion:
    """Its `check_records`, which all its commands for a log call."""
    from trainproof.epoch import check_records

    names = {"val_loss": "eval_loss"}
    table = {names.get(name, name): values.tolist() for name, values in columns.items()}
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    # A validation loss stands in the rows in which one was taken.
    rows = [
        {name: value for name, value in row.items() if name != "eval_loss" or value == value}
        for row in rows
    ]
    report = check_records(rows)
    alarms = [found for found in report["findings"] if found["level"] in ("FAIL", "WARN")]
    return _opinion([f"{found['message']} {found['evidence']}" for found in alarms], bool(alarms))


def gradsnitch(columns) -> Opinion:
    """Its `lint`, which its callback calls at the end."""
    import pandas
    from gradsnitch import lint

    found = lint(pandas.DataFrame(columns).rename(columns={"loss": "train_loss"}))
    return _opinion([f"{f.name}: {f.evidence}" for f in found], bool(found))


def losslint(columns) -> Opinion:
    """Its `run_all_checks`, which all its commands call."""
    from losslint.checks import run_all_checks
    from losslint.parsing import RunLog

    names = {"val_loss": "eval_loss"}
    series = {names.get(name, name): list(values) for name, values in columns.items()}
    series["eval_loss"] = [v if v == v else None for v in series.get("eval_loss", [])]
    steps = [int(step) for step in series.pop("step")]
    if not series["eval_loss"]:
        del series["eval_loss"]
    found = run_all_checks(RunLog(steps, series, Path("run")))
    alarms = [finding for finding in found if finding.severity != "info"]
    return _opinion([finding.message for finding in alarms or found], bool(alarms))


def _opinion(said, sick):
    return Opinion(sick, " ".join(said[0].split()) if said else "")


RIVALS: dict[str, Callable] = {
    rival.__name__: rival
    for rival in (trainproof, gradsnitch, losslint)
    if importlib.util.find_spec(rival.__name__)
}
"""Those that are installed: by name, from curves to opinion."""


def opinions(run: Run) -> dict[str, Opinion]:
    """What each rival says of a run; a run without a record is none for them."""
    if not len(run.history["step"]):
        return {name: Opinion(False, "") for name in RIVALS}
    columns = curves(run)
    return {name: rival(columns) for name, rival in RIVALS.items()}
