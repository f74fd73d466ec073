"""`Client`: reaches a service that runs."""

import http.client
import io
import json
import os
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mnist_vg.errors import RunFailed, UsageError
from mnist_vg.runs.run import Run
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.service.queue import ENDED, FINISHED

SECONDS = 60
"""How long an answer may take. Between events, something comes every 15 seconds."""


def connect(url: str | None = None, token: str | None = None, logdir: str = "logdir") -> "Client":
    """A client of a service.

    Args:
        url: its address, as `mnist-vg serve` prints it, with or without the token; default:
            that of the service on `logdir`, on this machine.
        token: of the service, if the address has none; default: the environment variable
            `MNIST_VG_TOKEN`.
        logdir: the log folder of a service of this user on this machine.

    Raises:
        UsageError: no service answers there, or the token is wrong.
    """
    if url is None:
        url, token = _of_logdir(logdir)
    base, _, query = url.partition("?")
    token = token or urllib.parse.parse_qs(query).get("token", [""])[0]
    client = Client(base.rstrip("/"), token or os.environ.get("MNIST_VG_TOKEN", ""))
    client.jobs()
    return client


class Client:
    """Asks a service; made by `connect`."""

    def __init__(self, url: str, token: str):
        self._url, self._token = url, token
        # A proxy is not asked for what is on this machine, and does not learn the token.
        proxies = [urllib.request.ProxyHandler({})] if _is_local(url) else []
        self._opener = urllib.request.build_opener(*proxies)

    def submit(self, scenario: Scenario, logdir: str | os.PathLike | None = None) -> Run:
        """Train a scenario there, and wait for it.

        Args:
            scenario: what to train.
            logdir: the folder for a copy of the run; default: a temporary one.

        Returns:
            The finished run, as `train` returns it.

        Raises:
            UsageError: the service does not take it; nothing is trained.
            RunFailed: the job was stopped, or broke off.
        """
        number = self.start(scenario)["number"]
        job = self.wait(number)
        if job["state"] != FINISHED:
            raise RunFailed(f"job {number} {job['state']}: {job['reason'] or 'it was stopped'}")
        return self.run(number, logdir)

    def start(self, scenario: Scenario) -> dict[str, Any]:
        """Submit a scenario, and do not wait; return the job."""
        return self.ask(settings=scenario.settings())

    def ask(self, **request) -> dict[str, Any]:
        """Submit a request of any kind, and do not wait; return the job.

        Args:
            request: see `requests.checked`; such as `kind="cure", run="sigmoid"`.
        """
        return self._answer("POST", "jobs", request)

    def start_all(self, scenarios: Sequence[Scenario]) -> list[dict[str, Any]]:
        """Submit scenarios, all or none, and do not wait; return the jobs."""
        requests = [{"settings": scenario.settings()} for scenario in scenarios]
        return self._answer("POST", "batches", {"requests": requests})["jobs"]

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, in the order in which they are trained."""
        return self._answer("GET", "jobs")["jobs"]

    def job(self, number: int) -> dict[str, Any]:
        """A job."""
        return self._answer("GET", f"jobs/{number}")

    def stop(self, number: int) -> dict[str, Any]:
        """Stop a job."""
        return self._answer("POST", f"jobs/{number}/stop", {})

    def go_on(self, number: int) -> dict[str, Any]:
        """Go on with a job that was stopped, or failed."""
        return self._answer("POST", f"jobs/{number}/continue", {})

    def wait(self, number: int) -> dict[str, Any]:
        """Wait until a job has ended, and return it."""
        while True:  # A proxy may end a connection first.
            # Ask after the events have begun, so that no end is missed.
            for _ in self._begun(number):
                job = self.job(number)
                if job["state"] in ENDED:
                    return job

    def run(self, number: int, logdir: str | os.PathLike | None = None) -> Run:
        """The run of a finished job, copied here."""
        with self._open("GET", f"jobs/{number}/run") as answer:
            packed = io.BytesIO(answer.read())
        folder = Path(logdir or tempfile.mkdtemp(), self.job(number)["name"])
        with tarfile.open(fileobj=packed) as archive:
            archive.extractall(folder, filter="data")
        return Run.load(folder)

    def events(self, number: int | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Kind and facts of each event, as they happen.

        Args:
            number: of the only job of interest; default: all jobs.
        """
        lines = self._lines(number)
        next(lines, None)  # From here on, no event is missed.
        return _events(lines)

    def _begun(self, number):
        """Once at first, and after each change of state."""
        for line in self._lines(number):
            if line.startswith((": connected", "event: state", "event: removed")):
                yield

    def _lines(self, number):
        with self._open("GET", "events" if number is None else f"jobs/{number}/events") as answer:
            try:
                for line in answer:
                    yield line.decode().rstrip("\n")
            except (OSError, http.client.HTTPException):
                return  # The service has ended, or a proxy has ended the connection.

    def _answer(self, method, path, body=None):
        with self._open(method, path, body) as answer:
            try:
                return json.load(answer)
            except (OSError, ValueError, http.client.HTTPException) as error:
                raise self._no_service(error) from None

    def _open(self, method, path, body=None):
        content = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        try:
            request = urllib.request.Request(
                f"{self._url}/service/{path}", content, headers, method=method
            )
            return self._opener.open(request, timeout=SECONDS)
        except urllib.error.HTTPError as error:
            raise UsageError(_words(error)) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._no_service(getattr(error, "reason", error)) from None

    def _no_service(self, reason):
        return UsageError(
            f"server: no service answers at {self._url} ({reason}); is `mnist-vg serve` running, "
            "and is this the address that it has printed?"
        )


def _events(lines):
    kind = ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


def _is_local(url):
    try:
        return urllib.parse.urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
    except ValueError:  # It is no address.
        return False


def _of_logdir(logdir):
    from mnist_vg.service.service import ADDRESS_FILE, FOLDER

    path = Path(logdir, FOLDER, ADDRESS_FILE)
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        raise UsageError(
            f"server: no service runs on {logdir}; start one with `mnist-vg serve --logdir "
            f"{logdir}`, or give its address"
        ) from None
    return found["url"], found["token"]


def _words(error):
    text = error.read(10_000).decode(errors="replace")
    try:
        return json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return text if "\n" not in text else f"server: {error.code} {error.reason}"
