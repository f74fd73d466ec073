"""What runs came to: the comparison of `train`, and that of `cure`."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Column

from mnist_vg.report.commands import command
from mnist_vg.report.table import Table
from mnist_vg.runs.results import counted, result_row, spread_of
from mnist_vg.runs.run import Run
from mnist_vg.scenarios.scenario import Scenario

if TYPE_CHECKING:
    from mnist_vg.cure import Cure


def comparison_table(runs: Iterable[Run]) -> Table:
    """The results of finished runs, with one row per scenario: medians and ranges over its seeds.

    Args:
        runs: one or more runs; the seeds of a scenario follow each other.
    """
    scenarios = {name: list(seeds) for name, seeds in itertools.groupby(runs, lambda r: r.recipe)}
    rows = {name: result_row([run.results for run in seeds]) for name, seeds in scenarios.items()}
    table = Table(
        "Scenario",
        *(Column(heading, justify="right") for heading in next(iter(rows.values()))),
        Column("Seconds", justify="right"),
        Column("Diagnosis", max_width=40),
        title="Which network could learn?",
        caption="Gradient ratio: layer 1's mean absolute gradient over the last layer's, at the "
        "first record -> at the last. Loss and accuracy: of the final weights, on all examples. "
        "Seconds: training and logging, without start-up and compilation.",
        spare=("Seconds", "Train accuracy", "Loss", "Gradient ratio"),
    )
    for name, row in rows.items():
        style = "red" if row["Could learn"].startswith(("no", "0 ")) else None
        seconds = spread_of([run.seconds for run in scenarios[name]], ".1f")
        verdict = counted([run.verdict for run in scenarios[name]])
        table.add_row(name, *row.values(), seconds, verdict, style=style)
    return table


def cure_table(cure: "Cure") -> Table:
    """A scenario without and with each change: medians and ranges over the seeds."""
    headings = ("Could learn", "Test accuracy", "Gradient ratio")
    table = Table(
        "Changed settings",
        *(Column(heading, justify="right") for heading in (*headings, "Seconds")),
        Column("Diagnosis", max_width=40),
        "Helped",
        title=f"What helps {cure.before.scenario.name}?",
        spare=("Seconds", "Gradient ratio", "Could learn"),
    )
    for trial in [cure.before, *cure.trials]:
        row = result_row([run.results for run in trial.runs])
        seconds = spread_of([run.seconds for run in trial.runs], ".1f")
        helped = "" if trial is cure.before else "yes" if trial.helped(cure.before) else "no"
        table.add_row(
            "\n".join(trial.words) or "as it is",
            *(row[heading] for heading in headings),
            seconds,
            counted([run.verdict for run in trial.runs]),
            helped,
            style="bold green" if trial is cure.recommended else None,
        )
    return table


def cure_lines(cure: "Cure", data_dir: Path | None = None) -> list[str]:
    """The recommendation of a cure, and the command that trains the recommended scenario.

    Args:
        cure: the cure.
        data_dir: as it was given to the cure.
    """
    name, before, found = cure.before.scenario.name, cure.before, cure.recommended
    if before.healthy:
        return [f"{name} is healthy with every seed; there is nothing to cure."]
    if found is None:
        return [f"None of {len(cure.trials)} changes helped {name}."]
    after, earlier = (spread_of(trial.accuracies, ".1%") for trial in (found, before))
    settings = Scenario(name=found.scenario.name).settings()
    options = []
    for key, value in found.scenario.settings().items():
        if value != settings[key] or key == "name":
            options += [f"--{key.replace('_', '-')}", *([] if value is True else [value])]
    options += ["--logdir", cure.logdir, *(["--data-dir", data_dir] if data_dir else [])]
    return [
        f"Recommended: {', '.join(found.words)}. Test accuracy {after}, and {earlier} before.",
        f"Train it: {command('train', *options)}",
    ]
