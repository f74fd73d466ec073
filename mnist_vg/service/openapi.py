"""The description of the interface, for programs (OpenAPI 3.1) and for people."""

import html
import re
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from starlette.responses import HTMLResponse, Response

_PATH = re.compile(r"\{(\w+):\w+\}")


def describe(operations: Sequence) -> dict[str, Any]:
    """The interface as OpenAPI 3.1.

    Args:
        operations: see `app.Operation`.
    """
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = "/service" + _PATH.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "mnist_vg training service", "version": metadata.version("mnist_vg")},
        "security": [{"token": []}],
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "paths": paths,
    }


def _described(operation):
    described: dict[str, Any] = {
        "summary": operation.summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "integer"}}
            for name in _PATH.findall(operation.path)
        ],
        "responses": {
            "200": {"description": "done", "content": _json({"type": "object"})},
            "400": {"description": "the setting, and what is wrong with it"},
            "403": {"description": "the token is wrong, or the request comes from another page"},
        },
    }
    if operation.method != "GET":
        properties = {name: {"description": text} for name, text in operation.body.items()}
        described["requestBody"] = {"content": _json({"type": "object", "properties": properties})}
    return described


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
        f"<body><h1>{title}</h1><p>For programs: <a href='openapi.json'>OpenAPI</a>. Events: "
        "<code>/service/events</code>, <code>/service/jobs/NUMBER/events</code>. A finished run as "
        "a tar file: <code>/service/jobs/NUMBER/run</code>.</p>"
        f"<table>{''.join(rows)}</table></body></html>"
    )


def _body_of(described):
    schema = described.get("requestBody", {}).get("content", {}).get("application/json", {})
    properties = schema.get("schema", {}).get("properties", {})
    return "; ".join(
        f"<code>{html.escape(name)}</code>: {html.escape(facts['description'])}"
        for name, facts in properties.items()
    )
