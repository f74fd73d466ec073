"""The command line `mnist-vg COMMAND`, and how it ends."""

import os
import sys

import click

from mnist_vg.cli.board import board
from mnist_vg.cli.check import check
from mnist_vg.cli.cure import cure
from mnist_vg.cli.diagnose import diagnose
from mnist_vg.cli.list import list_scenarios
from mnist_vg.cli.plot import plot
from mnist_vg.cli.serve import serve
from mnist_vg.cli.submit import submit
from mnist_vg.cli.sweep import sweep
from mnist_vg.cli.train import train
from mnist_vg.errors import RunFailed, UsageError
from mnist_vg.training.interrupts import end_soon_after_interrupt

CUT_OFF = "interrupted; run the same command (without --overwrite) to continue from what was saved"


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


for command in (board, check, cure, diagnose, list_scenarios, plot, serve, submit, sweep, train):
    cli.add_command(command)


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
