"""`Events`: what happens in a service, to clients that wait for it."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.responses import StreamingResponse

KEEP_ALIVE_SECONDS = 15
"""A line without meaning is sent so often, or proxies end a connection that is silent."""

BEHIND = 100
"""Events that a client may be behind. Then progress is lost to it. If it would lose more, its
events end, and it begins anew."""


_END = None
"""In place of an event, the end of a client's events."""


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
            if not queue.full():
                queue.put_nowait((kind, facts))
            elif kind != "progress":
                queue.get_nowait()
                queue.put_nowait(_END)

    def begin(self) -> asyncio.Queue:
        """Count a client, and return where its events come in."""
        self._loop = asyncio.get_running_loop()
        queue: asyncio.Queue = asyncio.Queue(BEHIND)
        self._waiting.add(queue)
        return queue

    def end(self, queue: asyncio.Queue) -> None:
        """A client has left."""
        self._waiting.discard(queue)


class EventStream(StreamingResponse):
    """Events as they are sent to a client (HTML Living Standard, server-sent events).

    Args:
        events: of the service.
        job: the number of the only job that the client asks for; None for all.
    """

    def __init__(self, events: Events, job: int | None = None):
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(iter(()), media_type="text/event-stream", headers=headers)
        self._events, self._job = events, job

    async def __call__(self, scope, receive, send):
        """Send events until the client leaves. From here on, it counts."""
        queue = self._events.begin()
        self.body_iterator = _lines(queue, self._job)
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._events.end(queue)


async def _lines(queue, job) -> AsyncIterator[str]:
    yield ": connected\n\n"
    while True:
        try:
            event = await asyncio.wait_for(queue.get(), KEEP_ALIVE_SECONDS)
        except TimeoutError:
            yield ": waiting\n\n"
            continue
        if event is _END:
            return
        kind, facts = event
        if job in (None, facts.get("job")):
            yield f"event: {kind}\ndata: {json.dumps(as_json(facts))}\n\n"


def as_json(value: Any) -> Any:
    """Facts as JSON can hold them: a number that is not finite is its name."""
    if isinstance(value, Mapping):
        return {key: as_json(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
