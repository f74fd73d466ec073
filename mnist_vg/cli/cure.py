"""`mnist-vg cure`."""

import shlex

import click

from mnist_vg.cli.options import data_dir_option, interruptible, logdir_option


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
def cure(scenario, seeds, logdir, data_dir):
    """Find changed settings with which SCENARIO can learn.

    SCENARIO is a run in the log folder, or a name from `mnist-vg list`. It is diagnosed, and
    trained again with each remedy that fits its symptoms. All runs have the same seeds.
    """
    from mnist_vg import report
    from mnist_vg.cure import cure, find_sick

    sick = find_sick(scenario, logdir)
    console = report.make_console()
    with interruptible(), report.told(console), report.Display(console, brief=True) as display:
        result = cure(sick, logdir, seeds=seeds, data_dir=data_dir, watch=display.watch)
    console.print(report.cure_table(result))
    for line in report.cure_lines(result):
        console.print(line, soft_wrap=True)
    command = ["mnist-vg", "cure", scenario, "--seeds", seeds, "--logdir", logdir]
    command += ["--data-dir", data_dir] if data_dir else []
    click.echo(f"Again: {shlex.join(map(str, command))}")
    click.echo(report.board_line(logdir))
