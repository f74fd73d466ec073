"""What is wrong with runs, and where they differ from a good one: tables, lines and JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from rich.table import Column

from mnist_vg.diagnosis.diagnosis import Diagnosis
from mnist_vg.report.table import READABLE, Table
from mnist_vg.runs.comparison import Comparison
from mnist_vg.runs.foreign import ForeignRun
from mnist_vg.runs.marks import listed, marks_line
from mnist_vg.runs.run import Run
from mnist_vg.runs.tags import GRADIENTS, WEIGHTS

SHOWN_DIFFERENCES = 12
"""So many differences of a run are shown, and the others are counted."""

_AXES = ("step", "layers", "activation_layers")


def diagnosis_table(diagnoses: Mapping[str, Diagnosis]) -> Table:
    """The symptoms of each run, with evidence and advice.

    Args:
        diagnoses: diagnoses by the run's name.
    """
    texts = (Column(heading, min_width=READABLE) for heading in ("Evidence", "Try"))
    table = Table("Run", "Diagnosis", "Where", Column("From step", justify="right"), *texts)
    for name, diagnosis in diagnoses.items():
        if not diagnosis.evidence:
            style = None if diagnosis.healthy else "red" if diagnosis.judged else "yellow"
            table.add_row(
                name, diagnosis.verdict, "", "", "", one_of(diagnosis.advice), style=style
            )
        for number, evidence in enumerate(diagnosis.evidence):
            run, where, step = "" if number else name, evidence.layer or "", str(evidence.step)
            table.add_row(
                run, evidence.symptom, where, step, evidence.words, one_of(evidence.advice)
            )
        table.add_section()
    return table


def one_of(options: Sequence[str]) -> str:
    """Options as one phrase: "a", "a, or b", "a, b, or c"."""
    return ", or ".join(filter(None, [", ".join(options[:-1]), *options[-1:]]))


def remark_lines(diagnoses: Mapping[str, Diagnosis]) -> list[str]:
    """The symptoms that do not make a run sick, a line each."""
    return [
        f"{name}: no fault: {remark.line}"
        for name, diagnosis in diagnoses.items()
        for remark in diagnosis.remarks
    ]


def not_recorded_lines(diagnoses: Mapping[str, Diagnosis]) -> list[str]:
    """The symptoms that cannot be found in some runs, and what these runs did not record."""
    runs_lacking: dict[tuple, list[str]] = {}
    for name, diagnosis in diagnoses.items():
        runs_lacking.setdefault(tuple(diagnosis.lacks.items()), []).append(name)
    return [
        f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}: not checked for "
        f"{', '.join(symptom for symptom, _ in lacks)}; no record of "
        f"{' or '.join(dict.fromkeys(needs for _, needs in lacks))}"
        for lacks, names in runs_lacking.items()
        if lacks
    ]


def mark_lines(diagnoses: Mapping[str, Diagnosis]) -> list[str]:
    """The layers without a gradient and the frozen ones, a line for each run that has some."""
    return [
        f"{name}: {marks_line(diagnosis.layer_marks)}"
        for name, diagnosis in diagnoses.items()
        if diagnosis.layer_marks
    ]


def foreign_lines(runs: Mapping[str, Run]) -> list[str]:
    """What was found in the runs of other programs, a line for each of them."""
    return [
        f"{name}: not recorded by mnist_vg; found: {', '.join(_contents(run.history))} "
        "(GradientLogger and Recorder record the rest)"
        for name, run in runs.items()
        if isinstance(run, ForeignRun)
    ]


def _contents(history):
    """The scalars of a run of another program, and of how many layers it has histograms."""
    layers = len(history.get("layers", ()))
    of_layers = [
        f"{group} of {layers} layer{'s' if layers > 1 else ''}"
        for group in (GRADIENTS, WEIGHTS)
        if group in history
    ]
    scalars = [name for name in history if history[name].ndim == 1 and name not in _AXES]
    return [*scalars, *of_layers] or ["nothing"]


def comparison_parts(comparisons: Mapping[str, Comparison], good: str | None) -> list[Table | str]:
    """A table of the differences from a good run, and lines on what could not be compared.

    Args:
        comparisons: comparisons with the good run by the run's name.
        good: the good run; None without one.
    """
    step, text = Column("From step", justify="right"), Column("What differs", min_width=READABLE)
    table = Table("Run", step, "Where", text, title=f"Different from {good}")
    lines = []
    for name, comparison in comparisons.items():
        for number, difference in enumerate(comparison.differences[:SHOWN_DIFFERENCES]):
            run = "" if number else name
            table.add_row(run, str(difference.step), difference.layer, difference.words)
        table.add_section()
        more = len(comparison.differences) - SHOWN_DIFFERENCES
        if more > 0:
            lines.append(f"{name}: {more} more differences (--json has them all)")
        lines += [f"{name}: {line}" for line in comparison_lines(comparison)]
    return [*([table] if table.rows else []), *lines]


def comparison_lines(comparison: Comparison) -> list[str]:
    """What a comparison has not found, or not compared."""
    if not comparison.records:
        return ["no record at a step that the good run has, too; nothing was compared"]
    found = comparison.differences
    lines = [] if found else [f"no layer differs, at {comparison.records} records"]
    for layers, where in (
        (comparison.only_here, "here"),
        (comparison.only_good, "in the good run"),
    ):
        if layers:
            lines.append(f"not compared, only {where}: {listed(layers)}")
    return lines


def diagnosis_json(
    diagnoses: Mapping[str, Diagnosis], comparisons: Mapping[str, Comparison] = MappingProxyType({})
) -> str:
    """The diagnoses, and comparisons with a good run, as JSON: a list with one object per run."""
    return json.dumps(
        [
            {
                "run": name,
                "judged": diagnosis.judged,
                "healthy": diagnosis.healthy,
                "verdict": diagnosis.verdict,
                "finished": diagnosis.finished,
                "layer_marks": diagnosis.layer_marks,
                "advice": diagnosis.advice,
                "symptoms": [_plain(vars(evidence)) for evidence in diagnosis.evidence],
                "remarks": [_plain(vars(evidence)) for evidence in diagnosis.remarks],
                "not_recorded": diagnosis.lacks,
            }
            | ({"against": _comparison_facts(comparisons[name])} if name in comparisons else {})
            for name, diagnosis in diagnoses.items()
        ],
        indent=2,
        allow_nan=False,
    )


def _comparison_facts(comparison):
    """A comparison in a form that JSON can hold."""
    facts = vars(comparison).items()
    plain = [
        _plain(vars(difference) | {"words": difference.words})
        for difference in comparison.differences
    ]
    return {key: plain if key == "differences" else value for key, value in facts}


def _plain(facts):
    """The facts with None for numbers that are not finite, which JSON does not have."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in facts.items()
    }
