"""Serves a service and TensorBoard at one address."""

import logging
import socket
from collections.abc import Callable

import uvicorn

from mnist_vg.errors import UsageError
from mnist_vg.service.app import PREFIX, make_app
from mnist_vg.service.connection import Connection, allow_files
from mnist_vg.service.events import Events
from mnist_vg.service.guard import Guard
from mnist_vg.service.service import Service

LOOPBACK = "127.0.0.1"

RELOAD_SECONDS = 1
"""Time between two looks of TensorBoard at the log: its loader counts whole seconds."""


def serve(
    service: Service,
    events: Events,
    host: str,
    port: int,
    names: tuple[str, ...] = (),
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until Ctrl-C.

    Args:
        service: which is started, and closed at the end.
        events: that the service tells.
        host: the address to listen on.
        port: the port.
        names: further names under which clients reach it, as behind a proxy.
        ready: called once it answers.
    """
    hosts = {address(name, port) for name in (host, "localhost", LOOPBACK)} | set(names)
    allow_files()
    app = make_app(service, events, tensorboard_app(service.logdir))
    guarded = Guard(app, service.token, hosts, port, service.limits.body, json_only=PREFIX)
    config = uvicorn.Config(
        guarded,
        host=host,
        port=port,
        log_level="error",
        access_log=False,
        http=Connection,
        ws="none",
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    service.start(f"http://{address(host, port)}/")
    try:
        _Server(config, ready).run()
    finally:
        service.close()


class _Server(uvicorn.Server):
    """Tells when it answers."""

    def __init__(self, config, ready):
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets=None):
        await super().startup(sockets)
        self._ready()


def address(host: str, port: int) -> str:
    """Host and port as an address has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def tensorboard_app(logdir) -> Callable:
    """TensorBoard's own WSGI app on a log folder."""
    from tensorboard import program

    from mnist_vg.board.board_plugin import BoardPlugin
    from mnist_vg.board.program import plugins, without_tensorflow

    without_tensorflow(logdir)
    made = []

    class Served(BoardPlugin):
        """The tab, which has something to show even before the first run."""

        trains = True

        def is_active(self):
            """Yes."""
            return True

    class Kept(program.TensorBoardServer):
        """Hands out the app instead of serving it."""

        def __init__(self, wsgi_app, flags):
            made.append(wsgi_app)

        def serve_forever(self):
            """Nothing: we serve it."""

        def get_url(self):
            """Nothing: it has no address of its own."""
            return ""

    served = [Served if plugin is BoardPlugin else plugin for plugin in plugins()]
    tensorboard = program.TensorBoard(served, server_class=Kept)
    # Its fast loader is a server of its own, which hands the runs to every user of this machine.
    tensorboard.configure(logdir=str(logdir), reload_interval=RELOAD_SECONDS, load_fast="false")
    # It warns of each path that is not there.
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    tensorboard.launch()
    return made[0]


def check_port(host: str, port: int) -> None:
    """Check that a port is free.

    Raises:
        UsageError: it is not, or this machine has no such address.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UsageError(f"port: {host}:{port} cannot be used ({error.strerror})") from error
