"""Diagnoses as SARIF, the format in which CI services take the findings of tools."""

import json
import math
from collections.abc import Mapping
from importlib import metadata
from urllib.parse import quote

from mnist_vg.diagnosis.diagnosis import NOT_LEARNED, Diagnosis
from mnist_vg.diagnosis.symptoms import SYMPTOMS
from mnist_vg.report import one_of
from mnist_vg.runs.foreign import ForeignRun
from mnist_vg.runs.paths import is_remote
from mnist_vg.runs.run import RUN_FILE, Run

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)

NOT_JUDGED = "could not judge"
WITHOUT_SYMPTOM = {
    NOT_LEARNED: "The run has ended and has not learned, and none of the known symptoms shows.",
    NOT_JUDGED: "Too little is recorded to call the run sick or healthy, or it ended early.",
}
"""The rules beside the symptoms."""

CHECKS = "mnist_vg.check finds it before the first step. Page: docs/checks.md"


def sarif(diagnoses: Mapping[str, Diagnosis], runs: Mapping[str, Run]) -> str:
    """Diagnoses as a SARIF 2.1.0 log (OASIS 2020): a rule for each symptom, a result if found.

    What `mnist_vg.check` found before the first step has rules, too.

    A symptom is an error, and a run that could not be judged a warning. A healthy run has no
    result.

    Args:
        diagnoses: diagnoses by the run's name.
        runs: the same runs.
    """
    found = (e.symptom for diagnosis in diagnoses.values() for e in diagnosis.evidence)
    checked = dict.fromkeys(found).keys() - {symptom.name for symptom in SYMPTOMS}
    driver = {
        "name": "mnist-vg",
        "version": metadata.version("mnist_vg"),
        "rules": [
            *map(_rule_of, SYMPTOMS),
            *(_rule(name, text, text) for name, text in WITHOUT_SYMPTOM.items()),
            *(
                _rule(name, f"Found before the first step: {name}.", CHECKS)
                for name in sorted(checked)
            ),
        ],
    }
    results = [
        result
        for name, diagnosis in diagnoses.items()
        for result in _results(name, diagnosis, runs[name])
    ]
    log = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }
    return json.dumps(log, indent=2, allow_nan=False) + "\n"


def _rule_of(symptom):
    page = f"docs/symptoms/{_slug(symptom.name)}.md"
    advice = f"Try: {one_of(symptom.advice)}. " if symptom.advice else ""
    text = f"{advice}Source: {symptom.source}. Page: {page}"
    rule = _rule(symptom.name, f"Symptom of a run: {symptom.name}.", text)
    return rule | {"fullDescription": {"text": f"{symptom.why[0].upper()}{symptom.why[1:]}."}}


def _rule(name, short, text):
    return {
        "id": _slug(name),
        "shortDescription": {"text": short},
        "help": {"text": text},
    }


def _slug(name):
    return name.replace(",", "").replace(" ", "-")


def _results(name, diagnosis, run):
    if diagnosis.healthy:
        return []
    if not diagnosis.judged:
        return [_result(NOT_JUDGED, "warning", diagnosis.verdict, name, None, run)]
    if not diagnosis.evidence:
        return [_result(NOT_LEARNED, "error", NOT_LEARNED, name, None, run)]
    return [_result_of(evidence, name, run) for evidence in diagnosis.evidence]


def _result_of(evidence, name, run):
    text = f"{evidence.line}."
    if evidence.advice:
        text += f" Try: {one_of(evidence.advice)}."
    numbers = {"step": evidence.step, "value": evidence.value, "threshold": evidence.threshold}
    result = _result(evidence.symptom, "error", text, name, evidence.layer, run)
    return result | {"properties": {k: v for k, v in numbers.items() if math.isfinite(v)}}


def _result(rule, level, text, name, layer, run):
    place = {"name": name, "fullyQualifiedName": name, "kind": "run"}
    if layer:
        place = {"name": layer, "fullyQualifiedName": f"{name}/{layer}", "kind": "layer"}
    return {
        "ruleId": _slug(rule),
        "level": level,
        "message": {"text": f"{name}: {text}"},
        "locations": [
            {
                # Some services show only results that are in a line of a file.
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(_file_of(run))},
                    "region": {"startLine": 1},
                },
                "logicalLocations": [place],
            }
        ],
    }


def _file_of(run):
    return run.folder if isinstance(run, ForeignRun) else run.folder / RUN_FILE


def _uri(path):
    if is_remote(path):
        return str(path)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())
