"""`mnist-vg plot`."""

import click

from mnist_vg.cli.options import LogPath
from mnist_vg.cli.sweep import print_rankings
from mnist_vg.errors import UsageError
from mnist_vg.runs.folder import SWEEP_FILE
from mnist_vg.sweeps import table


@click.command()
@click.argument("logdir", type=LogPath(), default="logdir")
@click.option("--out", type=LogPath(), help="Folder for the figures [default: LOGDIR/figures]")
@click.option("--x", help="For a sweep: the varied field of the columns [default: the first]")
@click.option("--y", help="For a sweep: the varied field of the rows [default: the next]")
@click.option(
    "--by",
    help="For a sweep: the varied field that has a panel for each value [default: the next with "
    "few values]",
)
def plot(logdir, out, **chosen):
    """Draw the runs or the sweep in LOGDIR, as PNG and SVG files.

    Each figure shows the runs that have recorded what it needs. For a sweep, finished or not,
    there are heatmaps over the varied fields, and a ranking of how much each field matters.
    """
    from mnist_vg import figures
    from mnist_vg.runs.run import find_runs

    if (logdir / SWEEP_FILE).exists():
        drawn = _draw_sweep(logdir, chosen)
    elif any(chosen.values()):
        raise UsageError(
            f"x, y, by: {logdir} is not a sweep; give the folder of a sweep, or leave these out"
        )
    else:
        drawn = figures.draw_all(find_runs(logdir))
    if not drawn:
        raise UsageError(f"logdir: no run in {logdir} has recorded anything to draw yet")
    for path in figures.save(drawn, out or logdir / "figures"):
        click.echo(path)


def _draw_sweep(folder, chosen):
    from mnist_vg import report
    from mnist_vg.sweeps import heatmaps

    records, axes = table.read_sweep(folder)
    drawn = heatmaps.draw(records, axes, **chosen)
    print_rankings(report.make_console(), records, axes)
    return drawn
