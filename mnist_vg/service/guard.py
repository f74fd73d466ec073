"""`Guard`: who may ask a service for anything."""

import asyncio
import secrets
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse

BODY_SECONDS = 10
"""A client that takes longer to send its request is not waited for."""

SAFE = ("GET", "HEAD")
"""Methods that change nothing."""


class Guard:
    """Lets a request through if it knows the token, names this service, and is not too large.

    The token comes as `Authorization: Bearer …`, as a cookie, or, once, in the link that the
    service prints: then the cookie is set. A browser sends the cookie with requests of this
    service's own pages alone (`SameSite=Strict`), and what changes anything must have this
    service as its `Origin`, too. A name that resolves to this machine without being its own is
    refused by its `Host` (DNS rebinding).

    Args:
        app: what is guarded.
        token: that clients must know.
        hosts: names, with port, under which the service is reached.
        most: bytes of a request's body.
    """

    def __init__(self, app, token: str, hosts: set[str], most: int):
        self._app, self._token, self._hosts, self._most = app, token, hosts, most
        self._cookie = f"mnist_vg_{min(hosts).rpartition(':')[2]}"

    async def __call__(self, scope, receive, send):
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request = Request(scope)
        answer = self._refusal(request) or self._greeting(request)
        if answer is None:
            receive = _limited(receive, self._most)
            try:
                return await self._app(scope, receive, send)
            except _TooMuch:
                answer = PlainTextResponse(f"body: at most {self._most} bytes", 413)
            except TimeoutError:
                answer = PlainTextResponse("body: it did not come in time", 408)
        await answer(scope, receive, send)

    def _refusal(self, request):
        headers = Headers(scope=request.scope)
        if headers.get("host", "") not in self._hosts:
            return PlainTextResponse("host: this service has another name", 421)
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self._most:
            return PlainTextResponse(f"body: at most {self._most} bytes", 413)
        if not self._knows_token(request):
            return PlainTextResponse(
                "token: open the link that `mnist-vg serve` has printed, or send "
                "`Authorization: Bearer TOKEN`",
                403,
            )
        if request.method not in SAFE:
            return self._refused_change(headers)
        return None

    def _refused_change(self, headers):
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc not in self._hosts:
            return PlainTextResponse("origin: this comes from another page", 403)
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return PlainTextResponse("content-type: it must be application/json", 415)
        return None

    def _knows_token(self, request):
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = [
            bearer if scheme.lower() == "bearer" else "",
            request.cookies.get(self._cookie, ""),
            request.query_params.get("token", "") if request.method in SAFE else "",
        ]
        return any(secrets.compare_digest(g.encode(), self._token.encode()) for g in given)

    def _greeting(self, request):
        """The link that was printed: set the cookie, and lead to the page without the token."""
        if "token" not in request.query_params or request.method not in SAFE:
            return None
        answer = RedirectResponse(request.url.path, 303)
        answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
        return answer


class _TooMuch(Exception):
    pass


def _limited(receive, most):
    """The parts of a body as they come, up to so many bytes, and each in time."""
    taken = 0
    complete = False

    async def part():
        nonlocal taken, complete
        if complete:  # From here on, it tells when the client leaves.
            return await receive()
        message = await asyncio.wait_for(receive(), BODY_SECONDS)
        taken += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        if taken > most:
            raise _TooMuch
        return message

    return part
