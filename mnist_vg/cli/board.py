"""`mnist-vg board`."""

import contextlib
import io
import socket
import threading

import click

from mnist_vg.board.program import plugins, without_tensorflow
from mnist_vg.cli.options import folder_of, optional_logdir_option
from mnist_vg.errors import UsageError


@click.command()
@click.argument("folder", required=False)
@optional_logdir_option
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=6006,
    show_default=True,
    help="Port of the web server; if it is in use, the next free one",
)
def board(folder, logdir, port):
    """Open TensorBoard on the log folder, or on a FOLDER in it, even while networks train."""
    logdir = folder_of(logdir, folder)
    free = next((candidate for candidate in range(port, 65536) if _is_free(candidate)), None)
    if free is None:
        raise UsageError(f"port: {port} and all higher ports are in use; give a lower one")
    if not logdir.exists():
        click.echo(f"logdir: {logdir} does not exist yet; TensorBoard waits for it", err=True)
    if free != port:
        click.echo(f"port {port} is in use; the next free one is {free}", err=True)
    click.echo(f"TensorBoard at {_serve(logdir, free)} (Ctrl-C ends it)", err=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def _serve(logdir, port):
    """Start TensorBoard in a thread, and return its address."""
    without_tensorflow(logdir)
    from tensorboard import program

    tensorboard = program.TensorBoard(plugins())
    tensorboard.configure(logdir=str(logdir), port=port)
    try:
        # It prints a note on how it loads, whatever its flags.
        with contextlib.redirect_stderr(io.StringIO()):
            return tensorboard.launch()
    except program.TensorBoardServerException as error:
        raise UsageError(f"port: {error.msg}; give another one") from error


def _is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("localhost", port))
        except OSError:
            return False
    return True
