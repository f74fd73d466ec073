"""Does `mnist-vg cure` cure? On every sick scenario of the corpus, beside a healthy twin.

python benchmarks/cure.py LOGDIR [tune|test]
"""

import dataclasses

import click
from corpus import healthy_twin, load

from mnist_vg.cure import NOTICEABLE, Trial, cure
from mnist_vg.driver import train_all
from mnist_vg.report import make_console, spread_of

SEEDS = 3
TARGET = 0.9
"""Share of the sick that can learn at all, whose cure has to be as good as their twin."""


def main(logdir, half=None):
    """Cure each one, and print how far it got."""
    console = make_console()
    cured, curable = 0, 0
    for entry in load():
        if "healthy" in entry["labels"] or half not in (None, entry["half"]):
            continue
        scenario = dataclasses.replace(entry["scenario"], measures="default")
        twin = healthy_twin(scenario)
        twins = train_all([twin.with_seed(seed) for seed in range(SEEDS)], logdir)
        healthy = Trial(twin, {}, list(twins))
        result = cure(scenario, logdir, seeds=SEEDS)
        found = result.recommended
        can_learn = healthy.healthy
        good = found is not None and found.accuracy >= healthy.accuracy - NOTICEABLE
        curable += can_learn
        cured += can_learn and good
        words = ", ".join(found.words) if found else f"none of {len(result.trials)} changes"
        after = spread_of(found.accuracies, ".1%") if found else ""
        console.print(
            f"{'cured' if good else 'NOT cured' if can_learn else 'no twin learns'}  "
            f"{scenario.name}: {spread_of(result.before.accuracies, '.1%')} -> {after} with "
            f"{words}; twin {spread_of(healthy.accuracies, '.1%')}",
            soft_wrap=True,
        )
    share = cured / curable
    met = "met" if share >= TARGET else "missed"
    console.print(
        f"{cured} of {curable} sick scenarios that can learn are brought to within two points of "
        f"their healthy twin: {share:.0%}, target {TARGET:.0%}: {met}",
        soft_wrap=True,
    )


if __name__ == "__main__":
    click.command()(
        click.argument("logdir")(
            click.argument("half", required=False, type=click.Choice(["tune", "test"]))(main)
        )
    )()
