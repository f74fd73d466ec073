"""Diagnoses as one HTML page, which needs no other file, no script and no network."""

import base64
from collections.abc import Mapping
from html import escape
from string import Template

from mnist_vg.diagnosis.diagnosis import Diagnosis
from mnist_vg.figures.drawings import profile_picture
from mnist_vg.report import (
    comparison_lines,
    foreign_lines,
    mark_lines,
    not_recorded_lines,
    one_of,
    remark_lines,
)
from mnist_vg.runs.comparison import Comparison
from mnist_vg.runs.run import Run

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>mnist-vg diagnose</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem; }
section { border-top: 1px solid #ccc; margin-top: 2rem; }
h2 { margin: 1rem 0 0.25rem; overflow-wrap: anywhere; }
.verdict { display: inline-block; border-radius: 0.25rem; color: #fff; padding: 0.1rem 0.6rem; }
.healthy { background: #00724f; } .sick { background: #b3261e; } .unknown { background: #7a5800; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { border-bottom: 1px solid #ddd; padding: 0.4rem 0.6rem; text-align: left;
         vertical-align: top; }
caption { text-align: left; font-weight: 600; }
.note { color: #555; font-size: 0.9rem; }
img { display: block; max-width: 100%; }
</style>
</head>
<body>
<h1>$title</h1>
$sections
</body>
</html>
""")


_HEADINGS = ("Symptom", "Where", "From step", "Evidence", "Why it matters", "Try")


def page(
    diagnoses: Mapping[str, Diagnosis],
    runs: Mapping[str, Run],
    comparisons: Mapping[str, Comparison],
    good: str | None,
) -> str:
    """The page: for each run the verdict, symptoms with evidence and advice, and the gradients.

    Args:
        diagnoses: diagnoses by the run's name.
        runs: the same runs.
        comparisons: comparisons with a good run by the run's name.
        good: the good run; None without one.
    """
    sections = [
        _section(name, diagnosis, runs[name], comparisons.get(name), good)
        for name, diagnosis in diagnoses.items()
    ]
    counts = [
        f"{count} {word}"
        for word, kind in (("sick", "sick"), ("not judged", "unknown"), ("healthy", "healthy"))
        if (count := sum(_kind(diagnosis) == kind for diagnosis in diagnoses.values()))
    ]
    return _PAGE.substitute(title=", ".join(counts), sections="\n".join(sections))


def _kind(diagnosis):
    return "healthy" if diagnosis.healthy else "sick" if diagnosis.judged else "unknown"


def _section(name, diagnosis, run, comparison, good):
    symptoms = [
        (e.symptom, e.layer or "", e.step, e.words, e.why, one_of(e.advice))
        for e in diagnosis.evidence
    ]
    made = mark_lines, remark_lines, not_recorded_lines
    lines = [*(line for of in made for line in of({name: diagnosis})), *foreign_lines({name: run})]
    notes = [line.removeprefix(f"{name}: ") for line in lines]
    if diagnosis.advice:
        notes.insert(0, f"Try: {one_of(diagnosis.advice)}")
    differences = []
    if comparison:
        differences = [(d.step, d.layer, d.words) for d in comparison.differences]
        notes += [f"Against {good}: {line}" for line in comparison_lines(comparison)]
    parts = [
        f"<h2>{escape(name)}</h2>",
        f'<p class="verdict {_kind(diagnosis)}">{escape(diagnosis.verdict)}</p>',
        _table("Symptoms", _HEADINGS, symptoms),
        _table(f"Different from {good}", ("From step", "Where", "What differs"), differences),
        *(f'<p class="note">{escape(note)}</p>' for note in notes),
        *(_picture(name, png) for png in profile_picture(run).values()),
    ]
    return f"<section>\n{chr(10).join(filter(None, parts))}\n</section>"


def _table(caption, headings, rows):
    """A table; nothing without rows."""
    if not rows:
        return ""
    lines = [f"<table><caption>{escape(caption)}</caption>", _row("th", headings)]
    return "\n".join([*lines, *(_row("td", row) for row in rows), "</table>"])


def _row(cell, values):
    return f"<tr>{''.join(f'<{cell}>{escape(str(value))}</{cell}>' for value in values)}</tr>"


def _picture(name, png):
    data = base64.b64encode(png).decode()
    alt = f"Mean absolute gradient of each layer of {name}, a line for each record"
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}">'
