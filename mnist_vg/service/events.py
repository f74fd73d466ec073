"""`Events`: what happens in a service, to clients that wait for it."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Mapping
from typing import Any

KEEP_ALIVE_SECONDS = 15
"""A line without meaning is sent so often, or proxies end a connection that is silent."""

BEHIND = 100
"""Events that a client may be behind. Older ones are lost to it: each says how things stand now."""


class Events:
    """Hands events to all clients that wait. One event loop has the clients."""

    def __init__(self):
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Queue] = set()

    @property
    def watchers(self) -> int:
        """How many clients wait."""
        return len(self._waiting)

    def tell(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Hand on an event, from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, kind, facts)

    def _put(self, kind, facts):
        for queue in self._waiting:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait((kind, facts))

    async def stream(self, job: int | None = None) -> AsyncIterator[str]:
        """Events as they are sent to a client (HTML Living Standard, server-sent events).

        Args:
            job: the number of the only job that the client asks for.
        """
        self._loop = asyncio.get_running_loop()
        queue: asyncio.Queue = asyncio.Queue(BEHIND)
        self._waiting.add(queue)
        try:
            yield ": connected\n\n"
            while True:
                try:
                    kind, facts = await asyncio.wait_for(queue.get(), KEEP_ALIVE_SECONDS)
                except TimeoutError:
                    yield ": waiting\n\n"
                    continue
                if job in (None, facts.get("job")):
                    yield f"event: {kind}\ndata: {json.dumps(_known(facts))}\n\n"
        finally:
            self._waiting.discard(queue)


def _known(value):
    """Facts without what only the crew needs; a number that is not finite is its name."""
    if isinstance(value, Mapping):
        return {key: _known(each) for key, each in value.items() if key != "first"}
    if isinstance(value, (list, tuple)):
        return [_known(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
