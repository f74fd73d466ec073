"""Take the picture of the training service for its page, in a real browser.

    .venv/bin/python docs/service.py docs/service.png

Lets a service train four networks, and saves what the tab shows while the third one trains. Needs
what docs/picture.py needs.
"""

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

from mnist_vg import Scenario, connect

SIZE = "1366,820"
SECONDS = 4.0
"""How long the page has to draw itself."""

JOBS = (
    Scenario(activation="sigmoid", num_layers=12),
    Scenario(activation="tanh", num_layers=12),
    Scenario(activation="relu", num_layers=12, iterations=200_000),
    Scenario(activation="gelu", num_layers=12),
)


def take_picture(picture: Path, jobs: tuple[Scenario, ...] = JOBS) -> None:
    """Train these, and save what the tab shows in the last but one."""
    with tempfile.TemporaryDirectory() as logdir:
        command = [sys.executable, "-m", "mnist_vg", "serve", "--logdir", logdir, "--port", "6206"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:
            link = re.search(r"http://\S+", service.stderr.readline())[0]
            client = connect(link)
            numbers = [client.start(job)["number"] for job in jobs]
            for number in numbers[:-2]:
                client.wait(number)
            _save(link, picture)
            service.terminate()
    click.echo(f"{picture}: {picture.stat().st_size:,} bytes")


def _save(link, picture):
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
        browser.save_screenshot(str(picture))


def smoke(folder: Path) -> None:
    """Two networks of one update."""
    tiny = [Scenario(name=name, num_layers=1, iterations=1) for name in ("first", "second")]
    take_picture(folder / "picture.png", tuple(tiny))


if __name__ == "__main__":
    run(take_picture, __doc__, "picture", smoke=smoke)
