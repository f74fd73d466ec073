"""`mnist-vg sweep`."""

import dataclasses
import functools

import click

from mnist_vg.cli.options import data_dir_option, interruptible, logdir_option, setting_options
from mnist_vg.errors import UsageError
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.scenarios.suites import find_scenario
from mnist_vg.sweeps import table
from mnist_vg.sweeps.table import RECORD_CHOICES


@click.command()
@click.argument("name")
@click.option(
    "--vary",
    multiple=True,
    metavar="FIELD=VALUES",
    help="A setting and its values, as a list (activation=tanh,relu) or as a range that includes "
    "both ends (num_layers=2:50:4); may be given several times",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of seeds for each combination of values",
)
@click.option("--scenario", help="Scenario to start from [default: the default settings]")
@functools.partial(setting_options, without=("name", "measures"))
@click.option(
    "--record",
    type=click.Choice(RECORD_CHOICES),
    default="none",
    show_default=True,
    help="Which networks get a run folder for TensorBoard",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    show_default="one per core",
    help="Processes on this machine",
)
@click.option("--cluster", help="Ray cluster to train on: local, auto or ray://HOST:PORT")
@click.option(
    "--report", "ranking", is_flag=True, help="Also rank the settings by how much they matter"
)
@logdir_option
@data_dir_option
@click.option("--overwrite", is_flag=True, help="Replace an existing sweep of that name")
def sweep(name, vary, seeds, scenario, cluster, ranking, logdir, **options):
    """Train a grid of networks, with all records in one table.

    Every combination of the varied values is trained with every seed. Networks of the same
    structure train together, as a group. The table, LOGDIR/NAME/records, has Parquet files, and
    `mnist-vg plot NAME` draws it. A sweep that was stopped continues with the groups that are
    left.
    """
    from mnist_vg import report
    from mnist_vg.sweeps.sweep import Sweep, parse_axes
    from mnist_vg.sweeps.sweeper import Sweeper

    how = {key: options.pop(key) for key in ("data_dir", "workers", "record", "overwrite")}
    base = find_scenario(scenario) if scenario else Scenario()
    given = {key: value for key, value in options.items() if value is not None}
    grid = Sweep(name, dataclasses.replace(base, **given), parse_axes(vary), seeds)
    console = report.make_console()
    with interruptible(), report.told(console):
        sweeper = Sweeper(grid, logdir, **how)
        for line in report.plan_lines(sweeper.plan, grid.axes):
            console.print(line, soft_wrap=True)
        with report.SweepDisplay(console, sweeper.plan) as display:
            folder = sweeper.run(cluster, display.watch, display.advanced)
    records, axes = table.read_sweep(folder)
    print_sweep(console, records, axes)
    if ranking and axes:
        print_rankings(console, records, axes)
    if axes:
        click.echo(report.command("plot", "--logdir", folder))
    click.echo(report.board_line(folder))


def print_sweep(console, records, axes):
    """Print what became of a sweep's networks."""
    from mnist_vg import report

    console.print(report.verdict_table(records))
    if axes:
        console.print(report.settings_table(records, axes))


def print_rankings(console, records, axes):
    """Print how much each varied field matters, for the accuracy and for the gradient."""
    from mnist_vg.report import ranking_table
    from mnist_vg.sweeps.ranking import rank

    for column in (table.TEST_ACCURACY, table.GRADIENT_RATIO):
        try:
            console.print(ranking_table(rank(records, axes, column)))
        except UsageError as error:  # The sweep itself has succeeded.
            console.print(str(error), soft_wrap=True)
