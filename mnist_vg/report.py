"""What the commands print: progress and tables."""

import itertools
import json
import math
import shlex
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mnist_vg.diagnosis.diagnosis import Diagnosis
from mnist_vg.diagnosis.symptom import Evidence
from mnist_vg.runs.comparison import Comparison
from mnist_vg.runs.foreign import ForeignRun
from mnist_vg.runs.marks import listed, marks_line
from mnist_vg.runs.results import result_row, spread_of
from mnist_vg.runs.run import Run
from mnist_vg.runs.tags import GRADIENTS, WEIGHTS
from mnist_vg.scenarios.scenario import Scenario

if TYPE_CHECKING:
    from mnist_vg.checks.findings import Checks
    from mnist_vg.cure import Cure

PLAIN_WIDTH = 160
"""Width of a table in a file or a pipe, in characters; a terminal has its own width."""


def make_console() -> Console:
    """A console for standard output, `PLAIN_WIDTH` wide unless that is a terminal."""
    options = {"highlight": False, "markup": False}  # Brackets in a run's name are not markup.
    console = Console(**options)
    return console if console.is_terminal else Console(width=PLAIN_WIDTH, **options)


class Display:
    """Shows progress: a bar for each scenario on a terminal, and a line for each record elsewhere.

    Use it as a context manager, and pass `watch` to `driver.train`.

    Args:
        console: the console to print to.
        brief: for many scenarios: show only the newest bar, and print no lines for records and
            symptoms.

    Attributes:
        watched: the names of the scenarios that were trained. A finished run is not trained.
    """

    def __init__(self, console: Console, brief: bool = False):
        self._console = console
        self._brief = brief
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TextColumn("accuracy {task.fields[accuracy]:6.2%}"),
            TextColumn("{task.fields[speed]:,.0f} steps/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks = {}
        self.watched: set[str] = set()

    def __enter__(self) -> "Display":
        self._bars.start()
        return self

    def __exit__(self, *exception) -> None:
        self._bars.stop()

    def watch(self, scenario: Scenario, block, symptoms: Sequence[Evidence]) -> None:
        """Show one block of steps, and the symptoms that have become certain with it."""
        if scenario.name not in self.watched:
            self.watched.add(scenario.name)
            self._start(scenario, block.step)
        if self._console.is_terminal:
            self._advance(scenario, block)
        elif block.tables is not None and not self._brief:
            self._console.print(
                f"Iteration {block.step} of {scenario.iterations}, loss: {block.loss:.3f}, "
                f"train accuracy: {block.accuracy:.2%}",
                soft_wrap=True,
            )
        if not self._brief:
            self._announce(scenario, symptoms)

    def _announce(self, scenario, symptoms):
        for evidence in symptoms:
            line = f"{scenario.name} at step {evidence.known}: {evidence.line}"
            self._console.print(Text(line, style="red"), soft_wrap=True)

    def _start(self, scenario, step):
        if not self._console.is_terminal:
            before = "" if self._brief else "\n"
            self._console.print(f"{before}Training {scenario.name}", soft_wrap=True)
        elif self._brief:
            for task, *_ in self._tasks.values():
                self._bars.remove_task(task)
            self._tasks.clear()
        task = self._bars.add_task(
            scenario.name, total=scenario.iterations, loss=math.nan, accuracy=math.nan, speed=0
        )
        self._tasks[scenario.name] = (task, step, time.monotonic())

    def _advance(self, scenario, block):
        task, first_step, start = self._tasks[scenario.name]
        speed = (block.step - first_step) / max(time.monotonic() - start, 1e-9)
        self._bars.update(
            task, completed=block.step + 1, loss=block.loss, accuracy=block.accuracy, speed=speed
        )


def comparison_table(runs: Iterable[Run]) -> Table:
    """The results of finished runs, with one row per scenario: medians and ranges over its seeds.

    Args:
        runs: one or more runs; the seeds of a scenario follow each other.
    """
    table = Table(
        title="Which network could learn?",
        title_justify="left",
        caption="Gradient ratio: layer 1's mean absolute gradient over the last layer's, at the "
        "first record -> at the last. Loss and accuracy: of the final weights, on all examples. "
        "Seconds: training and logging, without start-up and compilation.",
        caption_justify="left",
    )
    scenarios = {name: list(seeds) for name, seeds in itertools.groupby(runs, lambda r: r.recipe)}
    rows = {name: result_row([run.results for run in seeds]) for name, seeds in scenarios.items()}
    table.add_column("Scenario", no_wrap=True)
    for heading in next(iter(rows.values())):
        table.add_column(heading, justify="right")
    table.add_column("Seconds", justify="right")
    table.add_column("Diagnosis", max_width=40)
    for name, row in rows.items():
        style = "red" if row["Could learn"].startswith(("no", "0 ")) else None
        seconds = spread_of([run.seconds for run in scenarios[name]], ".1f")
        table.add_row(name, *row.values(), seconds, _verdicts(scenarios[name]), style=style)
    return table


def _verdicts(runs):
    """The verdict of a run; of several runs, each verdict with the number of runs."""
    verdicts = Counter(run.verdict for run in runs)
    if verdicts.total() == 1:
        return next(iter(verdicts))
    return "\n".join(f"{verdict} ({n} of {len(runs)})" for verdict, n in verdicts.most_common())


def diagnosis_table(diagnoses: Mapping[str, Diagnosis]) -> Table:
    """The symptoms of each run, with evidence and advice.

    Args:
        diagnoses: diagnoses by the run's name.
    """
    table = Table()
    for heading in ("Run", "Diagnosis", "Where", "From step", "Evidence", "Try"):
        table.add_column(heading, justify="right" if heading == "From step" else "left")
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


def checks_table(checks: "Checks") -> Table:
    """What was found before training, causes first."""
    table = Table()
    for heading in ("Check", "Where", "Finding", "Why it matters", "Write instead"):
        table.add_column(heading)
    for found in checks.findings:
        table.add_row(found.check, found.layer or "", found.words, found.why, found.instead)
    if not checks.findings:
        table.add_row("nothing found")
    return table


def checks_lines(checks: "Checks") -> list[str]:
    """What was looked at and what was skipped, a line each."""
    looked = [f"looked at: {line}" for line in checks.looked]
    return looked + [f"skipped: {line}" for line in checks.skipped]


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


_AXES = ("step", "layers", "activation_layers")

SHOWN_DIFFERENCES = 12
"""So many differences of a run are shown, and the others are counted."""


def comparison_parts(comparisons: Mapping[str, Comparison], good: str | None) -> list[Table | str]:
    """A table of the differences from a good run, and lines on what could not be compared.

    Args:
        comparisons: comparisons with the good run by the run's name.
        good: the good run; None without one.
    """
    table = Table(title=f"Different from {good}", title_justify="left")
    for heading in ("Run", "From step", "Where", "What differs"):
        table.add_column(heading, justify="right" if heading == "From step" else "left")
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
    return [*([table] if table.row_count else []), *lines]


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


def cure_table(cure: "Cure") -> Table:
    """A scenario without and with each change: medians and ranges over the seeds."""
    table = Table(title=f"What helps {cure.before.scenario.name}?", title_justify="left")
    table.add_column("Changed settings", no_wrap=True)
    headings = ("Could learn", "Test accuracy", "Gradient ratio")
    for heading in (*headings, "Seconds"):
        table.add_column(heading, justify="right")
    table.add_column("Diagnosis", max_width=40)
    table.add_column("Helped")
    for trial in [cure.before, *cure.trials]:
        row = result_row([run.results for run in trial.runs])
        seconds = spread_of([run.seconds for run in trial.runs], ".1f")
        helped = "" if trial is cure.before else "yes" if trial.helped(cure.before) else "no"
        table.add_row(
            "\n".join(trial.words) or "as it is",
            *(row[heading] for heading in headings),
            seconds,
            _verdicts(trial.runs),
            helped,
            style="bold green" if trial is cure.recommended else None,
        )
    return table


def cure_lines(cure: "Cure") -> list[str]:
    """The recommendation of a cure, and the command that trains the recommended scenario."""
    name, before, found = cure.before.scenario.name, cure.before, cure.recommended
    if before.healthy:
        return [f"{name} is healthy with every seed; there is nothing to cure."]
    if found is None:
        return [f"None of {len(cure.trials)} changes helped {name}."]
    after, earlier = (spread_of(trial.accuracies, ".1%") for trial in (found, before))
    settings = Scenario(name=found.scenario.name).settings()
    command = ["mnist-vg", "train"]
    for key, value in found.scenario.settings().items():
        if value != settings[key] or key == "name":
            command += [f"--{key.replace('_', '-')}", *([] if value is True else [str(value)])]
    command += ["--logdir", str(found.runs[0].folder.parent)]
    return [
        f"Recommended: {', '.join(found.words)}. Test accuracy {after}, and {earlier} before.",
        f"Train it: {shlex.join(command)}",
    ]


def scenario_table(suites: dict[str, tuple[Scenario, ...]]) -> Table:
    """Every named scenario, with what it is expected to show and its source."""
    table = Table()
    table.add_column("Suite")
    table.add_column("Scenario", no_wrap=True)
    table.add_column("Expected", max_width=70)
    table.add_column("Source", max_width=50)
    for suite, scenarios in suites.items():
        for scenario in scenarios:
            table.add_row(suite, scenario.name, scenario.about, scenario.source)
        table.add_section()
    return table


def tensorboard_line(logdir: str | Path) -> str:
    """The command that opens TensorBoard on a log folder."""
    return f"tensorboard --logdir {shlex.quote(str(logdir))}"
