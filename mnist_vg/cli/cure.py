"""`mnist-vg cure`."""

from pathlib import Path

import click

from mnist_vg.cli.options import data_dir_option, interruptible, logdir_option
from mnist_vg.runs.run import CURE_FOLDER


@click.command()
@click.argument("scenario")
@click.option(
    "--seeds",
    type=click.IntRange(min=3),
    default=3,
    show_default=True,
    help="Number of seeds for each change",
)
@logdir_option
@data_dir_option
@click.option("--overwrite", is_flag=True, help="Replace the runs of an earlier cure")
def cure(scenario, seeds, logdir, data_dir, overwrite):
    """Find changed settings with which SCENARIO can learn.

    SCENARIO is a run in the log folder, or a name from `mnist-vg list`. It is diagnosed, and
    trained again with each remedy that fits its symptoms, into LOGDIR/cure/SCENARIO. All runs
    have the same seeds.
    """
    from mnist_vg import report
    from mnist_vg.cure import cure, find_sick

    sick = find_sick(scenario, logdir)
    console = report.make_console()
    with interruptible(), report.told(console), report.Display(console, brief=True) as display:
        shown = {"watch": display.watch, "expect": display.expect}
        how = {"seeds": seeds, "data_dir": data_dir, "overwrite": overwrite}
        result = cure(sick, logdir, **how, **shown)
    console.print(report.cure_table(result))
    for line in report.cure_lines(result, data_dir):
        console.print(line, soft_wrap=True)
    again = ["cure", scenario, "--seeds", seeds, "--logdir", logdir]
    again += ["--data-dir", data_dir] if data_dir else []
    click.echo(f"Again: {report.command(*again)}")
    folder = Path(CURE_FOLDER, sick.name)
    click.echo(f"Pictures: {report.command('plot', '--logdir', logdir, folder)}")
    click.echo(report.board_line(logdir))
