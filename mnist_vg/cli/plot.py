"""`mnist-vg plot`."""

import click

from mnist_vg.cli.options import LogPath, folder_of, optional_logdir_option
from mnist_vg.cli.sweep import print_rankings
from mnist_vg.errors import UsageError
from mnist_vg.runs.run import SWEEP_FILE, is_cure
from mnist_vg.sweeps import table


@click.command()
@click.argument("folder", required=False)
@optional_logdir_option
@click.option(
    "--out",
    type=LogPath(),
    help="Folder for the figures [default: figures, in that folder]",
)
@click.option("--x", help="For a sweep: the varied field of the columns [default: the first]")
@click.option("--y", help="For a sweep: the varied field of the rows [default: the next]")
@click.option(
    "--by",
    help="For a sweep: the varied field that has a panel for each value [default: the next with "
    "few values]",
)
def plot(folder, logdir, out, **chosen):
    """Draw the runs in the log folder, as PNG and SVG files.

    With a FOLDER in the log folder, which may be a run, a sweep or a cure, only that is drawn.
    Each figure shows the runs that have recorded what it needs. For a sweep, finished or not,
    there are heatmaps over the varied fields, and a ranking of how much each field matters.
    """
    from mnist_vg import figures, report
    from mnist_vg.runs.run import find_runs

    logdir = folder_of(logdir, folder)
    apart = []
    if (logdir / SWEEP_FILE).exists():
        drawn = _draw_sweep(logdir, chosen)
    elif any(chosen.values()):
        raise UsageError(
            f"x, y, by: {logdir} is not a sweep; give the folder of a sweep, or leave these out"
        )
    else:
        patient = logdir.resolve().name if is_cure(logdir) else None
        drawn = figures.draw_all(find_runs(logdir), compared_with=patient)
        apart = report.apart_lines("plot", logdir)
    if not drawn:
        raise UsageError(f"logdir: no run in {logdir} has recorded anything to draw yet")
    for path in figures.save(drawn, out or logdir / "figures"):
        click.echo(path)
    for line in apart:
        click.echo(line, err=True)


def _draw_sweep(folder, chosen):
    from mnist_vg import report
    from mnist_vg.sweeps import heatmaps

    records, axes = table.read_sweep(folder)
    drawn = heatmaps.draw(records, axes, **chosen)
    print_rankings(report.make_console(), records, axes)
    return drawn
