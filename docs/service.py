"""Take the pictures of the training service for its page, in a real browser.

    .venv/bin/python docs/service.py docs

Lets a service train four networks, and saves what the tab shows while the third one trains; then a
cure and a sweep, and saves the queue. Needs what docs/picture.py needs.
"""

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from pages import run
from selenium import webdriver

from mnist_vg import Scenario, UsageError, connect

SIZE = "1366,820"
SECONDS = 5.0
"""How long the page has to draw itself."""

JOBS = (
    Scenario(activation="sigmoid", num_layers=12),
    Scenario(activation="tanh", num_layers=12),
    Scenario(activation="relu", num_layers=12, iterations=200_000),
    Scenario(activation="gelu", num_layers=12),
)
SMALL = Scenario(
    name="small-weights",
    activation="tanh",
    num_layers=12,
    kernel_initializer="random_normal(stddev=0.05)",
)
VARY = ("num_layers=2:14:3", "activation=sigmoid,tanh,relu")


def take_pictures(
    folder: Path,
    jobs: tuple[Scenario, ...] = JOBS,
    sick: Scenario = SMALL,
    vary: tuple[str, ...] = VARY,
) -> None:
    """Save service.png, of the form and the queue, and service-queue.png, of what it has found."""
    form, queue = folder / "service.png", folder / "service-queue.png"
    with tempfile.TemporaryDirectory() as logdir:
        command = [sys.executable, "-m", "mnist_vg", "serve", "--logdir", logdir, "--port", "6206"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:
            link = re.search(r"http://\S+", service.stderr.readline())[0]
            try:
                _save_both(link, form, queue, jobs, sick, vary)
            finally:
                service.terminate()
    for picture in (form, queue):
        click.echo(f"{picture}: {picture.stat().st_size:,} bytes")


def _save_both(link, form, queue, jobs, sick, vary):
    client = connect(link)
    numbers = [client.start(job)["number"] for job in jobs]
    for number in numbers[:-2]:
        client.wait(number)
    _save(link, form)
    for number in numbers[-2:]:
        with contextlib.suppress(UsageError):  # It has ended.
            client.stop(number)
    client.wait(client.start(sick)["number"])
    client.ask(kind="sweep", settings=sick.settings() | {"name": "grid"}, vary=list(vary))
    client.wait(client.ask(kind="cure", run=sick.name)["number"])
    _save(link, queue, "Heat map")


def _save(link, picture, button=None):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={SIZE}"):
        options.add_argument(flag)
    with webdriver.Chrome(
        options, webdriver.ChromeService(shutil.which("chromedriver"))
    ) as browser:
        browser.get(link)  # It sets the cookie, and leads to the page without the token.
        browser.get("about:blank")
        browser.get(f"{link.partition('?')[0]}#mnist_vg&p.mnist_vg.view=training")
        time.sleep(SECONDS)
        if button:
            browser.switch_to.frame(0)
            browser.find_element("xpath", f"//button[normalize-space()='{button}']").click()
            time.sleep(SECONDS)
        browser.save_screenshot(str(picture))


def smoke(folder: Path) -> None:
    """Networks of one update."""
    tiny = [Scenario(name=name, num_layers=1, iterations=1) for name in ("first", "second")]
    sick = Scenario(name="third", dataset="digits", num_layers=1, iterations=1)
    take_pictures(folder, tuple(tiny), sick, ("learning_rate=0.1,0.2",))


if __name__ == "__main__":
    run(take_pictures, __doc__, "folder", smoke=smoke)
