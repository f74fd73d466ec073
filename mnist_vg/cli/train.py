"""`mnist-vg train`."""

import contextlib
import dataclasses

import click

from mnist_vg.cli.options import (
    checkpoint_option,
    data_dir_option,
    interruptible,
    logdir_option,
    setting_options,
)
from mnist_vg.driver import train_all
from mnist_vg.errors import UsageError
from mnist_vg.scenarios.scenario import QUICK_END, Scenario, setting_fields
from mnist_vg.scenarios.suites import SUITES, find_scenarios
from mnist_vg.training.tf_config import STRATEGIES, leads

QUICK = {"iterations": 300, "log_every": 50}
"""The largest settings of a run with `--quick`, which ends within seconds."""

DETAILED_RUNS = 10
"""With more runs than this, `train` shows only the newest progress bar, and no line per record."""


@click.command()
@click.argument("scenario", nargs=-1)
@setting_options
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of seeds, each of which is a run",
)
@click.option("--quick", is_flag=True, help="Train for a few seconds only, into NAME-quick")
@logdir_option
@data_dir_option
@click.option("--overwrite", is_flag=True, help="Replace existing runs")
@checkpoint_option
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    help="Share each batch among the devices of this machine (mirrored), or of all workers in "
    "TF_CONFIG (multiworker)",
)
def train(scenario, seeds, quick, logdir, **options):
    """Train SCENARIOs, each into its own run folder, and compare them.

    A SCENARIO is a name from `mnist-vg list`, of a scenario or of a suite. Without a SCENARIO,
    the tutorial's three networks are trained: sigmoid, relu and leaky_relu. With --activation or
    --name, and without a SCENARIO, a network of your own is trained. Options change the settings
    of every SCENARIO. A run that was stopped continues. A finished run is not trained again.
    """
    from mnist_vg import report

    given = {field.name: options.pop(field.name) for field in setting_fields()}
    settings = {name: value for name, value in given.items() if value is not None}
    scenarios = _choose(scenario, settings, quick)
    if seeds > 1:
        scenarios = [s.with_seed(s.seed + n) for s in scenarios for n in range(seeds)]
    console = report.make_console()
    brief = len(scenarios) > DETAILED_RUNS
    told = report.told(console) if leads(options["strategy"]) else contextlib.nullcontext()
    with interruptible(), told, report.Display(console, brief=brief) as display:
        display.expect(scenarios)
        done = list(train_all(scenarios, logdir, watch=display.watch, **options))
    if not leads(options["strategy"]):
        return
    found = [run.name for run in done if run.name not in display.watched]
    for name in found if len(found) <= DETAILED_RUNS else [f"{len(found)} of {len(done)} runs"]:
        console.print(f"{name}: nothing left to train (--overwrite trains again)")
    console.print(report.comparison_table(done))
    click.echo(report.board_line(logdir))


def _choose(names, settings, quick):
    """The scenarios to train: named ones, a new one, or the tutorial's three."""
    if names:
        chosen = [scenario for name in names for scenario in find_scenarios(name)]
    elif "activation" in settings or "name" in settings:
        chosen = [Scenario(**settings)]
    else:
        chosen = SUITES["tutorial"]
    if settings.get("name") == "":  # In a scenario, it stands for the activation.
        raise UsageError("name: '' names no folder; give a name, or leave the option out")
    if "name" in settings and len(chosen) > 1:
        raise UsageError(
            f"name: {settings['name']!r} cannot name {len(chosen)} scenarios; give one SCENARIO"
        )
    return [_changed(scenario, settings, quick) for scenario in chosen]


def _changed(scenario, settings, quick):
    changes = dict(settings)
    if quick:
        shorter = {key: min(most, getattr(scenario, key)) for key, most in QUICK.items()}
        name = f"{changes.pop('name', scenario.name)}{QUICK_END}"
        changes = {"name": name, **shorter, **changes}
    # A changed scenario is no longer the one that these describe.
    return dataclasses.replace(
        scenario, **changes, **({"about": "", "source": ""} if changes else {})
    )
