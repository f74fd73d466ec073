"""Take the README's picture of a trained logdir: TensorBoard in a real browser.

    make train && .venv/bin/python docs/picture.py logdir docs/tensorboard.png

Needs Chromium and its driver (Debian's packages chromium and chromium-driver).
"""

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


def take_picture(logdir: str, picture: str) -> None:
    """Serve `logdir`, open the Scalars tab, and save what it shows."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1240,900"):
        options.add_argument(flag)
    command = [sys.executable, "-m", "mnist_vg", "board", "--logdir", logdir]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as board:
        lines = (re.search(r" at (http://\S+)", line) for line in board.stderr)
        address = next(found[1] for found in lines if found)
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        with webdriver.Chrome(options, service) as browser:
            browser.get(f"{address}#scalars&_smoothingWeight=0&tagFilter={TAGS}")
            wait = WebDriverWait(browser, 60)
            wait.until(lambda driver: driver.execute_script(SHOW_ALL))
            # The charts draw themselves over some seconds, and do not say when they are done.
            browser.execute_async_script("setTimeout(arguments[0], 8000)")
            browser.save_screenshot(picture)
        board.terminate()


if __name__ == "__main__":
    take_picture(*sys.argv[1:])
