"""Does `mnist-vg cure` cure? On the sick scenarios of the corpus, beside their healthy twins.

python benchmarks/cure.py LOGDIR [--half tune|test]
"""

import dataclasses
import functools
import multiprocessing
import tempfile
from pathlib import Path

import click
import corpus
from _common import opening

from mnist_vg import Scenario
from mnist_vg.cure import Trial, cure
from mnist_vg.driver import train_all
from mnist_vg.report import make_console
from mnist_vg.runs.results import spread_of

AS_GOOD = 0.02
"""Test accuracy by which a cure may stay below its twin."""
TARGET = 0.9
"""Share of the sick that can learn at all, whose cure has to be as good as their twin."""


def train_twin(scenario: Scenario, logdir: Path, seeds: int) -> Trial:
    """The scenario's healthy twin, under as many seeds as the trials of a cure."""
    twin = corpus.healthy_twin(scenario)
    seeded = [twin.with_seed(seed) for seed in range(seeds)]
    return Trial(twin, {}, list(train_all(seeded, logdir)))


def attempt_all(scenarios: list[Scenario], logdir: Path, seeds: int) -> list[tuple[str, str]]:
    """What became of scenarios that have one healthy twin."""
    twin = train_twin(scenarios[0], logdir, seeds)
    return [attempt(scenario, twin, logdir, seeds) for scenario in scenarios]


def attempt(scenario: Scenario, twin: Trial, logdir: Path, seeds: int) -> tuple[str, str]:
    """What became of one scenario, in a word and in a line."""
    result = cure(scenario, logdir, seeds=seeds)
    found = result.recommended
    outcome = "NOT cured"
    if not twin.healthy:
        outcome = "no twin learns"
    elif found and found.accuracy >= twin.accuracy - AS_GOOD:
        outcome = "cured"
    words = ", ".join(found.words) if found else f"none of {len(result.trials)} changes"
    before, after, healthy = (
        spread_of(trial.accuracies, ".1%") if trial else "nothing"
        for trial in (result.before, found, twin)
    )
    return outcome, f"{scenario.name}: {before} -> {after} with {words}; twin {healthy}"


def cure_all(entries: list[dict], logdir: Path, seeds: int) -> None:
    """Cure the sick among entries of the corpus, into LOGDIR, and print what became of each."""
    console = make_console()
    groups: dict[str, list[Scenario]] = {}
    for entry in entries:
        if "healthy" not in entry["labels"]:
            scenario = dataclasses.replace(entry["scenario"], measures="default")
            groups.setdefault(corpus.healthy_twin(scenario).name, []).append(scenario)
    outcomes = []
    # A process a group: some hundreds of XLA's programs are all that one has room for.
    processes = min(2, len(groups))
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=1) as pool:
        work = functools.partial(attempt_all, logdir=logdir, seeds=seeds)
        for group in pool.imap(work, groups.values(), chunksize=1):
            for outcome, line in group:
                outcomes.append(outcome)
                console.print(f"{outcome}  {line}", soft_wrap=True)
    cured, curable = outcomes.count("cured"), len(outcomes) - outcomes.count("no twin learns")
    met = "met" if cured >= TARGET * curable else "missed"
    console.print(
        f"{cured} of {curable} sick scenarios that can learn are brought to within two points of "
        f"their healthy twin, target {TARGET:.0%}: {met}",
        soft_wrap=True,
    )


def smoke() -> None:
    """Cure one scenario, under one seed."""
    with tempfile.TemporaryDirectory() as logdir:
        cure_all(corpus.smallest()[-1:], Path(logdir), seeds=1)


@click.command()
@opening(smoke)
@click.argument("logdir", type=click.Path(path_type=Path))
@click.option("--half", type=click.Choice(["test", "tune"]), help="Default: both.")
def main(logdir, half):
    """Cure each sick scenario of the corpus, into LOGDIR."""
    entries = [entry for entry in corpus.load() if half in (None, entry["half"])]
    cure_all(entries, logdir, seeds=3)


if __name__ == "__main__":
    main()
