"""The training service: from *Train* to the first record, runs a minute, TensorBoard's answers.

A person presses *Train* in a real browser, and waits until the first record is on the screen: of a
network whose structure the worker has trained before, and of a new one. Runs a minute are those of
many jobs in the queue, beside as many calls of `mnist-vg train` one after the other (a few of them
are measured), and one call that trains them all. TensorBoard's answers are measured on the log of
these jobs, while two workers train. Needs Chromium and its driver.
"""

import contextlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from _common import run, spread
from board import TAB, browsing
from selenium.webdriver.support.wait import WebDriverWait

from mnist_vg import Scenario, connect
from mnist_vg.service import Client

SECONDS_WARM, SECONDS_NEW = 0.5, 4
ONE_BY_ONE, ALL_AT_ONCE = 3, 1.3
ANSWER_MILLISECONDS = 200
"""What the service is to reach."""

FEW = 3
"""Calls of `mnist-vg train` that stand for all of them."""

ROUTES = (
    "data/runs",
    "data/plugins_listing",
    "data/plugin/scalars/tags",
    "data/plugin/histograms/tags",
)
"""What TensorBoard's page asks for."""

PAUSE = 0.1
"""Seconds between two of these requests, so that they meet all that the service does."""

FORM = f"{TAB} return page.document.querySelector('form [name=name]') !== null;"
TRAIN = f"""{TAB}
const [settings, done] = arguments;
const {{ document: inside, performance: clock }} = page;
for (const [name, value] of Object.entries(settings)) {{
  const field = inside.querySelector(`form [name=${{name}}]`);
  field.value = value;
  field.dispatchEvent(new page.Event("input"));
}}
const begin = clock.now();
inside.querySelector("form .main").click();
const look = () => {{
  const jobs = [...inside.querySelectorAll(".job")];
  const canvas = jobs.find((job) => job.dataset.name === settings.name)?.querySelector("canvas");
  const drawn = canvas?.width && canvas.getContext("2d").getImageData(0, 0, 1, 1).data[3];
  if (drawn) done(clock.now() - begin);
  else page.requestAnimationFrame(look);
}};
look();"""


def main(rounds: int = 5, jobs: int = 100):
    """Measure, and print beside each figure what is to be reached."""
    with tempfile.TemporaryDirectory() as folder:
        with serving(Path(folder, "first"), workers=1) as (client, link), browsing() as browser:
            print_first_records(client, link, browser, rounds)
        with serving(Path(folder, "many"), workers=1) as (client, _):
            print_runs_a_minute(client, Path(folder), jobs)
        with serving(Path(folder, "many"), workers=2) as (client, link):
            print_answers(client, link, rounds)


def print_first_records(client: Client, link: str, browser, rounds: int) -> None:
    """Print how long the first record takes to be on the screen."""
    browser.get(f"{link}#mnist_vg&p.mnist_vg.view=training")
    wait = WebDriverWait(browser, 60, ignored_exceptions=[Exception])
    wait.until(lambda driver: driver.execute_script(FORM))
    first_record(client, browser, name="warm-up")
    warm = [first_record(client, browser, name=f"w{n}", seed=n) for n in range(rounds)]
    new = [first_record(client, browser, name=f"n{n}", num_layers=7 + n) for n in range(rounds)]
    print("from *Train* to the first record on the screen, in seconds")
    print(f"  trained before: {spread(warm, '.2f')} (target: {SECONDS_WARM})")
    print(f"  new: {spread(new, '.2f')} (target: {SECONDS_NEW})")


def first_record(client: Client, browser, **settings) -> float:
    """The seconds until the queue shows a record of this network."""
    took = browser.execute_async_script(TRAIN, settings) / 1000
    [job] = [job for job in client.jobs() if job["name"] == settings["name"]]
    client.wait(job["number"])
    return took


def print_runs_a_minute(client: Client, folder: Path, jobs: int) -> None:
    """Print runs a minute: of the queue, of single commands, and of one command."""
    client.wait(client.start(Scenario(name="warm-up", iterations=300))["number"])
    seconds = {}
    start = time.monotonic()
    numbers = [client.start(Scenario(name=f"job{n}", seed=n))["number"] for n in range(jobs)]
    client.wait(numbers[-1])
    seconds["the queue"] = (time.monotonic() - start) / jobs
    start = time.monotonic()
    for n in range(FEW):
        _train(folder / f"single{n}", "--seed", n)
    seconds["mnist-vg train, one by one"] = (time.monotonic() - start) / FEW
    start = time.monotonic()
    _train(folder / "together", "--seeds", jobs)
    seconds["one mnist-vg train"] = (time.monotonic() - start) / jobs
    print(f"runs a minute, of {jobs}")
    for name, of_run in seconds.items():
        print(f"  {name}: {60 / of_run:.1f}")
    queue, single, together = seconds.values()
    print(f"  the queue over one by one: {single / queue:.2f} (target: {ONE_BY_ONE} or more)")
    print(f"  one command over the queue: {queue / together:.2f} (target: {ALL_AT_ONCE} or less)")


def print_answers(client: Client, link: str, rounds: int) -> None:
    """Print how long TensorBoard's own answers take while two workers train."""
    numbers = [
        client.start(Scenario(name=f"long{n}", iterations=200_000, seed=n))["number"]
        for n in (0, 1)
    ]
    while not all(client.job(number)["progress"] for number in numbers):
        time.sleep(0.5)
    base, _, token = link.partition("?token=")
    times = []
    for route in 20 * rounds * ROUTES:
        request = urllib.request.Request(f"{base}{route}")
        request.add_header("Authorization", f"Bearer {token}")
        start = time.monotonic()
        urllib.request.urlopen(request).read()
        times.append(1000 * (time.monotonic() - start))
        time.sleep(PAUSE)
    for number in numbers:
        client.stop(number)
    print("an answer of TensorBoard while two workers train, in milliseconds")
    print(f"  {spread(times)} (target: {ANSWER_MILLISECONDS})")


@contextlib.contextmanager
def serving(logdir: Path, workers: int) -> Iterator[tuple[Client, str]]:
    """A service on a log folder: a client of it, and its link."""
    command = [sys.executable, "-m", "mnist_vg", "serve", "--workers", str(workers)]
    command += ["--logdir", str(logdir), "--port", "6106"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            link = re.search(r"http://\S+", process.stderr.readline())[0]
            yield _connected(link), link
        finally:
            process.terminate()


def _connected(link):
    while True:
        try:
            return connect(link)
        except ValueError:
            time.sleep(0.2)


def _train(logdir, *options):
    command = [sys.executable, "-m", "mnist_vg", "train", "sigmoid", "--logdir", str(logdir)]
    subprocess.run([*command, *map(str, options)], check=True, capture_output=True)


SMOKE = {"rounds": 1, "jobs": 2}

if __name__ == "__main__":
    run(main, __doc__, takes="four minutes", smoke=SMOKE)
