"""Chromium and Firefox, driven alike through WebDriver BiDi (https://w3c.github.io/webdriver-bidi).

Debian has no driver for Firefox, which speaks BiDi itself.
"""

import base64
import contextlib
import io
import itertools
import json
import re
import shutil
import subprocess
import time
import urllib.request

import matplotlib.image
import numpy as np
import pytest
import websocket

SECONDS = 30
"""How long to wait for a page that computes on a busy machine."""

KEYS = {
    "Tab": "\ue004",
    "Enter": "\ue007",
    "Shift": "\ue008",
    "Escape": "\ue00c",
    "Space": " ",
    "ArrowLeft": "\ue012",
    "ArrowUp": "\ue013",
    "ArrowRight": "\ue014",
    "ArrowDown": "\ue015",
}
"""Codes of keys without a character (https://w3c.github.io/webdriver/#keyboard-actions)."""


class Browser:
    """A browser that listens at the address of a websocket.

    Args:
        name: for messages.
        address: of the websocket.
        profile: its folder, which gets the files that it saves.
        session: whether a session is yet to begin.
    """

    def __init__(self, name, address, profile, session=True):
        self.name = name
        self.said = []
        self.saved = profile / "saved"
        self.saved.mkdir()
        self._socket = websocket.create_connection(address, timeout=60, suppress_origin=True)
        self._numbers = itertools.count(1)
        if session:
            self.ask("session.new", capabilities={})
        self.ask("session.subscribe", events=["log.entryAdded"])
        where = {"type": "allowed", "destinationFolder": str(self.saved)}
        self.ask("browser.setDownloadBehavior", downloadBehavior=where)

    def ask(self, method, **parameters):
        """The answer to a command; what the browser tells in between is kept in `said`."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message["type"] == "event":
                self.said.append(message["params"])
            elif message["id"] == number:
                break
        if message["type"] == "error":
            raise RuntimeError(f"{self.name}, {method}: {message['error']}: {message['message']}")
        return message["result"]

    @contextlib.contextmanager
    def window(self, width=1366, height=768):
        """A new window, in which nothing may go wrong."""
        context = self.ask("browsingContext.create", type="tab")["context"]
        window = Window(self, context)
        window.size(width, height)
        self.said.clear()
        try:
            yield window
        finally:
            self.ask("browsingContext.close", context=context)
        errors = [said["text"] for said in self.said if said["level"] == "error"]
        # Behind a path prefix, TensorBoard does not find its own fonts.
        if errors := [words for words in errors if "downloadable font" not in words]:
            raise AssertionError(f"{self.name} had errors: {errors}")


FIND = """
const named = (element) => {
  const [label] = element.labels ?? [];
  const own = label && [...label.childNodes].filter(({ nodeType }) => nodeType === Node.TEXT_NODE);
  const text = own ? own.map(({ data }) => data).join(" ") : element.textContent;
  return (element.ariaLabel ?? text).trim().replace(/\\s+/g, " ");
};
const find = (selector, name) => {
  const found = [...document.querySelectorAll(selector)].filter((each) => each.checkVisibility());
  return found.find((element) => !name || named(element) === name);
};
"""
"""`find` an element that can be seen, by selector and by what a screen reader calls it."""


class Window:
    """A page, and the first frame in it."""

    def __init__(self, browser, context):
        self.browser = browser
        self.context = context

    def open(self, address):
        """Load a page; of one that differs only behind the #, load it anew."""
        self._ask("browsingContext.navigate", url="about:blank", wait="complete")
        self._ask("browsingContext.navigate", url=address, wait="complete")

    def go(self, fragment):
        """Change what stands behind the # in the address."""
        self.run("(fragment) => { location.hash = fragment; }", fragment, frame=False)

    def address(self):
        """What stands in the address bar."""
        return self.run("() => location.href", frame=False)

    def back(self):
        """Go back in the window's history."""
        self._ask("browsingContext.traverseHistory", delta=-1)

    def size(self, width, height):
        """Set what the page is given, in CSS pixels."""
        self._ask("browsingContext.setViewport", viewport={"width": width, "height": height})

    def run(self, function, *arguments, frame=True):
        """What a JavaScript function returns, in the frame or in the page; it may `find`."""
        answer = self._ask(
            "script.callFunction",
            functionDeclaration="async (given) => {"
            f"{FIND} return JSON.stringify(await ({function})(...JSON.parse(given)) ?? null);}}",
            arguments=[{"type": "string", "value": json.dumps(arguments)}],
            target={"context": self.frame() if frame else self.context},
            awaitPromise=True,
        )
        if answer["type"] == "exception":
            raise RuntimeError(f"{function}: {answer['exceptionDetails']['text']}")
        return json.loads(answer["result"]["value"])

    def wait(self, function, *arguments, frame=True, seconds=SECONDS):
        """The first answer of a JavaScript function that is true; a page may load meanwhile."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            said = None
            try:
                if found := self.run(function, *arguments, frame=frame):
                    return found
            except (RuntimeError, LookupError) as error:
                said = error
            time.sleep(0.05)
        raise AssertionError(
            f"{self.browser.name} waited in vain for {function} with {arguments}"
        ) from said

    def frame(self):
        """The context of the frame in the page."""
        [page] = self.browser.ask("browsingContext.getTree", root=self.context)["contexts"]
        return page["children"][0]["context"]

    def text(self, selector, name=None):
        """What stands in an element, once it is there."""
        return self.wait(f"({NAMED}) => find({NAMED})?.textContent.trim()", selector, name)

    def wait_for_text(self, words, selector, name=None):
        """Wait until these words stand in an element."""
        self.wait(
            f"(words, {NAMED}) => find({NAMED})?.textContent.includes(words)", words, selector, name
        )

    def focus(self, selector, name=None):
        """Put the focus on an element of the frame, once it is there."""
        self.wait(
            f"({NAMED}) => {{ window.focus(); find({NAMED}).focus(); return true; }}",
            selector,
            name,
        )

    def press(self, *keys):
        """Press keys, one after the other; "Shift+Tab" holds the first."""
        actions = []
        for key in keys:
            codes = [KEYS.get(part, part) for part in (key.split("+") if len(key) > 1 else [key])]
            actions += [{"type": "keyDown", "value": code} for code in codes]
            actions += [{"type": "keyUp", "value": code} for code in reversed(codes)]
        self._perform({"type": "key", "id": "keyboard", "actions": actions})

    def point(self, selector, name=None, at=(0.5, 0.5), then=()):
        """Move the pointer to a place in an element of the frame, as shares of its size."""
        move = self._move(selector, name, at)
        self._perform({"type": "pointer", "id": "mouse", "actions": [move, *then]})

    def click(self, selector, name=None, at=(0.5, 0.5)):
        """Click on an element, once it is there."""
        self.point(selector, name, at, [PRESS, RELEASE])

    def drag(self, selector, start, end):
        """Move the pointer from a place to another with its button down."""
        then = [PRESS, self._move(selector, None, end), RELEASE]
        self.point(selector, None, start, then)

    def choose(self, name, value):
        """Choose an option of a list."""
        self.wait(
            "(name, value) => { const list = find('select', name); list.value = value;"
            "list.dispatchEvent(new Event('change', { bubbles: true }));"
            "return list.value === value; }",
            name,
            value,
        )

    def save(self, selector, name):
        """Click on what saves a file, and return the file's path once it is whole."""
        before = set(self.browser.saved.iterdir())
        self.click(selector, name)
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            files = set(self.browser.saved.iterdir())
            unfinished = any(path.suffix in (".part", ".crdownload") for path in files)
            if files > before and not unfinished:
                [path] = files - before
                return path
            time.sleep(0.05)
        raise AssertionError(f"{self.browser.name} has saved nothing")

    def picture(self):
        """What is on the screen: red, green and blue of each pixel, from 0 to 255."""
        data = self._ask("browsingContext.captureScreenshot")["data"]
        pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(data)))
        return np.rint(255 * pixels[..., :3]).astype(int)

    def _move(self, selector, name, at):
        x, y = self.wait(PLACE, selector, name, *at)
        return {"type": "pointerMove", "x": round(x), "y": round(y), "origin": "viewport"}

    def _perform(self, source):
        self.browser.ask("input.performActions", context=self.frame(), actions=[source])

    def _ask(self, method, **parameters):
        if "target" not in parameters:
            parameters["context"] = self.context
        return self.browser.ask(method, **parameters)


PRESS, RELEASE = ({"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp"))

NAMED = "selector, name"

PLACE = f"""({NAMED}, across, down) => {{
  const element = find({NAMED});
  element.scrollIntoView({{ block: "nearest" }});
  const {{ left, top, width, height }} = element.getBoundingClientRect();
  return [left + across * width, top + down * height];
}}"""


@contextlib.contextmanager
def chromium(profile):
    """Chromium through its driver, or a skipped test where there is none."""
    skip_without("chromium", "chromedriver")
    arguments = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--force-color-profile=srgb",
        f"--user-data-dir={profile}",
    ]
    options = {"binary": shutil.which("chromium"), "args": arguments}
    wanted = {"webSocketUrl": True, "goog:chromeOptions": options}
    with running("chromedriver", "--port=0") as driver:
        port = told(driver, r"started successfully on port (\d+)")
        session = f"http://localhost:{port}/session"
        given = json.dumps({"capabilities": {"alwaysMatch": wanted}}).encode()
        with urllib.request.urlopen(session, given) as answer:
            found = json.load(answer)["value"]
        try:
            yield Browser("Chromium", found["capabilities"]["webSocketUrl"], profile, False)
        finally:
            request = urllib.request.Request(f"{session}/{found['sessionId']}", method="DELETE")
            urllib.request.urlopen(request).close()


@contextlib.contextmanager
def firefox(profile):
    """Firefox, or a skipped test where there is none."""
    skip_without("firefox-esr")
    options = ["--headless", "--remote-debugging-port=0", "--profile", str(profile)]
    with running("firefox-esr", *options) as process:
        address = told(process, r"BiDi listening on (ws://\S+)")
        yield Browser("Firefox", f"{address}/session", profile)


BROWSERS = {"chromium": chromium, "firefox": firefox}


def skip_without(*programs):
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"no {program} on this machine")


@contextlib.contextmanager
def running(*command):
    """A process that ends with the block; what it says can be read line by line."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def told(process, pattern):
    """The first match in what a process says."""
    for line in process.stdout:
        if found := re.search(pattern, line):
            return found[1]
    raise RuntimeError(f"{process.args[0]} has ended with {process.wait()}")
