"""The service's interface over HTTP, and TensorBoard behind it."""

import dataclasses
import io
import tarfile
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from a2wsgi import WSGIMiddleware
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from mnist_vg.errors import UsageError
from mnist_vg.runs.events import event_files
from mnist_vg.runs.folder import CHECKPOINT_FILE
from mnist_vg.runs.run import RUN_FILE
from mnist_vg.scenarios.scenario import setting_fields
from mnist_vg.scenarios.suites import SCENARIOS
from mnist_vg.service.events import Events, EventStream, as_json
from mnist_vg.service.queue import NoSuchJob
from mnist_vg.service.service import Service
from mnist_vg.sweeps.sweep import NOT_VARIED

PREFIX = "/service"
TENSORBOARD_THREADS = 8
"""So many of TensorBoard's answers are computed at a time."""


class Operation(NamedTuple):
    """What the service can be asked for.

    Attributes:
        method: of HTTP.
        path: below `PREFIX`.
        answer: from the service, the parts of the path and the body to what JSON can hold.
        summary: for the interface's description.
        body: name to what it is, for the interface's description.
    """

    method: str
    path: str
    answer: Callable[[Service, dict, dict], Any]
    summary: str
    body: Mapping[str, str] = MappingProxyType({})


REQUEST = MappingProxyType(
    {
        "kind": "train, cure (with the remedies that fit its symptoms), or sweep",
        "settings": "name to value, of train and sweep; see /fields",
        "run": "of cure: the name of a run, or of a named scenario",
        "vary": "of sweep: settings and their values, such as num_layers=2:20:3",
        "seeds": "of each change that a cure tries, or of each combination of a sweep",
    }
)
"""What is asked for, for the interface's description; see `requests.checked`."""


def _submit(service, _, body):
    return service.job(service.submit(body).number)


def _submit_all(service, _, body):
    requests = body.get("requests")
    if not isinstance(requests, list) or not all(isinstance(each, dict) for each in requests):
        raise UsageError("requests: it must be a list of objects")
    return {"jobs": [service.job(job.number) for job in service.submit_all(requests)]}


def _map(service, path, _):
    from mnist_vg.service.sweep_map import sweep_map

    job = service.job(path["number"])
    if job["request"]["kind"] != "sweep":
        raise UsageError(f"job: {job['number']} is no sweep")
    return sweep_map(service.logdir / job["name"])


def _move(service, path, body):
    before = body.get("before")
    if before is not None and not _is_number(before):
        raise UsageError(f"before: {before!r} must be the number of a job, or null")
    return service.job(service.move(path["number"], before).number)


def _remove(service, path, body):
    service.remove(path["number"], body.get("name"))
    return {}


class JobNumber(IntegerConvertor):
    """The number of a job in a path, as far as the queue's file can count."""

    regex = "[0-9]{1,18}"


register_url_convertor("job", JobNumber())
JOB = "/jobs/{number:job}"
OPERATIONS = (
    Operation("GET", "/fields", lambda *_: {"fields": fields()}, "The settings of a scenario"),
    Operation("GET", "/scenarios", lambda *_: {"scenarios": scenarios()}, "The named scenarios"),
    Operation("GET", "/limits", lambda s, *_: dataclasses.asdict(s.limits), "What is taken on"),
    Operation("GET", "/jobs", lambda s, *_: {"jobs": s.jobs()}, "All jobs, in their order"),
    Operation("POST", "/jobs", _submit, "Train a network, or many", REQUEST),
    Operation(
        "POST",
        "/batches",
        _submit_all,
        "Train all of some requests, or none",
        {"requests": "a list of bodies of /jobs"},
    ),
    Operation(
        "POST",
        "/plan",
        lambda s, _, body: s.plan(body),
        "How many networks that trains; nothing is trained",
        REQUEST,
    ),
    Operation("GET", JOB, lambda s, path, _: s.job(path["number"]), "A job"),
    Operation("GET", f"{JOB}/map", _map, "What a sweep has found so far, over its settings"),
    Operation(
        "POST", f"{JOB}/stop", lambda s, path, _: s.job(s.stop(path["number"]).number), "Stop a job"
    ),
    Operation(
        "POST",
        f"{JOB}/continue",
        lambda s, path, _: s.job(s.go_on(path["number"]).number),
        "Go on with a job that was stopped, or failed",
    ),
    Operation(
        "POST",
        f"{JOB}/move",
        _move,
        "Train a job before another one",
        {"before": "the number of the other; null puts the job last"},
    ),
    Operation(
        "DELETE",
        JOB,
        _remove,
        "Remove a job and its run",
        {"name": "of the run, so that none is removed by mistake"},
    ),
)


FILES = {
    f"{JOB}/run": ("A finished run, as a tar file", "application/x-tar"),
    f"{JOB}/events": ("What happens to a job, as it happens", "text/event-stream"),
    "/events": ("What happens, as it happens", "text/event-stream"),
}
"""Paths whose answers are no JSON: what they are, and their media types."""


def make_app(service: Service, events: Events, tensorboard: Callable) -> Starlette:
    """The service, and TensorBoard for everything else.

    Args:
        service: that is asked.
        events: what happens in it.
        tensorboard: TensorBoard's WSGI app.
    """
    from mnist_vg.service.openapi import describe, page

    description = describe(OPERATIONS, FILES)
    routes = [
        *(_route(operation, service) for operation in OPERATIONS),
        Route(f"{PREFIX}{JOB}/run", _run_of(service)),
        Route(f"{PREFIX}{JOB}/events", _watching(service, events)),
        Route(f"{PREFIX}/events", _watching(service, events)),
        Route(f"{PREFIX}/openapi.json", lambda _: JSONResponse(description)),
        Route(f"{PREFIX}/", lambda _: page(description)),
        Mount("/", WSGIMiddleware(tensorboard, workers=TENSORBOARD_THREADS)),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _as_text})


def fields() -> list[dict[str, Any]]:
    """The settings of a scenario, as a form needs them."""
    kinds = {"int": "integer", "float": "number", "bool": "boolean", "str": "string"}
    found = []
    for field in setting_fields():
        name = getattr(field.type, "__name__", str(field.type))
        kind = next((kinds[part] for part in name.split(" | ") if part in kinds), "string")
        found.append(
            {
                "name": field.name,
                "type": kind,
                "optional": "None" in str(field.type),
                "default": field.default,
                "help": field.metadata["help"],
                "varied": field.name not in NOT_VARIED,
                "allowed": getattr(field.metadata["check"], "allowed", None),
            }
        )
    return found


def scenarios() -> list[dict[str, Any]]:
    """The named scenarios, with their settings."""
    return [
        {"name": name, "about": scenario.about, "settings": scenario.settings()}
        for name, scenario in SCENARIOS.items()
    ]


def _route(operation, service):
    async def endpoint(request: Request) -> Response:
        body = await _body(request) if operation.method != "GET" else {}
        try:
            given = service, request.path_params, body
            return JSONResponse(as_json(await run_in_threadpool(operation.answer, *given)))
        except UsageError as error:
            return _refused(error)

    return Route(PREFIX + operation.path, endpoint, methods=[operation.method])


def _refused(error):
    # A name from a request may have half of a character, which no answer can.
    text = str(error).encode("utf-8", "backslashreplace").decode()
    setting = text.partition(": ")[0]
    code = 404 if isinstance(error, NoSuchJob) else 503 if setting == "queue" else 400
    return JSONResponse({"setting": setting, "error": text}, code)


async def _body(request):
    raw = await request.body()
    try:
        body = await request.json() if raw else {}
    except (ValueError, RecursionError):
        raise HTTPException(400, "body: it is not JSON") from None
    if not isinstance(body, dict):
        raise HTTPException(400, "body: it must be a JSON object")
    return body


def _run_of(service):
    async def endpoint(request: Request) -> Response:
        try:
            packed = await run_in_threadpool(_packed, service, request.path_params["number"])
        except UsageError as error:
            return _refused(error)
        return Response(packed, media_type="application/x-tar")

    return endpoint


def _packed(service, number):
    """The files that a run consists of, for a client on another machine."""
    job = service.job(number)
    if not job["done"] or job["request"]["kind"] != "train":
        raise UsageError(f"job: {number} is not a finished run")
    folder, packed = service.logdir / job["name"], io.BytesIO()
    try:
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path in [folder / RUN_FILE, folder / CHECKPOINT_FILE, *event_files(folder)]:
                archive.add(path, path.name)
    except FileNotFoundError:
        raise UsageError(f"job: the run of {number} is no longer there") from None
    return packed.getvalue()


def _watching(service, events):
    async def endpoint(request: Request) -> Response:
        if events.watchers >= service.limits.watchers:
            text = "events: too many clients wait already"
            return PlainTextResponse(text, 503, {"Connection": "close"})
        return EventStream(events, request.path_params.get("number"))

    return endpoint


async def _as_text(request, error):
    return PlainTextResponse(str(error.detail), error.status_code)


def _is_number(value):
    return isinstance(value, int) and not isinstance(value, bool)
