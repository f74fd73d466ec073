"""`Connection`: Uvicorn's, which neither waits for ever nor uses up all files."""

import asyncio
import resource

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 10
"""A connection on which no request is answered is closed after this time."""

FILES = 8192
"""Files that the service asks for, at most: connections, and what TensorBoard reads."""


def allow_files() -> None:
    """Allow this process as many open files as its user may have, up to `FILES`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _most_connections():
    """Half of the files, so that the other half is left for everything else."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


class Connection(H11Protocol):
    """A client's connection, with bounds that Uvicorn does not have.

    Uvicorn waits without end for the head of a request, and counts requests, not connections.
    """

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport):
        """Close it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > _most_connections():
            transport.abort()
        self._wait()

    def connection_lost(self, exc):
        """Forget it."""
        self._late.cancel()
        super().connection_lost(exc)

    def on_response_complete(self):
        """Wait for the next request, or for the rest of a body that nobody reads."""
        super().on_response_complete()
        self._wait()

    def _wait(self):
        if self._late is not None:
            self._late.cancel()
        self._late = self.loop.call_later(REQUEST_SECONDS, self._end_idle)

    def _end_idle(self):
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
