"""Take a picture of a logdir for the pages: TensorBoard in a real browser.

    make train && .venv/bin/python docs/picture.py logdir docs/tensorboard.png
    .venv/bin/python docs/picture.py logdir docs/mobilenet.png --tab histograms --tags gradients

Needs Chromium and its driver (Debian's packages chromium and chromium-driver).
"""

import argparse
import re
import shutil
import subprocess
import sys

from selenium import webdriver
from selenium.webdriver.support.wait import WebDriverWait

TAGS = "gradient_flow|accuracy.test|gradient_mean_abs.layer[16]"

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


def take_picture(logdir: str, picture: str, tags: str, tab: str, size: str) -> None:
    """Serve `logdir`, open a tab with the tags that match, and save what it shows."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={size}"):
        options.add_argument(flag)
    command = [sys.executable, "-m", "mnist_vg", "board", "--logdir", logdir]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as board:
        lines = (re.search(r" at (http://\S+)", line) for line in board.stderr)
        address = next(found[1] for found in lines if found)
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        with webdriver.Chrome(options, service) as browser:
            browser.get(f"{address}#{tab}&_smoothingWeight=0&tagFilter={tags}")
            if tab == "scalars":
                wait = WebDriverWait(browser, 60)
                wait.until(lambda driver: driver.execute_script(SHOW_ALL))
            # The charts draw themselves over some seconds, and do not say when they are done.
            browser.execute_async_script("setTimeout(arguments[0], 12000)")
            browser.save_screenshot(picture)
        board.terminate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("logdir")
    parser.add_argument("picture")
    parser.add_argument("--tags", default=TAGS, help="a regular expression")
    parser.add_argument(
        "--tab", default="scalars", choices=["scalars", "histograms", "distributions"]
    )
    parser.add_argument("--size", default="1240,900", help="of the window")
    take_picture(**vars(parser.parse_args()))
