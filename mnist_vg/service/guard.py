"""`Guard`: who may ask a service for anything."""

import asyncio
import secrets

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
    service's own pages alone (`SameSite=Strict`), and of other ports of this machine, which it
    takes for the same site. So a request that tells that it comes from another page is refused
    (`Origin`, and `Sec-Fetch-Site` of Fetch Metadata), unless it only leads here. A name that
    resolves to this machine without being its own is refused by its `Host` (DNS rebinding).

    Args:
        app: what is guarded.
        token: that clients must know.
        hosts: names, with port, under which the service is reached.
        port: that it listens on. It tells its cookie from those of other services on this machine.
        most: bytes of a request's body.
        json_only: the beginning of the paths below which a body must be JSON, which no form of
            another page can send. TensorBoard's own pages send forms.
    """

    def __init__(self, app, token: str, hosts: set[str], port: int, most: int, json_only: str):
        self._app, self._token, self._hosts, self._most = app, token, hosts, most
        self._json_only = json_only
        self._cookie = f"mnist_vg_{port}"

    async def __call__(self, scope, receive, send):
        """Answer a request, or hand it on with its whole body."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request = Request(scope)
        answer = self._refusal(request) or self._greeting(request)
        if answer is None:
            try:
                body = await asyncio.wait_for(_body(receive, self._most), BODY_SECONDS)
            except _Left:
                return None
            except _TooMuch:
                answer = self._too_much()
            except TimeoutError:
                answer = PlainTextResponse("body: it did not come in time", 408)
            else:
                return await self._app(scope, _again(body, receive), send)
        return await answer(scope, receive, send)

    def _refusal(self, request):
        headers = request.headers
        if headers.get("host", "") not in self._hosts:
            return PlainTextResponse("host: this service has another name", 421)
        if int(headers.get("content-length", "0")) > self._most:
            return self._too_much()
        if self._is_foreign(headers):
            return PlainTextResponse("origin: this comes from another page", 403)
        if not self._knows_token(request):
            return PlainTextResponse(
                "token: open the link that `mnist-vg serve` has printed, or send "
                "`Authorization: Bearer TOKEN`",
                403,
            )
        kind = headers.get("content-type", "").partition(";")[0].strip()
        changes = request.method not in SAFE and request.url.path.startswith(self._json_only)
        if changes and kind != "application/json":
            return PlainTextResponse("content-type: it must be application/json", 415)
        return None

    def _is_foreign(self, headers):
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] not in self._hosts:
            return True
        # A link to this service is no harm. A frame is: what is clicked in it may be covered.
        elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        return elsewhere and headers.get("sec-fetch-dest") != "document"

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
        # With two slashes, the rest would be the name of another site.
        answer = RedirectResponse("/" + request.url.path.lstrip("/"), 303)
        answer.set_cookie(
            self._cookie,
            self._token,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            path="/",
        )
        return answer

    def _too_much(self):
        return PlainTextResponse(f"body: at most {self._most} bytes", 413)


class _TooMuch(Exception):
    pass


class _Left(Exception):
    pass


async def _body(receive, most):
    """The whole body of a request.

    Raises:
        _TooMuch: it is longer than `most` bytes.
        _Left: the client has left before its end.
    """
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Left
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > most:
            raise _TooMuch
    return body


def _again(body, receive):
    """Hand out a body that was read, and then what else comes: that the client leaves."""
    handed = False

    async def next_message():
        nonlocal handed
        if handed:
            return await receive()
        handed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return next_message
