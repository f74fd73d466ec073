"""What the tab "Gradient flow" must know of a run, in a form that JSON can hold."""

import math
from collections.abc import Sequence
from typing import Any

from mnist_vg.diagnosis.diagnosis import SO_FAR, Diagnosis, root_causes
from mnist_vg.diagnosis.symptom import Evidence
from mnist_vg.runs.run import Run

_OF_SYMPTOM = (
    *("symptom", "layer", "step", "known", "until", "value", "threshold"),
    *("words", "why", "source", "advice"),
)


def run_facts(run: Run, diagnosis: Diagnosis, passed: Sequence[Evidence] = ()) -> dict[str, Any]:
    """A run's facts.

    Args:
        run: of which `results` are those of a finished run.
        diagnosis: of the run, or of its records so far.
        passed: symptoms that were announced while it trained, and that it does not have any more.
    """
    # What little is known at first does not stay true until the facts are written anew.
    open_yet = not diagnosis.finished and not diagnosis.evidence
    return {
        "name": run.name,
        "recipe": run.recipe,
        "settings": run.settings,
        "dataset": run.dataset,
        "layers": list(diagnosis.measurements.layers),
        "activation_layers": list(diagnosis.measurements.activation_layers),
        "marks": run.layer_marks,
        "finished": diagnosis.finished,
        "results": run.results,
        "verdict": SO_FAR if open_yet else diagnosis.verdict,
        "health": "so far" if open_yet else _health(diagnosis),
        "learned_share": _finite(diagnosis.learned_share),
        "advice": list(diagnosis.advice),
        "symptoms": _symptoms(diagnosis, passed),
    }


def _health(diagnosis):
    return "healthy" if diagnosis.healthy else "sick" if diagnosis.judged else "not judged"


def _symptoms(diagnosis, passed):
    """Causes first, then other faults, remarks and what has passed."""
    causes = root_causes(diagnosis.evidence)
    others = [evidence for evidence in diagnosis.evidence if evidence not in causes]
    return [
        _symptom(evidence, kind, evidence in causes)
        for kind, found in (
            ("fault", [*causes, *others]),
            ("remark", diagnosis.remarks),
            ("passed", passed),
        )
        for evidence in found
    ]


def _symptom(evidence, kind, is_cause):
    facts = {name: _finite(getattr(evidence, name)) for name in _OF_SYMPTOM}
    return facts | {"kind": kind, "cause": is_cause}


def _finite(value):
    return None if isinstance(value, float) and not math.isfinite(value) else value
