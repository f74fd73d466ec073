"""The training service, in a process of its own."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import psutil
from conftest import COMMAND, PROCESS
from servers import free_port

ENDED = ("finished", "stopped", "failed")


class Answer(NamedTuple):
    code: int
    text: str
    headers: http.client.HTTPMessage

    @property
    def json(self):
        return json.loads(self.text)


class Served:
    """A service that runs: its process, and a client that sends whatever a test wants to."""

    def __init__(self, logdir, port, *options):
        self.logdir, self.port = Path(logdir), port
        self.process = subprocess.Popen(
            [*COMMAND, "serve", "--logdir", str(logdir), "--port", str(port), *options],
            stderr=subprocess.PIPE,
            **PROCESS,
        )
        said = self.process.stderr.readline()
        found = re.search(r" at (http://\S+)/\?token=(\S+) ", said)
        assert found, said + self.process.stderr.read()
        self.url, self.token = found.groups()
        self._wait_until_it_answers()

    def _wait_until_it_answers(self):
        for _ in range(600):
            with contextlib.suppress(OSError):
                if self.get("limits").code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError("the service does not answer")

    def request(self, method, path, body=b"", headers=None, seconds=60) -> Answer:
        """Send exactly this, besides the length of the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, path, body, {"Host": self.host, **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode(), answer.headers)
        finally:
            connection.close()

    @property
    def host(self):
        return f"localhost:{self.port}"

    @property
    def bearer(self):
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def as_json(self):
        return {**self.bearer, "Content-Type": "application/json"}

    def get(self, path) -> Answer:
        return self.request("GET", f"/service/{path}", headers=self.bearer)

    def post(self, path, body, method="POST") -> Answer:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request(method, f"/service/{path}", content, self.as_json)

    def submit(self, scenario, **more) -> int:
        return self.ask(settings=scenario.settings(), **more)

    def ask(self, **request) -> int:
        answer = self.post("jobs", request)
        assert answer.code == 200, answer.text
        return answer.json["number"]

    def job(self, number):
        return self.get(f"jobs/{number}").json

    def wait(self, number, *states, seconds=60):
        """Wait until a job is in one of these states; by default, until it has ended."""
        deadline = time.monotonic() + seconds
        while (job := self.job(number))["state"] not in (states or ENDED):
            assert time.monotonic() < deadline, job
            time.sleep(0.02)
        return job

    def wait_for_step(self, number, step):
        deadline = time.monotonic() + 60
        while (job := self.job(number))["progress"].get("step", -1) < step:
            assert job["state"] in ("waiting", "training"), job
            assert time.monotonic() < deadline, job
            time.sleep(0.01)

    def workers(self):
        """The processes that train."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]

    def kill(self):
        """Kill the service alone, as `kill -9` does."""
        self.process.kill()
        self.process.communicate()

    def end(self):
        """Ctrl-C; return what was printed since the start."""
        self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=30)
        return said


@contextlib.contextmanager
def service(logdir, *options, port=None):
    """Run `mnist-vg serve`."""
    served = Served(logdir, port or free_port(), *options)
    try:
        yield served
    finally:
        if served.process.poll() is None:
            served.end()
        gone = served.process.pid
        assert not os.path.exists(f"/proc/{gone}/task/{gone}/children")
