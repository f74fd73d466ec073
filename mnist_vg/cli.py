"""The command line: `mnist-vg COMMAND`."""

import contextlib
import dataclasses
import functools
import itertools
import os
import shlex
import socket
import sys
import types
from pathlib import Path

import click

from mnist_vg.driver import CHECKPOINT_SECONDS, train_all
from mnist_vg.errors import RunFailed, UsageError, nearest
from mnist_vg.runs.folder import SWEEP_FILE
from mnist_vg.runs.paths import as_path, is_remote
from mnist_vg.scenarios.scenario import Scenario, setting_fields
from mnist_vg.scenarios.suites import SUITES, find_scenario, find_scenarios
from mnist_vg.sweeps import table
from mnist_vg.sweeps.table import RECORD_CHOICES
from mnist_vg.training.interrupts import end_soon_after_interrupt
from mnist_vg.training.tf_config import STRATEGIES, leads

QUICK = {"iterations": 300, "log_every": 50}
"""The largest settings of a run with `--quick`, which ends within seconds."""

DETAILED_RUNS = 10
"""With more runs than this, `train` shows only the newest progress bar, and no line per record."""


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="mnist_vg", message="%(prog)s %(version)s")
@click.pass_context
def cli(context):
    """See in TensorBoard which network cannot learn: vanishing gradients, layer by layer."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command("list")
def list_scenarios():
    """List all named scenarios and suites."""
    from mnist_vg import report

    report.make_console().print(report.scenario_table(SUITES))


def _setting_options(command, without=()):
    """Add an option for every setting of a scenario; an option that is not given is None."""
    for field in reversed([field for field in setting_fields() if field.name not in without]):
        default = "the activation" if field.name == "name" else field.default
        text = field.metadata["help"]
        text = (
            text[0].upper() + text[1:] + (f" [default: {default}]" if default is not None else "")
        )
        flag = "--" + field.name.replace("_", "-")
        if field.type is bool:
            option = click.option(f"{flag}/--no-{flag[2:]}", field.name, default=None, help=text)
        else:
            kind = {int: int, int | None: int, str: str, str | None: str}.get(field.type, float)
            option = click.option(flag, field.name, type=kind, default=None, help=text)
        command = option(command)
    return command


class _LogPath(click.Path):
    """A path that may be remote."""

    def convert(self, value, param, context):
        return as_path(super().convert(value, param, context))


_logdir_option = click.option(
    "--logdir",
    type=_LogPath(),
    default="logdir",
    show_default=True,
    help="Log folder, with one folder per run",
)
_data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Folder where TFDS keeps data sets [default: TFDS's own]",
)


@contextlib.contextmanager
def _interruptible():
    """Let Ctrl-C end a command that can be continued, with a message."""
    try:
        yield
    except KeyboardInterrupt:
        raise click.Abort(INTERRUPTED) from None


@cli.command()
@click.argument("scenario", nargs=-1)
@_setting_options
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of seeds, each of which is a run",
)
@click.option("--quick", is_flag=True, help="Train for a few seconds only, into NAME-quick")
@_logdir_option
@_data_dir_option
@click.option("--overwrite", is_flag=True, help="Replace existing runs")
@click.option(
    "--checkpoint-seconds",
    type=click.FloatRange(min=0),
    default=CHECKPOINT_SECONDS,
    show_default=True,
    help="Seconds between two checkpoints",
)
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
    with _interruptible(), report.Display(console, brief=brief) as display:
        done = list(train_all(scenarios, logdir, watch=display.watch, **options))
    if not leads(options["strategy"]):
        return
    found = [run.name for run in done if run.name not in display.watched]
    for name in found if len(found) <= DETAILED_RUNS else [f"{len(found)} of {len(done)} runs"]:
        console.print(f"{name}: nothing left to train (--overwrite trains again)")
    console.print(report.comparison_table(done))
    click.echo(report.tensorboard_line(logdir))


def _choose(names, settings, quick):
    """The scenarios to train: named ones, a new one, or the tutorial's three."""
    if names:
        chosen = [scenario for name in names for scenario in find_scenarios(name)]
    elif "activation" in settings or "name" in settings:
        chosen = [Scenario(**settings)]
    else:
        chosen = SUITES["tutorial"]
    if "name" in settings and len(chosen) > 1:
        raise UsageError(
            f"name: {settings['name']!r} cannot name {len(chosen)} scenarios; give one SCENARIO"
        )
    return [_changed(scenario, settings, quick) for scenario in chosen]


def _changed(scenario, settings, quick):
    changes = dict(settings)
    if quick:
        shorter = {key: min(most, getattr(scenario, key)) for key, most in QUICK.items()}
        changes = {"name": f"{scenario.name}-quick", **shorter, **changes}
    # A changed scenario is no longer the one that these describe.
    return dataclasses.replace(
        scenario, **changes, **({"about": "", "source": ""} if changes else {})
    )


@cli.command()
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
@functools.partial(_setting_options, without=("name", "measures"))
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
@click.option("--report", is_flag=True, help="Also rank the settings by how much they matter")
@_logdir_option
@_data_dir_option
def sweep(name, vary, seeds, scenario, record, workers, cluster, report, logdir, **options):
    """Train a grid of networks, with all records in one table.

    Every combination of the varied values is trained with every seed. Networks of the same
    structure train together, as a group. The table, LOGDIR/NAME/records, has Parquet files, and
    `mnist-vg plot LOGDIR/NAME` draws it. A sweep that was stopped continues with the groups that
    are left.
    """
    from mnist_vg.report import make_console, tensorboard_line
    from mnist_vg.sweeps.report import SweepDisplay, plan_lines, verdict_table
    from mnist_vg.sweeps.sweep import Sweep, parse_axes
    from mnist_vg.sweeps.sweeper import Sweeper

    data_dir = options.pop("data_dir")
    base = find_scenario(scenario) if scenario else Scenario()
    given = {key: value for key, value in options.items() if value is not None}
    grid = Sweep(name, dataclasses.replace(base, **given), parse_axes(vary), seeds)
    console = make_console()
    sweeper = Sweeper(grid, logdir, data_dir=data_dir, workers=workers, record=record)
    for line in plan_lines(sweeper.plan):
        console.print(line, soft_wrap=True)
    with _interruptible(), SweepDisplay(console, sweeper.plan) as display:
        folder = sweeper.run(cluster, display.watch)
    records, axes = table.read_sweep(folder)
    console.print(verdict_table(records))
    if report and axes:
        _print_rankings(console, records, axes)
    if axes:
        click.echo(f"mnist-vg plot {shlex.quote(str(folder))}")
    click.echo(tensorboard_line(folder))


@cli.command()
@click.argument("logdir", type=_LogPath(), default="logdir")
@click.option("--out", type=_LogPath(), help="Folder for the figures [default: LOGDIR/figures]")
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
    _print_rankings(report.make_console(), records, axes)
    return drawn


def _print_rankings(console, records, axes):
    from mnist_vg.sweeps.ranking import rank
    from mnist_vg.sweeps.report import ranking_table

    for column in (table.TEST_ACCURACY, table.GRADIENT_RATIO):
        try:
            console.print(ranking_table(rank(records, axes, column)))
        except UsageError as error:  # The sweep itself has succeeded.
            console.print(str(error), soft_wrap=True)


@cli.command()
@click.argument("place", metavar="FILE.py:FUNCTION")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table")
@click.pass_context
def check(context, place, as_json):
    """Say what will keep a model from learning, before it is trained.

    FUNCTION takes no arguments and returns a compiled Keras model with its data: model, x and y,
    or a model and a data set. Nothing is trained. The exit code is 1 if something is found.
    """
    from mnist_vg import report
    from mnist_vg.checks import check
    from mnist_vg.checks.script import made_by

    checks = check(*made_by(place))
    if as_json:
        click.echo(checks.json())
    else:
        console = report.make_console()
        console.print(report.checks_table(checks))
        for line in report.checks_lines(checks):
            console.print(line, soft_wrap=True)
    context.exit(1 if checks.findings else 0)


@cli.command()
@click.argument("logdir", type=_LogPath(), default="logdir")
@click.argument("run", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table")
@click.option(
    "--against",
    metavar="RUN",
    help="Also compare with a good run, a name in LOGDIR or a folder: from which step on which "
    "layers differ",
)
@click.option("--sarif", type=_LogPath(), metavar="FILE", help="Also write SARIF, for CI")
@click.option(
    "--html",
    type=_LogPath(),
    metavar="FILE",
    help="Also write one HTML page, with a picture of each run's gradients",
)
@click.pass_context
def diagnose(context, logdir, run, as_json, against, sarif, html):
    """Say what is wrong with RUNs in LOGDIR, where, and what to try.

    Without a RUN, all runs are diagnosed, the worst first. Only event files are read, so a run
    need not be finished, and may be from GradientLogger or Recorder. Without any of these, runs of
    Keras' TensorBoard callback, PyTorch Lightning or SummaryWriter are read as far as they go. The
    exit code is 1 if a run is sick, else 3 if one could not be judged (too little is recorded, or
    it broke off), else 0.
    """
    from mnist_vg import report
    from mnist_vg.diagnosis.diagnosis import diagnose_each
    from mnist_vg.runs.finding import find_named

    runs = find_named(logdir, run)
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
        for line in told:
            console.print(line, soft_wrap=True)
    context.exit(_exit_code(diagnoses.values()))


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


@cli.command()
@click.argument("scenario")
@click.option(
    "--seeds",
    type=click.IntRange(min=3),
    default=3,
    show_default=True,
    help="Number of seeds for each change",
)
@_logdir_option
@_data_dir_option
def cure(scenario, seeds, logdir, data_dir):
    """Find changed settings with which SCENARIO can learn.

    SCENARIO is a run in the log folder, or a name from `mnist-vg list`. It is diagnosed, and
    trained again with each remedy that fits its symptoms. All runs have the same seeds.
    """
    from mnist_vg import report
    from mnist_vg.cure import cure, find_sick

    sick = find_sick(scenario, logdir)
    console = report.make_console()
    with _interruptible(), report.Display(console, brief=True) as display:
        result = cure(sick, logdir, seeds=seeds, data_dir=data_dir, watch=display.watch)
    console.print(report.cure_table(result))
    for line in report.cure_lines(result):
        console.print(line, soft_wrap=True)
    command = ["mnist-vg", "cure", scenario, "--seeds", seeds, "--logdir", logdir]
    command += ["--data-dir", data_dir] if data_dir else []
    click.echo(f"Again: {shlex.join(map(str, command))}")
    click.echo(report.tensorboard_line(logdir))


@cli.command()
@_logdir_option
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=6006,
    show_default=True,
    help="Port of the web server; if it is in use, the next free one",
)
def board(logdir, port):
    """Open TensorBoard on a log folder, even while networks train."""
    if not is_remote(logdir):
        # With this module, TensorBoard does not import TensorFlow, and starts in a second.
        sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))
    from tensorboard import main as tensorboard

    free = next((candidate for candidate in range(port, 65536) if _is_free(candidate)), None)
    if free is None:
        raise UsageError(f"port: {port} and all higher ports are in use; give a lower one")
    if not logdir.exists():
        click.echo(f"logdir: {logdir} does not exist yet; TensorBoard waits for it", err=True)
    if free != port:
        click.echo(f"port {port} is in use; the next free one is {free}", err=True)
    sys.argv = ["tensorboard", "--logdir", str(logdir), "--port", str(free)]
    tensorboard.run_main()


def _is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("localhost", port))
        except OSError:
            return False
    return True


INTERRUPTED = "interrupted and saved; run the same command (without --overwrite) to continue"
CUT_OFF = "interrupted; run the same command (without --overwrite) to continue from what was saved"


def main():
    """Run the command line. An error prints one line, and ends with exit code 1, 2 or 130."""
    # While TensorFlow is imported, standard error is closed, so keep a copy.
    encoding = sys.stderr.encoding
    screen = os.fdopen(os.dup(2), "w", encoding=encoding, errors="backslashreplace")
    # A screen in ASCII or Latin-1 shows what it lacks as an escape sequence.
    sys.stdout.reconfigure(errors="backslashreplace")

    def cut_off():
        # The escape sequence shows the cursor again, which a progress bar hides.
        click.echo(f"\x1b[?25hmnist-vg: {CUT_OFF}", file=screen)
        os._exit(130)

    end_soon_after_interrupt(cut_off)
    try:
        code = cli.main(prog_name="mnist-vg", standalone_mode=False) or 0
    except (click.ClickException, UsageError, RunFailed, click.Abort) as error:
        code, message = _refusal(error)
        click.echo(f"mnist-vg: {message}", file=screen)
    sys.stdout.flush()
    # Everything has been written, and a normal exit of TensorFlow would take a second.
    os._exit(code)


def _refusal(error):
    """The exit code and the message of an error."""
    if isinstance(error, click.Abort):
        return 130, str(error) or "interrupted"
    if isinstance(error, click.ClickException):
        return 2, error.format_message()
    return (1 if isinstance(error, RunFailed) else 2), error
