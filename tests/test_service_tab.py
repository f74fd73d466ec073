"""The training service in the tab, as a person uses it in real browsers."""

import contextlib
import re
import subprocess

import pytest
from conftest import COMMAND, PROCESS
from servers import free_port

from mnist_vg import Run

QUEUE_HAS = """(name, state) => [...document.querySelectorAll(".job")].some((job) =>
  job.dataset.name === name && job.querySelector(".badge").textContent === state)"""


@contextlib.contextmanager
def service_on(logdir):
    """Run `mnist-vg serve`; yield the link that it prints, once it answers."""
    command = [*COMMAND, "serve", "--logdir", str(logdir), "--port", str(free_port())]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, **PROCESS)
    try:
        yield re.search(r"http://\S+", process.stderr.readline())[0]
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    logdir = tmp_path_factory.mktemp("served")
    with service_on(logdir) as link:
        yield link, logdir


def test_a_person_trains_a_deep_network_sees_it_vanish_and_cures_it(browser, served):
    link, logdir = served
    if browser.name != "Chromium":
        pytest.skip("a cure takes a minute, and the other test uses the form in each browser")
    name = "deep"
    with browser.window(1366, 900) as window:
        window.open(link)
        window.wait("() => document.querySelector('nav')?.textContent.includes('Training')")
        window.click("nav button", "Training")
        # Digits are small, and a network of many sigmoids learns nothing of them.
        settings = {"dataset": "digits", "num_layers": 8, "iterations": 2000}
        for field, value in {"name": name, **settings}.items():
            window.run(FILL, field, str(value))
        window.click(".main")
        window.wait(QUEUE_HAS, name, "finished", seconds=120)
        window.click(".job .name", name)
        window.wait_for_text("vanishing gradients", "aside .verdict")
        assert Run.load(logdir / name).verdict.startswith("vanishing gradients")
        window.click("aside button", "Cure")
        window.wait(QUEUE_HAS, f"cure/{name}", "finished", seconds=300)
        window.wait_for_text("recommended: ", ".queue")
        window.click(".job .name", f"cure/{name}")
        window.wait("() => [...document.querySelectorAll('.badge.healthy')].length > 0")


FILL = """(name, value) => {
  const field = document.querySelector(`form [name=${name}]`);
  field.value = value;
  for (const kind of ["input", "change"]) field.dispatchEvent(new Event(kind, { bubbles: true }));
}"""


def test_what_is_not_allowed_is_said_at_its_field(browser, served):
    link, _ = served
    with browser.window() as window:
        window.open(link)
        window.wait("() => document.querySelector('nav')?.textContent.includes('Training')")
        window.click("nav button", "Training")
        window.run(FILL, "num_layers", "many")
        window.click(".main")
        window.wait_for_text("num_layers: 'many' must be a whole number", ".field .error")
