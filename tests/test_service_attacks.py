"""The training service under attack: what each attack gets, and that others still get answers."""

import contextlib
import json
import os
import re
import socket
import stat
import time

import psutil
import pytest
from services import service

from mnist_vg.service import connection, guard
from mnist_vg.service.service import ADDRESS_FILE, FOLDER

QUICK = {"dataset": "digits", "num_layers": 2, "iterations": 20, "log_every": 10}
WATCHERS = 20


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    logdir = tmp_path_factory.mktemp("attacked")
    with service(logdir, "--most-watchers", str(WATCHERS), "--most-waiting", "30") as served:
        yield served
        # Whatever was tried, no request broke the service half way.
        assert served.end() == ""


@pytest.fixture(autouse=True)
def _others_get_answers(served):
    """After each attack: nothing was begun, and an honest client is answered at once."""
    before = served.get("jobs").text
    yield
    begun = time.monotonic()
    assert served.get("jobs").text == before
    assert time.monotonic() - begun < 1


def submit(served, headers, method="POST", path="/service/jobs", body=None):
    content = json.dumps(body or {"settings": QUICK}).encode()
    return served.request(method, path, content, headers)


# Who asks.


def test_without_a_token_there_is_no_answer(served):
    paths = ["/", "/service/", "/service/jobs", "/service/events", "/service/openapi.json"]
    paths += ["/data/runs", "/data/plugin/mnist_vg/runs", "/no/such/path"]
    for path in paths:
        answer = served.request("GET", path)
        assert (answer.code, answer.text.partition(":")[0]) == (403, "token"), path
        assert served.token not in answer.text
        assert "set-cookie" not in answer.headers
    assert submit(served, {"Content-Type": "application/json"}).code == 403


def test_a_wrong_token_is_refused(served):
    half, name = served.token[: len(served.token) // 2], f"mnist_vg_{served.port}"
    for wrong in ("", "x", half, served.token + "x", served.token.swapcase(), "\xff" * 43):
        for headers in (
            {"Authorization": f"Bearer {wrong}"},
            {"Authorization": f"Basic {served.token}"},
            {"Authorization": served.token},
            {"Cookie": f"{name}={wrong}"},
            {"Cookie": f"other={served.token}"},
        ):
            as_json = {**headers, "Content-Type": "application/json"}
            assert submit(served, as_json).code == 403, headers
        assert served.request("GET", f"/?token={wrong.encode().hex()}").code == 403


def test_a_token_in_the_address_changes_nothing(served):
    """It is in the history of a browser, and a form of another page can have it."""
    headers = {"Content-Type": "application/json"}
    assert submit(served, headers, path=f"/service/jobs?token={served.token}").code == 403


def test_the_token_of_an_earlier_start_is_refused(tmp_path):
    with service(tmp_path) as first:
        pass
    with service(tmp_path, port=first.port) as second:
        assert second.token != first.token
        assert second.request("GET", "/service/jobs", headers=first.bearer).code == 403
        cookie = {"Cookie": f"mnist_vg_{second.port}={first.token}"}
        assert second.request("GET", "/service/jobs", headers=cookie).code == 403


def test_the_printed_link_sets_a_cookie_for_this_page_alone(served):
    answer = served.request("GET", f"/?token={served.token}")
    assert (answer.code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    flags = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert flags == {"httponly", "samesite=strict", "path=/"}
    name, _, value = cookie.partition(";")[0].partition("=")
    assert (name, value) == (f"mnist_vg_{served.port}", served.token)
    assert served.request("GET", "/service/jobs", headers={"Cookie": f"{name}={value}"}).code == 200
    behind_tls = {"X-Forwarded-Proto": "https"}
    secure = served.request("GET", f"/?token={served.token}", headers=behind_tls)
    assert "; secure" in secure.headers["set-cookie"].lower()


def test_the_link_leads_to_no_other_site(served):
    answer = served.request("GET", f"//example.org/?token={served.token}")
    assert (answer.code, answer.headers["location"]) == (303, "/example.org/")


def test_a_name_that_only_resolves_to_this_machine_is_refused(served):
    """DNS rebinding: the browser takes the service for a page of the attacker's."""
    port = served.port
    hosts = ["evil.example", f"evil.example:{port}", "localhost", f"localhost:{port}.evil.example"]
    for host in [*hosts, "", f"localhost:{port}@evil.example", f"127.0.0.1:{port + 1}"]:
        headers = {**served.as_json, "Host": host}
        assert submit(served, headers).code == 421, host
        assert served.request("GET", "/service/jobs", headers=headers).code == 421
    assert served.request("GET", "/service/limits", headers=served.bearer).code == 200


ELSEWHERE = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://["},
    {"Origin": "http://localhost:1"},
    {"Origin": "http://localhost"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "script"},  # Another port.
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
]


@pytest.mark.parametrize("headers", ELSEWHERE, ids=str)
def test_another_page_can_neither_start_nor_read_anything(served, headers):
    cookie = {"Cookie": f"mnist_vg_{served.port}={served.token}"}
    sent = {**cookie, **headers}
    assert submit(served, {**sent, "Content-Type": "application/json"}).code == 403
    answer = served.request("GET", "/service/jobs", headers=sent)
    assert (answer.code, answer.text) == (403, "origin: this comes from another page")


def test_the_own_page_and_links_to_it_are_answered(served):
    cookie = {"Cookie": f"mnist_vg_{served.port}={served.token}"}
    for headers in (
        {"Origin": f"http://{served.host}", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"},
    ):
        assert served.request("GET", "/service/jobs", headers={**cookie, **headers}).code == 200
    form = b'--x\r\nContent-Disposition: form-data; name="requests"\r\n\r\n[]\r\n--x--\r\n'
    headers = {**cookie, "Content-Type": "multipart/form-data; boundary=x"}
    path = "/data/plugin/timeseries/timeSeries"  # TensorBoard's own pages send forms.
    assert served.request("POST", path, form, headers).code == 200


# What is asked.


def test_what_is_only_read_changes_nothing(served):
    paths = ["jobs/1/stop", "jobs/1/continue", "jobs/1/move", "jobs?settings=%7B%7D"]
    for path in paths:
        for method in ("GET", "HEAD"):
            answer = served.request(method, f"/service/{path}", headers=served.bearer)
            assert answer.code in (404, 405) or path.startswith("jobs?"), path
    for method in ("PUT", "PATCH", "OPTIONS", "TRACE", "DELETE"):
        assert submit(served, served.as_json, method).code in (404, 405)


FORMS = ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", ""]


@pytest.mark.parametrize("kind", [*FORMS, "text/json", "application/jsonp", "application/json+x"])
def test_a_form_is_refused(served, kind):
    headers = {**served.bearer, "Content-Type": kind} if kind else served.bearer
    for path in ("/service/jobs", "/service/jobs/1/stop", "//service/jobs", "/service/./jobs"):
        assert submit(served, headers, path=path).code in (404, 405, 415), path


NAMES = [
    "../outside",
    "..",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "a\x00b",
    "a\n",
    " a",
    ".hidden",
    FOLDER,
    "~root",
    "a" * 101,
    "\ud800",
    "a\u202eb",
    "a%2fb",
    "CON:",
    "$(id)",
    "-rf",
    "\u5b57" * 100,  # A disk holds no name of 300 bytes.
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_that_is_no_name_of_a_folder_is_refused(served, name):
    for kind in ("train", "sweep"):
        answer = served.post("jobs", {"settings": {**QUICK, "name": name}, "kind": kind})
        assert (answer.code, answer.json["setting"]) == (400, "name")
    answer = served.post("jobs", {"kind": "cure", "run": name})
    assert answer.code == 400
    assert answer.json["setting"] in ("run", "scenario")
    assert sorted(path.name for path in served.logdir.iterdir()) == [FOLDER]


PATHS = [
    "/service/jobs/../../../etc/passwd",
    "/service/jobs/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/service/jobs/1%00",
    "/service/jobs/-1",
    "/service/jobs/" + "9" * 30,
    "/service/jobs/" + "9" * 5000,
    "/service/jobs/1/run/../../../queue.sqlite3",
    f"/{FOLDER}/{ADDRESS_FILE}",
    "/static/../../service.json",
    "/data/plugin/mnist_vg/static/..%2f..%2fboard_plugin.py",
    "/data/plugin/mnist_vg/static/%2fetc%2fpasswd",
    "/%ff%fe",
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:40])
def test_no_path_leads_out(served, path):
    answer = served.request("GET", path, headers=served.bearer)
    assert answer.code in (400, 404), path
    assert served.token not in answer.text
    assert "root:" not in answer.text


BODIES = {
    "not JSON": b"{",
    "not an object": b"[1]",
    "not text": b"\xff\xfe\xfd",
    "deep": b"[" * 60_000,
    "deep settings": b'{"settings": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
    "number of many digits": b'{"settings": {"iterations": 1' + b"0" * 60_000 + b"}}",
    "number of 4000 digits": b'{"settings": {"seed": 1' + b"0" * 4000 + b"}}",
    "float of 400 digits": b'{"settings": {"learning_rate": 1' + b"0" * 400 + b"}}",
    "infinite": b'{"settings": {"learning_rate": 1e999}}',
    "NaN": b'{"settings": {"learning_rate": NaN}}',
    "settings that are a list": b'{"settings": [1]}',
    "settings that are null": b'{"settings": null}',
    "unknown setting": b'{"settings": {"command": "rm -rf /"}}',
    "half a character as a setting": b'{"settings": {"\\ud800": 1}}',
    "dunder": b'{"settings": {"__class__": {"__init__": 1}}}',
    "about": b'{"settings": {"about": "<script>"}}',
    "unknown kind": b'{"kind": "eval", "settings": {}}',
    "kind of many": b'{"kind": ["train"], "settings": {}}',
    "many seeds": b'{"kind": "cure", "run": "relu", "seeds": 1000000}',
    "seeds in words": b'{"kind": "cure", "run": "relu", "seeds": "3"}',
    "run that is a list": b'{"kind": "cure", "run": ["relu"]}',
    "run elsewhere": b'{"kind": "cure", "run": "../../etc"}',
    "absolute run": b'{"kind": "cure", "run": "/etc"}',
    "values that are text": b'{"kind": "sweep", "vary": "seed=1"}',
    "values that are numbers": b'{"kind": "sweep", "vary": [1]}',
    "many values": b'{"kind": "sweep", "vary": ["num_layers=1:1000:1"], "seeds": 2}',
    "many ranges": b'{"kind": "sweep", "vary": ["kernel_initializer=random_normal('
    + b"stddev=1:1000:1," * 100
    + b')"]}',
    "ranges of long numbers": b'{"kind": "sweep", "vary": ["num_layers=1e3000:1e3000:1"]}',
    "long number": b'{"kind": "sweep", "vary": ["num_layers=' + b"1" * 60_000 + b'"]}',
    "number of 2000 digits": b'{"kind": "sweep", "vary": ["num_layers=' + b"1" * 1900 + b'"]}',
    "many short ranges": b'{"kind": "sweep", "vary": ["activation=' + b"1:1:1 " * 300 + b'"]}',
    "many commas": b'{"kind": "sweep", "vary": ["activation=' + b"," * 1900 + b'"]}',
    "many fields": b'{"kind": "sweep", "vary": [' + b'"num_layers=1:900:1",' * 2000 + b'"x=1"]}',
    "text of many characters": b'{"settings": {"dataset": "' + b"x" * 60_000 + b'"}}',
    "seeds of 4300 digits": b'{"kind": "sweep", "vary": ["num_layers=1:11:1"], "seeds": '
    + b"9" * 4300
    + b"}",
    "seeds that are true": b'{"kind": "sweep", "vary": ["num_layers=1,2"], "seeds": true}',
    "nothing varied": b'{"kind": "sweep"}',
    "half a character as a value": b'{"kind": "sweep", "vary": ["activation=\\ud800"]}',
    "values that cannot be together": b'{"kind": "sweep", "vary": ["output=sigmoid_twice,'
    b'softmax", "num_layers=1,2"]}',
    "seeds of a sweep in words": b'{"kind": "sweep", "vary": ["num_layers=1,2"], "seeds": "3"}',
    "seeds of a sweep without end": b'{"kind": "sweep", "seeds": 1e999}',
    "deep initializer": b'{"settings": {"kernel_initializer": "' + b"(" * 60_000 + b'"}}',
    "negated initializer": b'{"settings": {"kernel_initializer": "constant(value='
    + b"-" * 60_000
    + b'1)"}}',
    "added initializer": b'{"settings": {"kernel_initializer": "' + b"1+" * 30_000 + b'1"}}',
    "long word": b'{"settings": {"activation": "' + b"relu" * 15_000 + b'"}}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_makes_no_sense_gets_one_line(served, body):
    begun = time.monotonic()
    answer = served.post("jobs", body)
    assert answer.code == 400
    assert "\n" not in answer.text
    assert "Traceback" not in answer.text
    assert time.monotonic() - begun < 2


VALUES = [None, True, -1, 0, 1.5, 10**18, 1e308, "", "x", "\x00", [], [1], {}, {"a": 1}]


def test_no_value_of_a_setting_breaks_the_service(served):
    fields = [field["name"] for field in served.get("fields").json["fields"]]
    for name in fields:
        for value in VALUES:
            # The last one is wrong, so that none is begun.
            answer = served.post("jobs", {"settings": {**QUICK, name: value, "data_seed": -1}})
            assert answer.code == 400, (name, value, answer.text)


def test_no_more_jobs_wait_than_allowed(served):
    begun = [served.post("jobs", {"settings": {**QUICK, "iterations": 1_000_000, "name": "first"}})]
    served.wait(begun[0].json["number"], "training")
    for number in range(40):
        begun.append(served.post("jobs", {"settings": {**QUICK, "name": f"job{number}"}}))
    codes = [answer.code for answer in begun]
    assert codes == [200] * 31 + [503] * 10, begun[-1].text
    assert begun[-1].json["error"].startswith("queue: this service lets at most 30 jobs wait")
    for answer in begun[1:31] + begun[:1]:
        number = answer.json["number"]
        served.post(f"jobs/{number}/stop", {})
        assert served.wait(number)["state"] == "stopped"
        name = answer.json["name"]
        assert served.post(f"jobs/{number}", {"name": name}, method="DELETE").code == 200


# How much, and how slowly.


class Raw:
    """A connection to which anything can be sent."""

    def __init__(self, served):
        self.socket = socket.create_connection(("127.0.0.1", served.port), timeout=30)

    def send(self, text):
        self.socket.sendall(text if isinstance(text, bytes) else text.encode())

    def code(self):
        """The code of the answer; None if the connection was closed without one."""
        with contextlib.suppress(ConnectionError):
            found = re.match(rb"HTTP/1.1 (\d+)", self.socket.recv(1000))
            return int(found[1]) if found else None
        return None

    def close(self):
        self.socket.close()


@pytest.fixture
def raw(served):
    raw = Raw(served)
    yield raw
    raw.close()


def head(served, *lines, path="/service/jobs", token=True):
    lines = [f"POST {path} HTTP/1.1", f"Host: {served.host}", *lines]
    lines += ["Content-Type: application/json"]
    if token:
        lines.append(f"Authorization: Bearer {served.token}")
    return "\r\n".join(lines) + "\r\n\r\n"


MEGABYTES = 100


@pytest.mark.parametrize("path", ["/service/jobs", "/data/runs"])
@pytest.mark.parametrize("token", [True, False], ids=["token", "no token"])
@pytest.mark.parametrize("length", [True, False], ids=["Content-Length", "chunked"])
def test_a_body_of_100_megabytes_is_refused(served, raw, path, token, length):
    process = psutil.Process(served.process.pid)
    before = process.memory_info().rss
    line = f"Content-Length: {MEGABYTES << 20}" if length else "Transfer-Encoding: chunked"
    raw.send(head(served, line, path=path, token=token))
    part = bytes(1 << 20)
    with contextlib.suppress(ConnectionError):
        for _ in range(MEGABYTES):
            raw.send(part if length else b"100000\r\n" + part + b"\r\n")
    assert raw.code() == (413 if length or token else 403)
    assert process.memory_info().rss - before < 20 << 20


def test_lengths_that_are_none_are_refused(served):
    for line in ("Content-Length: -1", "Content-Length: 9" + "9" * 5000, "Content-Length: 1, 2"):
        raw = Raw(served)
        raw.send(head(served, line))
        assert raw.code() in (400, 413)
        raw.close()


def test_a_head_without_end_is_refused(served, raw):
    raw.send(f"GET / HTTP/1.1\r\nHost: {served.host}\r\nX: " + "x" * 200_000)
    assert raw.code() == 400


def trickle(raw, seconds):
    """Send a byte a second, until the connection ends; return after how long, and the answer."""
    begun = time.monotonic()
    raw.socket.settimeout(1)
    while time.monotonic() - begun < seconds:
        try:
            raw.send("x")
            answer = raw.socket.recv(1000)
            return time.monotonic() - begun, answer[:12]
        except TimeoutError:
            continue
        except ConnectionError:
            break
    return time.monotonic() - begun, b""


def test_clients_that_are_slow_are_not_waited_for(served):
    """All at the same time, since each takes ten seconds."""
    silent, slow_head, slow_body, second = (Raw(served) for _ in range(4))
    slow_head.send(f"GET / HTTP/1.1\r\nHost: {served.host}\r\nX: ")
    slow_body.send(head(served, "Content-Length: 1000"))
    second.send(f"GET /service/limits HTTP/1.1\r\nHost: {served.host}\r\n\r\n")
    assert second.code() == 403
    second.send("GET / HTTP/1.1\r\nX: ")  # Its second request never ends.
    seconds, answer = trickle(slow_body, guard.BODY_SECONDS + 5)
    assert (seconds < guard.BODY_SECONDS + 3, answer) == (True, b"HTTP/1.1 408")
    for raw in (silent, slow_head, second):
        raw.socket.settimeout(connection.REQUEST_SECONDS)
        assert raw.code() is None
        raw.close()
    slow_body.close()


def test_a_body_that_breaks_off_is_not_carried_out(served):
    whole = json.dumps({"settings": QUICK}).encode()
    for line, part in (
        (f"Content-Length: {len(whole) + 10}", whole),
        ("Transfer-Encoding: chunked", b"%x\r\n%s\r\n" % (len(whole), whole)),
    ):
        raw = Raw(served)
        raw.send(head(served, line).encode() + part)
        time.sleep(0.1)
        raw.close()


def test_of_1000_clients_that_wait_for_events_few_do_and_others_get_answers(served):
    process = psutil.Process(served.process.pid)
    before = process.num_fds()
    asked = f"GET /service/events HTTP/1.1\r\nHost: {served.host}\r\n"
    asked += f"Authorization: Bearer {served.token}\r\n\r\n"
    clients = [Raw(served) for _ in range(1000)]
    for client in clients:
        client.send(asked)
    codes = [client.code() for client in clients]
    assert codes.count(200) == WATCHERS
    assert codes.count(503) == 1000 - WATCHERS
    begun = time.monotonic()
    assert served.get("jobs").code == 200
    assert time.monotonic() - begun < 1
    assert process.num_fds() < before + WATCHERS + 30
    for client in clients:
        client.close()
    deadline = time.monotonic() + 10
    again = 503
    while again == 503 and time.monotonic() < deadline:
        waits = Raw(served)
        waits.send(asked)
        again = waits.code()
        waits.close()
    assert again == 200, "a client that has left still counts"


def test_of_connections_without_a_request_there_is_an_end(served):
    """More than the service may have open are closed at once, and the others in time."""
    process = psutil.Process(served.process.pid)
    most = process.rlimit(psutil.RLIMIT_NOFILE)[0]
    before = process.num_fds()
    clients = []
    with contextlib.suppress(OSError):
        clients = [Raw(served) for _ in range(min(3000, most // 2 - 100))]
    assert served.get("jobs").code == 200
    deadline = time.monotonic() + connection.REQUEST_SECONDS + 5
    while process.num_fds() > before + 20:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    for client in clients:
        client.close()


def test_a_websocket_is_not_opened(served, raw):
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    raw.send(f"GET / HTTP/1.1\r\nHost: {served.host}\r\n{upgrade}Sec-WebSocket-Key: AA==\r\n\r\n")
    assert raw.code() == 403


# What lies about, and what listens.


def test_only_this_user_can_read_the_token_and_the_queue(served):
    folder = served.logdir / FOLDER
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    path = folder / ADDRESS_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["token"] == served.token
    processes = [psutil.Process(served.process.pid)]
    processes += processes[0].children(recursive=True)
    for process in processes:
        assert served.token not in " ".join(process.cmdline())
        assert served.token not in str(process.environ())


def test_the_token_file_goes_with_the_service_and_a_link_in_its_place_is_not_followed(tmp_path):
    (tmp_path / "logs" / FOLDER).mkdir(parents=True, mode=0o777)
    path = tmp_path / "logs" / FOLDER / ADDRESS_FILE
    path.symlink_to(tmp_path / "mine")
    (tmp_path / "mine").write_text("mine")
    with service(tmp_path / "logs"):
        assert not path.is_symlink()
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (tmp_path / "mine").read_text() == "mine"
    assert not os.path.lexists(path)


def listening(process):
    found = [c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    return {(each.laddr.ip, each.laddr.port) for each in found}


def test_nothing_listens_beyond_loopback(served):
    """Looked at from outside: one port, and none that would answer without a token."""
    service_itself = psutil.Process(served.process.pid)
    processes = [service_itself, *service_itself.children(recursive=True)]
    assert served.workers()
    assert listening(service_itself) == {("127.0.0.1", served.port)}
    for process in processes[1:]:
        assert listening(process) == set(), process.cmdline()
        assert process.net_connections("udp") == []
