"""What is said of the public reports of `_sick_runs`: whether its first words are the cause."""

import json
import re
import textwrap
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from _rivals import RIVALS, Opinion, opinions

from mnist_vg.diagnosis import diagnose
from mnist_vg.runs.run import find_runs

CAUSE, SYMPTOM, WRONG, SILENT, HEALTHY = "cause", "symptom", "wrong", "silent", "called healthy"
OUTCOMES = (CAUSE, SYMPTOM, WRONG, SILENT, HEALTHY)
"""What the first words about a run with a fault may be."""


@dataclass(frozen=True)
class Said:
    """What is said of one training, by whom.

    Attributes:
        reached: by the training itself: its score.
        check: by `mnist_vg.check` before it, first; empty if nothing.
        fit: by `GradientLogger` when `fit` starts, first; empty if nothing.
        diagnose: by `mnist-vg diagnose` afterwards, first.
        code: the exit code of `mnist-vg diagnose`.
        rivals: what each rival says.
    """

    reached: str
    check: str
    fit: str
    diagnose: str
    code: int
    rivals: dict[str, Opinion]

    @property
    def first(self) -> str:
        """What a person reads first; empty if nothing is said but a verdict."""
        return self.check or self.fit or self.diagnose


def said_of(folder: Path, code_of) -> Said:
    """What is said of the training in a folder.

    Args:
        folder: of the case.
        code_of: from a run to the exit code of `mnist-vg diagnose`.
    """
    from _sick_runs import CHECK_FILE, REFUSAL_FILE

    checked, refused = folder / CHECK_FILE, folder / REFUSAL_FILE
    runs = find_runs(folder) if any(folder.glob("*/run.json")) else []
    runs = sorted(runs, key=lambda run: code_of(run) != 1)  # A sick one first.
    before = json.loads(checked.read_text())["findings"] if checked.exists() else []
    during = [finding for run in runs for finding in run.findings]
    found = [evidence for run in runs for evidence in diagnose(run).evidence]
    views = [opinions(run) for run in runs] or [dict.fromkeys(RIVALS, Opinion(False, ""))]
    return Said(
        json.loads((folder / "case.json").read_text())["reached"],
        _words(before),
        refused.read_text() if refused.exists() else _words(during),
        found[0].line if found else "",
        code_of(runs[0]) if runs else 2,
        {name: max((view[name] for view in views), key=lambda view: view.sick) for name in RIVALS},
    )


def _words(findings):
    keys = "check", "layer", "words"
    return " ".join(filter(None, (findings[0][key] for key in keys))) if findings else ""


def outcome(report, said: Said, words: str) -> str:
    """What words about a run with a fault come to; without words, what the verdict does."""
    if not words:
        return HEALTHY if said.code == 0 else SILENT
    if re.search(report.named, words, re.IGNORECASE):
        return CAUSE
    return SYMPTOM if re.search(report.shows, words, re.IGNORECASE) else WRONG


def rival_outcome(report, opinion: Opinion) -> str:
    """What a rival's first finding about a run with a fault comes to."""
    if not opinion.words:
        return HEALTHY
    if re.search(report.named, opinion.words, re.IGNORECASE):
        return CAUSE
    return SYMPTOM if opinion.sick else SILENT


def recheck(folder: Path) -> None:
    """Check every report in a folder anew, by the checks as they are now; train nothing."""
    import _sick_runs_kept  # noqa: F401 - fills in REPORTS
    import keras
    from _runs_log import Log
    from _sick_runs import CHECK_FILE, REPORTS

    for state in ("sick", "twin"):
        for name, report in REPORTS.items():
            if (folder / state / name / CHECK_FILE).exists():
                keras.backend.clear_session()
                keras.utils.set_random_seed(7)
                with mock.patch.object(keras.Model, "fit"):
                    report.train(Log(folder / state / name), state == "sick")


def print_reports(folder: Path, code_of) -> None:
    """Print a table of the reports that a folder holds, and totals of each half."""
    import _sick_runs_kept  # noqa: F401 - fills in REPORTS
    from _sick_runs import REPORTS

    both = {
        report: [said_of(folder / state / name, code_of) for state in ("sick", "twin")]
        for name, report in REPORTS.items()
        if all((folder / state / name / "case.json").exists() for state in ("sick", "twin"))
    }
    if not both:
        return
    print(
        "\n| Report | Half | Sick, twin | First words | They are | Check | Fit | Diagnose | Twin |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for report, (sick, twin) in both.items():
        scores = [re.search(r"score (\S+),", said.reached)[1] for said in (sick, twin)]
        words = textwrap.shorten(sick.first.replace("|", "/"), 90, placeholder="…")
        said = (sick.first, sick.check, sick.fit, sick.diagnose)
        cells = [outcome(report, sick, words_of) if words_of else "" for words_of in said]
        cells[0] = outcome(report, sick, sick.first)
        cells[3] = outcome(report, sick, sick.diagnose)
        cells.append(twin.first and textwrap.shorten(twin.first, 60, placeholder="…"))
        print(f"| {report.name} | {report.half} | {', '.join(scores)} | {words} ", end="")
        print(f"| {' | '.join(cells)} |")
    for half in ("seen", "kept"):
        print_half(half, {report: said for report, said in both.items() if report.half == half})


def print_half(half: str, both: dict) -> None:
    """Print how often each says the cause first, and calls a twin sick."""
    if not both:
        return
    print(f"\n{half}: {len(both)} reports")
    print(f"| Said by | {' | '.join(OUTCOMES)} | twins with an alarm |")
    print("|---" * (len(OUTCOMES) + 2) + "|")
    parts = {
        "all of it, first": lambda said: said.first,
        "`check`": lambda said: said.check,
        "`fit`'s own check": lambda said: said.fit,
        "`diagnose`": lambda said: said.diagnose,
    }
    for name, part in parts.items():
        counts = Counter(outcome(report, sick, part(sick)) for report, (sick, _) in both.items())
        if name not in ("all of it, first", "`diagnose`"):  # A check gives no verdict.
            counts[SILENT] += counts.pop(HEALTHY, 0)
        alarms = sum(bool(part(twin)) for _, twin in both.values())
        _print_counts(name, counts, alarms)
    healthy = sum(sick.code == 0 for sick, _ in both.values())
    alarms = sum(twin.code == 1 for _, twin in both.values())
    print(f"Exit code of `diagnose`: {healthy} sick runs called healthy, {alarms} twins sick.")
    for rival in RIVALS:
        counts = Counter(rival_outcome(r, sick.rivals[rival]) for r, (sick, _) in both.items())
        _print_counts(rival, counts, sum(twin.rivals[rival].sick for _, twin in both.values()))


def _print_counts(name, counts, alarms):
    print(f"| {name} | {' | '.join(str(counts[kind]) for kind in OUTCOMES)} | {alarms} |")
