"""Take a picture of a logdir for the pages: TensorBoard in a real browser.

    make train && .venv/bin/python docs/picture.py logdir docs/board.png
    .venv/bin/python docs/picture.py logdir docs/compare.png --shows view=compare --size 1366,1500
    .venv/bin/python docs/picture.py logdir docs/mobilenet.png --tab histograms --tags gradients

Needs Chromium and its driver (Debian's packages chromium and chromium-driver).
"""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click
from pages import run
from selenium import webdriver
from selenium.webdriver.support.wait import WebDriverWait

from mnist_vg import Scenario, train

TAGS = "gradient_flow|accuracy.test|gradient_mean_abs.layer[16]"
SIZE = "1240,900"
OURS = "mnist_vg"
"""The tab "Gradient flow", as TensorBoard's address has it."""

# TensorBoard hides a tenth of the points as outliers, among them the vanished gradients.
SHOW_ALL = """
const boxes = (node) => [
  ...(node.tagName === "PAPER-CHECKBOX" && /outliers/.test(node.textContent) ? [node] : []),
  ...[...(node.shadowRoot ? node.shadowRoot.childNodes : []), ...node.childNodes].flatMap(boxes),
];
const [box] = boxes(document.body);
if (!box) return false;
if (box.checked) box.click();
return true;
"""


def take_picture(
    logdir: Path,
    picture: Path,
    tags: str = TAGS,
    tab: str = "scalars",
    size: str = SIZE,
    seconds: float = 12.0,
    shows: str = "",
) -> None:
    """Serve `logdir`, open a tab, and save what it shows in `seconds`.

    Args:
        logdir: the log folder.
        picture: the file.
        tags: a regular expression, for TensorBoard's own tabs.
        tab: as TensorBoard's address has it.
        size: of the window, in pixels.
        seconds: how long the charts have to draw themselves.
        shows: what our tab is to show, as its address has it: "view=compare&step=0".
    """
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={size}"):
        options.add_argument(flag)
    command = [sys.executable, "-m", "mnist_vg", "board", "--logdir", str(logdir)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as board:
        lines = (re.search(r" at (http://\S+)", line) for line in board.stderr)
        address = next(found[1] for found in lines if found)
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        with webdriver.Chrome(options, service) as browser:
            browser.get(f"{address}#{tab}&{_shown(tab, tags, shows)}")
            if tab == "scalars":
                wait = WebDriverWait(browser, 60)
                wait.until(lambda driver: driver.execute_script(SHOW_ALL))
            # The charts draw themselves over some seconds, and do not say when they are done.
            time.sleep(seconds)
            browser.save_screenshot(str(picture))
        board.terminate()
    click.echo(f"{picture}: {picture.stat().st_size:,} bytes")


def _shown(tab, tags, shows):
    """The rest of the address, behind the name of the tab."""
    if tab != OURS:
        return f"_smoothingWeight=0&tagFilter={tags}"
    return "&".join(f"p.{OURS}.{pair}" for pair in shows.split("&") if pair)


def smoke(folder: Path) -> None:
    """A run of one update, looked at for a second."""
    train(Scenario(num_layers=1, iterations=1), folder)
    take_picture(folder, folder / "picture.png", seconds=1)


if __name__ == "__main__":
    options = [
        click.Option(["--tags"], default=TAGS, show_default=True, help="a regular expression"),
        click.Option(
            ["--tab"],
            type=click.Choice([OURS, "scalars", "histograms", "distributions"]),
            default=OURS,
        ),
        click.Option(["--shows"], default="", help="what our tab shows: view=compare&step=0"),
        click.Option(["--size"], default=SIZE, show_default=True, help="of the window"),
    ]
    run(take_picture, __doc__, "logdir", "picture", smoke=smoke, options=options)
