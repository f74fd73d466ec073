"""`mnist-vg diagnose`."""

import itertools

import click

from mnist_vg.cli.options import LogPath, optional_logdir_option
from mnist_vg.errors import UsageError, nearest
from mnist_vg.runs.run import SWEEP_FILE


@click.command()
@click.argument("run", nargs=-1)
@optional_logdir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table")
@click.option(
    "--against",
    metavar="RUN",
    help="Also compare with a good run, a name in the log folder or a folder: from which step on "
    "which layers differ",
)
@click.option("--sarif", type=LogPath(), metavar="FILE", help="Also write SARIF, for CI")
@click.option(
    "--html",
    type=LogPath(),
    metavar="FILE",
    help="Also write one HTML page, with a picture of each run's gradients",
)
@click.pass_context
def diagnose(context, run, logdir, as_json, against, sarif, html):
    """Say what is wrong with RUNs in the log folder, where, and what to try.

    Without a RUN, all runs are diagnosed, the worst first. A RUN may also be a sweep or a cure.
    Only event files are read, so a run need not be finished, and may be from GradientLogger or
    Recorder. Without any of these, runs of Keras' TensorBoard callback, PyTorch Lightning or
    SummaryWriter are read as far as they go. The exit code is 1 if a run is sick, else 3 if one
    could not be judged (too little is recorded, or it broke off), else 0.
    """
    from mnist_vg import report
    from mnist_vg.diagnosis.diagnosis import diagnose_each
    from mnist_vg.runs.finding import find_named, log_folder

    logdir, names = log_folder(logdir, run)
    folder = logdir.joinpath(*names[:1])
    if len(names) < 2 and (folder / SWEEP_FILE).exists() and not (against or sarif or html):
        context.exit(_exit_code(_diagnose_sweep(folder, as_json)))
    runs = find_named(logdir, names)
    diagnoses = diagnose_each(runs)
    runs = {name: runs[name] for name in diagnoses}
    comparisons = _compare(runs, _good_run(logdir, against)) if against else {}
    if sarif:
        from mnist_vg.sarif import sarif as as_sarif

        _write("sarif", sarif, as_sarif(diagnoses, runs))
    if html:
        from mnist_vg.page import page

        _write("html", html, page(diagnoses, runs, comparisons, against))
    if as_json:
        click.echo(report.diagnosis_json(diagnoses, comparisons))
    else:
        console = report.make_console()
        console.print(report.diagnosis_table(diagnoses))
        for shown in report.comparison_parts(comparisons, against):
            console.print(shown, soft_wrap=isinstance(shown, str))
        lines = report.mark_lines, report.remark_lines, report.not_recorded_lines
        told = itertools.chain(*(made(diagnoses) for made in lines), report.foreign_lines(runs))
        told = itertools.chain(told, [] if names else report.apart_lines("diagnose", logdir))
        for line in told:
            console.print(line, soft_wrap=True)
    context.exit(_exit_code(diagnoses.values()))


def _diagnose_sweep(folder, as_json):
    """Print what became of a sweep's networks; their verdicts."""
    from mnist_vg import report
    from mnist_vg.cli.sweep import print_sweep
    from mnist_vg.diagnosis.diagnosis import Health
    from mnist_vg.sweeps.table import last_records, read_sweep

    records, axes = read_sweep(folder)
    if as_json:
        click.echo(report.sweep_json(records, axes))
    else:
        print_sweep(report.make_console(), records, axes)
    return list(map(Health.of, last_records(records)["verdict"]))


def _good_run(logdir, given):
    from mnist_vg.diagnosis.diagnosis import diagnose as diagnose_run
    from mnist_vg.runs.finding import find_named, load

    run = load(logdir / given) or load(given)
    if run is None:
        raise UsageError(
            f"against: {given!r} is no run; give its folder, or its name in {logdir}: "
            f"{nearest(given, find_named(logdir))}"
        )
    good = diagnose_run(run)
    if not good.healthy:
        click.echo(f"against: {given} is no healthy run: {good.verdict}", err=True)
    return run


def _compare(runs, good):
    """The comparison of each run with a good one, which may be among them."""
    from mnist_vg.runs.comparison import compare

    others = {name: run for name, run in runs.items() if run.folder != good.folder}
    return {name: compare(run.history, good.history) for name, run in others.items()}


def _write(option, path, text):
    try:
        path.write_bytes(text.encode())
    except OSError as error:
        raise UsageError(f"{option}: {path} cannot be written ({error.strerror})") from error


def _exit_code(diagnoses):
    """1 if a run is sick, else 3 if one could not be judged, else 0."""
    if any(diagnosis.judged and not diagnosis.healthy for diagnosis in diagnoses):
        return 1
    return 0 if all(diagnosis.judged for diagnosis in diagnoses) else 3
