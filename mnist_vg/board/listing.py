"""All runs in brief: what the overview sorts, filters and groups, and what each tile says."""

import math
import re
import time
from collections.abc import Mapping
from typing import Any

from mnist_vg.board.local_runs import LocalRun
from mnist_vg.board.log import Log, parsed

TRAINING_SECONDS = 60
"""A run whose newest record is older is not training any more, or so slowly that it seems so."""

MOST_KINDS = 20
"""So many runs are asked for their measures, of networks that differ in their layers."""

RESULTS = {
    "test_accuracy": "test accuracy",
    "val_accuracy": "validation accuracy",
    "accuracy": "accuracy",
    "test_loss": "test loss",
    "val_loss": "validation loss",
    "loss": "loss",
}
"""The result that stands for a run: the first that it has, and its name in words."""

_NAMES = ("name", "seed")
"""Settings that only tell runs apart."""


def listing(log: Log, local: Mapping[str, LocalRun]) -> dict[str, Any]:
    """What the page asks for first.

    Args:
        log: what TensorBoard has read.
        local: the folders of the runs, see `local_runs`.

    Returns:
        `runs`: a dict for each run of ours, see `_row`; `settings`: the settings that
        differ between runs that have them, in the order of the scenario's; `measures`: what
        runs record of their layers.
    """
    found = log.facts()
    facts = {run: parsed(text) for run, (*_, text) in found.items()}
    sound = {run: known for run, known in facts.items() if known is not None}
    settings_of = {run: known["settings"] for run, known in sound.items()}
    differing, groups = _differing(settings_of.values()), _groups(settings_of)
    newest = log.newest([run for run, known in sound.items() if not known["finished"]] or [""])
    rows = []
    for run in sorted(facts.keys() | local.keys()):
        here, known = local.get(run), facts.get(run)
        damage = _damage(here, known, read=run in facts)
        if known is not None:
            step, written, _ = found[run]
            row = _row(run, known, differing, newest.get(run), here)
            about = {"step": step, "written": written, "group": groups[run]}
            rows.append(about | row | damage)
        elif damage:
            rows.append({"name": run, "group": run, "state": "damaged", "settings": {}} | damage)
    kinds = {_kind(known): run for run, known in sound.items()}
    measures = log.measures([*kinds.values()][:MOST_KINDS])
    return {"runs": rows, "settings": differing, "measures": measures}


def _row(run, known, differing, newest, here):
    """A run in brief; without what is not known."""
    settings = known["settings"]
    name = next((key for key in RESULTS if _is_finite((known["results"] or {}).get(key))), None)
    row = {
        "name": run,
        "verdict": known["verdict"],
        "health": known["health"],
        "where": _where(known["symptoms"]),
        "share": known["learned_share"],
        "state": _state(known, newest, here),
        "layers": len(known["layers"]),
        "settings": {key: settings[key] for key in differing if key in settings},
    }
    if newest:
        row["step"] = newest.step
    if name:
        row["result"] = {"name": RESULTS[name], "value": known["results"][name]}
    elif newest and newest.accuracy is not None:
        row["result"] = {"name": RESULTS["test_accuracy"], "value": newest.accuracy}
    return row


def _where(symptoms):
    """The first cause's layer and step, in words; empty for a run without symptoms."""
    first = next((symptom for symptom in symptoms if symptom["kind"] == "fault"), None)
    if first is None:
        return ""
    layer = f"{first['layer']}, " if first["layer"] else ""
    return f"{layer}from step {first['step']}"


def _state(known, newest, here):
    """Whether a run trains, has finished, or ended before."""
    if known["finished"]:
        return "finished"
    if here and here.status in ("interrupted", "broken"):
        return here.status
    ended = here is not None and here.settled and here.status != "running"
    recent = newest is not None and time.time() - newest.time < TRAINING_SECONDS
    return "training" if recent and not ended else "not finished"


def _damage(here, known, read):
    """What is wrong with a run; an empty dict if nothing is."""
    reason = ""
    if read and known is None:
        reason = "its facts in the log cannot be read"
    elif here and here.damage:
        reason = here.damage
    elif here and here.settled and not read:
        reason = (
            "TensorBoard finds no facts of this run in its log: the log is damaged, or an earlier "
            "version of mnist_vg recorded it"
        )
    elif here and here.settled and here.status == "finished" and not known["finished"]:
        reason = "the run has finished, but its log breaks off before the end: it is damaged"
    return {"damage": reason} if reason else {}


def _differing(settings):
    """The settings that differ between runs that have them, in the order of the first of these."""
    values = {}
    for of_run in settings:
        for key, value in of_run.items():
            values.setdefault(key, set()).add(repr(value))
    return [key for key, found in values.items() if len(found) > 1 and key not in _NAMES]


def _groups(settings_of):
    """The scenario of each run: the name of its first run without the seed.

    Sweeps number their runs, so that seeds of one scenario have other names, but equal settings.
    """
    groups, first = {}, {}
    for run, settings in settings_of.items():
        groups[run] = run.removesuffix(f"-seed{settings.get('seed')}")
        if groups[run] != run:
            unnumbered = re.sub(r"\d+-([^/]*)$", r"\1", groups[run])
            alike = repr([unnumbered, [item for item in settings.items() if item[0] not in _NAMES]])
            groups[run] = first.setdefault(alike, groups[run])
    return groups


def _kind(known):
    """What tells runs apart that record other measures: layers, and which settings are set."""
    settings = known["settings"]
    given = [key for key, value in settings.items() if value is not None and value is not False]
    layers = len(known["layers"]), len(known["activation_layers"])
    return *layers, settings.get("measures"), *given


def _is_finite(value):
    return isinstance(value, (int, float)) and abs(value) < math.inf
