"""The tab "Gradient flow" in a real browser: how soon it shows runs, how it scrolls, what it takes.

First the three runs of `make train`: from the page's start to the answer, without a click. Then
many runs: from the answer of TensorBoard's own list of runs to the first tiles, frames a second
while scrolling, and memory of the server's process beyond what it had before the tab was opened.
Beside them TensorBoard's own tabs, each to the first answer that it draws from, which is before
anything is to be seen. Needs Chromium and its driver.
"""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil
from _common import run, spread
from _many_runs import write_runs
from selenium import webdriver
from selenium.webdriver.support.wait import WebDriverWait

from mnist_vg import SUITES
from mnist_vg.driver import train_all

SECONDS_TO_ANSWER, SECONDS_TO_TILES, FRAMES, MEGABYTES = 3, 2, 50, 200
"""What the tab is to reach."""

SECONDS = ".2f"

TAB = "const page = document.querySelector('iframe').contentWindow;"
FIRST_TILE = f"""{TAB}
const [mark] = page.performance.getEntriesByName("first tile");
return mark ? page.performance.timeOrigin + mark.startTime - performance.timeOrigin : null;"""
ANSWER = f"""{TAB}
return page.document.querySelector("aside .symptom") ? performance.now() : null;"""
RESPONSE = """
const loads = performance.getEntriesByType("resource");
const found = loads.find(({name}) => name.includes(arguments[0]));
return found ? found.responseEnd : null;"""
SCROLL = f"""{TAB}
const [pixels, milliseconds, done] = arguments;
const times = [];
const begin = page.performance.now();
const step = (now) => {{
  times.push(now);
  page.scrollBy(0, pixels);
  if (now - begin < milliseconds) page.requestAnimationFrame(step);
  else done([times.length - 1, now - times[0], page.scrollY]);
}};
page.requestAnimationFrame(step);"""
TABS = {
    "the first numbers of Time Series": ("timeseries", "plugin/timeseries/timeSeries"),
    # With many runs it shows no chart before a person has chosen some.
    "the list of charts of Histograms": ("histograms", "plugin/histograms/tags"),
}


def main(rounds: int = 3, runs: int = 1000, layers: int = 50, records: int = 200):
    """Measure with few runs and with many."""
    with tempfile.TemporaryDirectory() as folder:
        few, many = Path(folder, "few"), Path(folder, "many")
        list(train_all(SUITES["tutorial"], few))
        print(f"three runs: from the page's start to the answer (target: {SECONDS_TO_ANSWER} s)")
        with serving(few, 3) as (address, _), browsing() as browser:
            figures = [opened(browser, f"{address}#mnist_vg", ANSWER) for _ in range(rounds)]
            print(f"  {spread(figures, SECONDS)} s")
        start = time.monotonic()
        write_runs(many, runs, layers, records)
        print(f"{runs} runs of {layers} layers by {records} records", end=" ")
        print(f"(written in {time.monotonic() - start:.0f} s)")
        with serving(many, runs) as (address, process), browsing() as browser:
            with_many(browser, address, process, rounds)


def with_many(browser, address: str, process: psutil.Process, rounds: int) -> None:
    """Print what the tab takes with many runs, and TensorBoard's own tabs beside it."""
    before = process.memory_info().rss
    tiles, answers = [], {name: [] for name in TABS}
    for _ in range(rounds):
        first = opened(browser, f"{address}#mnist_vg", FIRST_TILE)
        tiles.append(first - browser.execute_script(RESPONSE, "data/runs") / 1000)
        for name, (tab, route) in TABS.items():
            answers[name].append(opened(browser, f"{address}#{tab}", RESPONSE, route))
    print(
        f"  from TensorBoard's list of runs to the first tiles: {spread(tiles, SECONDS)} s", end=" "
    )
    print(f"(target: {SECONDS_TO_TILES} s)")
    for name, figures in answers.items():
        print(f"  from the page's start to {name}: {spread(figures, SECONDS)} s")
    opened(browser, f"{address}#mnist_vg", FIRST_TILE)
    frames, milliseconds, pixels = browser.execute_async_script(SCROLL, 12, 5000)
    print(f"  scrolling: {1000 * frames / milliseconds:.0f} frames a second", end=" ")
    print(f"over {pixels:.0f} pixels (target: {FRAMES})")
    browser.execute_async_script(SCROLL, 400, 20_000)
    grown = (process.memory_info().rss - before) / 1e6
    print(f"  the server's process has grown by {grown:.0f} MB (target: {MEGABYTES})")


def opened(browser, address: str, script: str, *arguments) -> float:
    """Open a page anew; the seconds from its start that a script returns once it is there."""
    browser.get("about:blank")
    browser.get(address)
    wait = WebDriverWait(browser, 120, poll_frequency=0.02, ignored_exceptions=[Exception])
    return wait.until(lambda driver: driver.execute_script(script, *arguments)) / 1000


@contextlib.contextmanager
def serving(logdir: Path, runs: int):
    """TensorBoard on a log, once it has read all runs: its address and its process."""
    command = [sys.executable, "-m", "mnist_vg", "board", "--logdir", str(logdir)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as board:
        address = next(
            found[1] for line in board.stdout if (found := re.search(r"(http://[^\s#]+)", line))
        )
        try:
            _wait_for(address, runs)
            yield address, psutil.Process(board.pid)
        finally:
            board.terminate()


def _wait_for(address, runs):
    """Wait until TensorBoard has read the last facts of all runs."""
    while True:
        with urllib.request.urlopen(f"{address}data/plugin/mnist_vg/runs") as answer:
            found = json.load(answer)["runs"]
        if sum(each["state"] == "finished" for each in found) >= runs:
            return
        time.sleep(1)


@contextlib.contextmanager
def browsing():
    """Chromium without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
    for flag in (*flags, "--window-size=1366,768"):
        options.add_argument(flag)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with webdriver.Chrome(options, service) as browser:
        browser.set_script_timeout(60)
        yield browser


SMOKE = {"rounds": 1, "runs": 3, "layers": 2, "records": 4}

if __name__ == "__main__":
    run(main, __doc__, takes="six minutes", smoke=SMOKE)
