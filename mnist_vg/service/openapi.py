"""The description of the interface, for programs (OpenAPI 3.1) and for people."""

import html
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse, Response

if TYPE_CHECKING:
    from mnist_vg.service.app import Operation

_PATH = re.compile(r"\{(\w+):\w+\}")


def describe(
    operations: Sequence["Operation"], files: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    """The interface as OpenAPI 3.1.

    Args:
        operations: what can be asked for.
        files: see `app.FILES`.
    """
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _described(operation.path, operation.summary, _json({"type": "object"}))
        if operation.method != "GET":
            properties = {name: {"description": text} for name, text in operation.body.items()}
            body = {"type": "object", "properties": properties}
            described["requestBody"] = {"content": _json(body)}
        paths.setdefault(_plain(operation.path), {})[operation.method.lower()] = described
    for path, (summary, media) in files.items():
        paths[_plain(path)] = {"get": _described(path, summary, {media: {}})}
    return {
        "openapi": "3.1.0",
        "info": {"title": "mnist_vg training service", "version": metadata.version("mnist_vg")},
        "security": [{"token": []}],
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "paths": paths,
    }


_REFUSALS = {
    "400": "the setting, and what is wrong with it",
    "403": "the token is wrong, or the request comes from another page",
    "404": "there is no such job, or no such path",
    "408": "the body did not come in time",
    "413": "the body is too long",
    "415": "the body is not JSON",
    "421": "the service has another name",
    "503": "too many jobs or clients wait, or the queue cannot be written",
}


def _plain(path):
    return "/service" + _PATH.sub(r"{\1}", path)


def _described(path, summary, content):
    refusals = {code: {"description": text} for code, text in _REFUSALS.items()}
    return {
        "summary": summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "integer"}}
            for name in _PATH.findall(path)
        ],
        "responses": {"200": {"description": "done", "content": content}, **refusals},
    }


def _json(schema):
    return {"application/json": {"schema": schema}}


def page(description: dict[str, Any]) -> Response:
    """The same as a page."""
    rows = [
        f"<tr><td>{method.upper()}</td><td><code>{html.escape(path)}</code></td>"
        f"<td>{html.escape(described['summary'])}</td><td>{_body_of(described)}</td></tr>"
        for path, methods in description["paths"].items()
        for method, described in methods.items()
    ]
    title = html.escape(description["info"]["title"])
    return HTMLResponse(
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>'
        f"<body><h1>{title}</h1><p>For programs: <a href='openapi.json'>OpenAPI</a>.</p>"
        f"<table>{''.join(rows)}</table></body></html>"
    )


def _body_of(described):
    schema = described.get("requestBody", {}).get("content", {}).get("application/json", {})
    properties = schema.get("schema", {}).get("properties", {})
    return "; ".join(
        f"<code>{html.escape(name)}</code>: {html.escape(facts['description'])}"
        for name, facts in properties.items()
    )
