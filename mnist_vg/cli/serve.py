"""`mnist-vg serve`."""

import contextlib
import dataclasses
import signal

import click

from mnist_vg.cli.options import checkpoint_option, data_dir_option, logdir_option
from mnist_vg.service.limits import Limits


def limit_options(command):
    """Add an option for every limit."""
    for field in reversed(dataclasses.fields(Limits)):
        option = click.option(
            f"--most-{field.name.replace('_', '-')}",
            field.name,
            type=click.IntRange(min=1),
            default=field.default,
            show_default=True,
            help=field.metadata["help"],
        )
        command = option(command)
    return command


@click.command()
@logdir_option
@data_dir_option
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on, of this machine"
)
@click.option("--port", type=click.IntRange(1, 65535), default=6006, show_default=True, help="Port")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Jobs that are trained at a time",
)
@click.option("--cluster", help="Ray cluster to train on: local, auto or ray://HOST:PORT")
@click.option(
    "--name",
    "names",
    multiple=True,
    help="A further name (with port, if it is not the usual one) under which clients reach it, as "
    "behind a proxy",
)
@checkpoint_option
@limit_options
def serve(logdir, data_dir, host, port, workers, cluster, names, checkpoint_seconds, **limits):
    """Train what TensorBoard's tab, `mnist-vg submit` and programs ask for, and show it.

    The link that it prints has a token. Whoever knows it can train networks here.
    """
    from mnist_vg.service.events import Events
    from mnist_vg.service.server import address, check_port, serve
    from mnist_vg.service.service import Service

    check_port(host, port)
    events = Events()
    service = Service(
        logdir,
        workers=workers,
        cluster=cluster,
        data_dir=None if data_dir is None else str(data_dir),
        checkpoint_seconds=checkpoint_seconds,
        limits=Limits(**limits),
        told=events.tell,
    )
    named = address("localhost" if host == "127.0.0.1" else host, port)
    link = f"http://{named}/?token={service.token}"
    line = f"TensorBoard and training service at {link} (Ctrl-C ends it)"
    signal.set_wakeup_fd(-1)  # The server ends by itself, once all runs are saved.
    with contextlib.suppress(KeyboardInterrupt):
        serve(service, events, host, port, names, lambda: click.echo(line, err=True))
