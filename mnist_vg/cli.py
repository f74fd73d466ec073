"""Arguments to calls."""

import contextlib
import dataclasses
import functools
import os
import shlex
import socket
import sys
import types
from pathlib import Path

import click

from mnist_vg.driver import CHECKPOINT_SECONDS, train_all
from mnist_vg.errors import RunFailed, UsageError
from mnist_vg.runs.folder import SWEEP_FILE
from mnist_vg.runs.paths import as_path, is_remote
from mnist_vg.scenarios.scenario import Scenario, setting_fields
from mnist_vg.scenarios.suites import SUITES, find_scenario, find_scenarios
from mnist_vg.sweeps import table
from mnist_vg.sweeps.table import RECORD_CHOICES
from mnist_vg.training.interrupts import end_soon_after_interrupt
from mnist_vg.training.tf_config import STRATEGIES, leads

QUICK = {"iterations": 300, "log_every": 50}
"""What `--quick` trains at most: the whole way through, in seconds."""

MANY = 10
"""Runs beyond which each gets a line less."""


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
    """List the scenarios that have a name."""
    from mnist_vg import report

    report.make_console().print(report.scenario_table(SUITES))


def _setting_options(command, without=()):
    """An option for every setting of a scenario."""
    for field in reversed([field for field in setting_fields() if field.name not in without]):
        default = "the activation" if field.name == "name" else field.default
        shown = f"{field.metadata['help']}" + (f" [{default}]" if default is not None else "")
        flag = "--" + field.name.replace("_", "-")
        if field.type is bool:
            option = click.option(f"{flag}/--no-{flag[2:]}", field.name, default=None, help=shown)
        else:
            kind = {int: int, int | None: int, str: str, str | None: str}.get(field.type, float)
            option = click.option(flag, field.name, type=kind, default=None, help=shown)
        command = option(command)
    return command


class _LogPath(click.Path):
    """A path that may be remote."""

    def convert(self, value, param, context):
        return as_path(super().convert(value, param, context))


_logdir_option = click.option(
    "--logdir", type=_LogPath(), default="logdir", help="One folder a run [logdir]"
)
_data_dir_option = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where TFDS keeps data sets [TFDS's own]"
)


@contextlib.contextmanager
def _interruptible():
    """Ctrl-C within ends the command in order."""
    try:
        yield
    except KeyboardInterrupt:
        raise click.Abort from None


@cli.command()
@click.argument("scenario", nargs=-1)
@_setting_options
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    help="Train each under so many seeds, one after the other [1]",
)
@click.option("--quick", is_flag=True, help="A smoke run of seconds, in a folder of its own.")
@_logdir_option
@_data_dir_option
@click.option("--overwrite", is_flag=True, help="Replace runs that are there.")
@click.option(
    "--checkpoint-seconds",
    type=click.FloatRange(min=0),
    default=CHECKPOINT_SECONDS,
    help=f"Time between two checkpoints [{CHECKPOINT_SECONDS:g}]",
)
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    help="Share each batch among the devices of this machine, or of the workers in TF_CONFIG.",
)
def train(scenario, seeds, quick, logdir, **options):
    """Train SCENARIOs, each into its own folder, and compare them.

    A name is a scenario's or a suite's, as `mnist-vg list` has them. Without one: sigmoid, relu
    and leaky_relu, the tutorial's three; or, with --activation or --name, a network of your own.
    Options change the scenarios' settings. A run that was killed goes on; a finished one is left
    alone.
    """
    from mnist_vg import report

    given = {field.name: options.pop(field.name) for field in setting_fields()}
    settings = {name: value for name, value in given.items() if value is not None}
    scenarios = _choose(scenario, settings, quick)
    if seeds > 1:
        scenarios = [s.with_seed(s.seed + more) for s in scenarios for more in range(seeds)]
    console = report.make_console()
    with _interruptible(), report.Display(console, brief=len(scenarios) > MANY) as display:
        done = list(train_all(scenarios, logdir, watch=display.watch, **options))
    if not leads(options["strategy"]):
        return
    found = [run.name for run in done if run.name not in display.watched]
    for name in found if len(found) <= MANY else [f"{len(found)} of {len(done)} runs"]:
        console.print(f"{name}: nothing left to train (--overwrite trains it anew)")
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
        raise UsageError(f"name: {settings['name']!r} is one name for {len(chosen)} scenarios")
    return [_changed(scenario, settings, quick) for scenario in chosen]


def _changed(scenario, settings, quick):
    changes = dict(settings)
    if quick:
        shorter = {key: min(most, getattr(scenario, key)) for key, most in QUICK.items()}
        changes = {"name": f"{scenario.name}-quick", **shorter, **changes}
    # These tell of the scenario as it was.
    return dataclasses.replace(
        scenario, **changes, **({"about": "", "source": ""} if changes else {})
    )


@cli.command()
@click.argument("name")
@click.option(
    "--vary",
    multiple=True,
    metavar="FIELD=VALUES",
    help="A setting and its values: a list (tanh,relu) or a range with both ends (2:50:4).",
)
@click.option("--seeds", type=click.IntRange(min=1), default=1, help="Seeds of each network [1]")
@click.option("--scenario", help="The scenario to start from [the defaults]")
@functools.partial(_setting_options, without=("name", "measures"))
@click.option(
    "--record",
    type=click.Choice(RECORD_CHOICES),
    default="none",
    help="Which networks get a run folder for TensorBoard [none]",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes here [one a core]")
@click.option("--cluster", help="Train on Ray: local, auto or ray://HOST:PORT")
@click.option("--report", is_flag=True, help="Rank the varied settings by how much they matter.")
@_logdir_option
@_data_dir_option
def sweep(name, vary, seeds, scenario, record, workers, cluster, report, logdir, **options):
    """Train a grid of networks into LOGDIR/NAME: each value with each, under each seed.

    Networks of one structure train together. Their records are one Parquet table,
    LOGDIR/NAME/records, which `mnist-vg plot LOGDIR/NAME` draws. A sweep that was killed goes on
    with the groups that are left.
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
@click.option("--out", type=_LogPath(), help="Folder of the pictures [LOGDIR/figures]")
@click.option("--x", help="Of a sweep: the varied field along the columns [the first]")
@click.option("--y", help="Of a sweep: the one along the rows [the next]")
@click.option("--by", help="Of a sweep: the one with a panel a value [the next of few values]")
def plot(logdir, out, **places):
    """Draw the runs in LOGDIR, or the sweep that it is, as PNG and SVG.

    What each figure needs is in the event files; a figure is drawn of the runs that have it.
    Of a sweep, finished or not: heatmaps over the fields that were varied, and which matter.
    """
    from mnist_vg import figures
    from mnist_vg.runs.run import find_runs

    if (logdir / SWEEP_FILE).exists():
        drawn = _draw_sweep(logdir, places)
    elif any(places.values()):
        raise UsageError(
            f"x, y, by: {logdir} is no sweep; name the folder of one, or leave them out"
        )
    else:
        drawn = figures.draw_all(find_runs(logdir))
    if not drawn:
        raise UsageError(f"logdir: no run in {logdir} has recorded anything to draw yet")
    for path in figures.save(drawn, out or logdir / "figures"):
        click.echo(path)


def _draw_sweep(folder, places):
    from mnist_vg import report
    from mnist_vg.sweeps import heatmaps

    records, axes = table.read_sweep(folder)
    drawn = heatmaps.draw(records, axes, **places)
    _print_rankings(report.make_console(), records, axes)
    return drawn


def _print_rankings(console, records, axes):
    from mnist_vg.sweeps.ranking import rank
    from mnist_vg.sweeps.report import ranking_table

    for column in (table.TEST_ACCURACY, table.GRADIENT_RATIO):
        try:
            console.print(ranking_table(rank(records, axes, column)))
        except UsageError as error:  # Figures and table are there all the same.
            console.print(str(error), soft_wrap=True)


@cli.command()
@click.argument("logdir", type=_LogPath(), default="logdir")
@click.argument("run", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="For a program, instead of the table.")
@click.pass_context
def diagnose(context, logdir, run, as_json):
    """Tell which RUNs in LOGDIR are sick, of what, in which layer and since when.

    Without a RUN: all of them, the worst first. Reads event files alone, of runs that are finished
    or not, the trainer's and GradientLogger's. The exit code is 1 where a run is not healthy.
    """
    from mnist_vg import report
    from mnist_vg.diagnosis.diagnosis import diagnose_runs

    diagnoses = diagnose_runs(logdir, run)
    if as_json:
        click.echo(report.diagnosis_json(diagnoses))
    else:
        console = report.make_console()
        console.print(report.diagnosis_table(diagnoses))
        for line in report.lack_lines(diagnoses):
            console.print(line, soft_wrap=True)
    context.exit(0 if all(diagnosis.healthy for diagnosis in diagnoses.values()) else 1)


@cli.command()
@click.argument("scenario")
@click.option(
    "--seeds", type=click.IntRange(min=3), default=3, help="Train each change under so many [3]"
)
@_logdir_option
@_data_dir_option
def cure(scenario, seeds, logdir, data_dir):
    """Find out which change of settings lets SCENARIO learn.

    SCENARIO is a run in the log folder, or a name that `mnist-vg list` has. It is diagnosed,
    trained with the remedies that fit its symptoms, and compared, each under the same seeds.
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
@click.option("--logdir", type=_LogPath(), default="logdir", help="What to show [logdir]")
@click.option("--port", type=click.IntRange(1, 65535), default=6006, help="Port [6006]")
def board(logdir, port):
    """Open TensorBoard on a logdir, also while runs train into it."""
    if not is_remote(logdir):
        # With this module TensorBoard does without TensorFlow, and starts in a second.
        sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))
    from tensorboard import main as tensorboard

    free = next((candidate for candidate in range(port, 65536) if _is_free(candidate)), None)
    if free is None:
        raise UsageError(f"port: {port} is in use, and so is every one above it; give a lower one")
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


INTERRUPTED = (
    "interrupted; what is done is kept, and the same command (without --overwrite) goes on"
)
CUT_OFF = "interrupted; the same command (without --overwrite) goes on from what was saved"


def main():
    """Run the command line; every refusal is one line and an exit code."""
    # Standard error is closed for as long as TensorFlow is imported.
    screen = os.fdopen(os.dup(2), "w")

    def cut_off():
        # The escape sequence brings back the cursor that a progress bar hides.
        click.echo(f"\x1b[?25hmnist-vg: {CUT_OFF}", file=screen)
        os._exit(130)

    end_soon_after_interrupt(cut_off)
    try:
        code = cli.main(prog_name="mnist-vg", standalone_mode=False) or 0
    except (click.ClickException, UsageError, RunFailed, click.Abort) as error:
        code, message = _refusal(error)
        click.echo(f"mnist-vg: {message}", file=screen)
    sys.stdout.flush()
    # Everything is on the disk, and TensorFlow takes a second to take itself apart.
    os._exit(code)


def _refusal(error):
    """The exit code and the line that an error deserves."""
    if isinstance(error, click.Abort):
        return 130, INTERRUPTED
    if isinstance(error, click.ClickException):
        return 2, error.format_message()
    return (1 if isinstance(error, RunFailed) else 2), error
