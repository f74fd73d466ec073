"""The log in a real TensorBoard, through its HTTP interface and in a browser."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request

import keras
import numpy as np
import pytest
from conftest import COMMAND
from selenium import webdriver
from selenium.webdriver.support.wait import WebDriverWait

from mnist_vg import GradientLogger, Run


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(logdir, port):
    """Run `mnist-vg board`; yield its address, and the lines that it has printed."""
    process = subprocess.Popen(
        [*COMMAND, "board", str(logdir), "--port", str(port)],
        stderr=subprocess.PIPE,
        text=True,
    )
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if found := re.search(r" at (http://localhost:\d+/)", line):
                break
        yield found[1], said
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture(scope="module")
def board(logdir):
    with serving(logdir, free_port()) as (address, _):

        def get(route, **query):
            url = f"{address}data/{route}?{urllib.parse.urlencode(query)}"
            with urllib.request.urlopen(url) as answer:
                return json.load(answer)

        get.address = address
        deadline = time.monotonic() + 60
        while len(get("plugin/scalars/tags")) < 3 and time.monotonic() < deadline:
            time.sleep(0.2)
        yield get


def test_tensorboard_has_the_three_runs_and_their_plugins(board):
    assert sorted(board("runs")) == ["leaky_relu", "relu", "sigmoid"]
    plugins = board("plugins_listing")
    for plugin in ("scalars", "histograms", "graphs", "hparams", "text", "custom_scalars"):
        assert plugins[plugin]["enabled"], plugin


def test_tensorboard_shows_each_runs_profile_of_gradients(board):
    tag = "figures/gradient_profile"
    assert {run: list(tags) for run, tags in board("plugin/images/tags").items()} == {
        run: [tag] for run in ("sigmoid", "relu", "leaky_relu")
    }
    [picture] = board("plugin/images/images", run="sigmoid", tag=tag, sample=0)
    url = f"{board.address}data/plugin/images/individualImage?{picture['query']}"
    with urllib.request.urlopen(url) as answer:
        png = answer.read()
    assert png.startswith(b"\x89PNG")
    assert picture["step"] == 2499


def test_tensorboard_serves_every_point(board, logdir):
    history = Run.load(logdir / "sigmoid").history
    tag = "gradient_mean_abs/layer1"
    served = board("plugin/scalars/scalars", run="sigmoid", tag=tag)
    assert [step for _, step, _ in served] == history["step"].tolist()
    np.testing.assert_array_equal(
        np.float32([value for *_, value in served]), history["gradient_mean_abs"][:, 0]
    )
    histograms = board("plugin/histograms/histograms", run="sigmoid", tag="weights/layer6")
    assert [len(buckets) for _, _, buckets in histograms] == [30] * len(history["step"])


def test_tensorboard_has_cards_layout_and_hyperparameters(board):
    assert sorted(board("plugin/text/tags")["relu"]) == ["result", "scenario"]
    [card] = board("plugin/text/text", run="relu", tag="scenario")
    assert "glorot_uniform" in card["text"]
    assert "Great Learning" in card["text"]
    [card] = board("plugin/text/text", run="sigmoid", tag="result")
    assert "vanishing gradients in layer" in card["text"]
    layout = board("plugin/custom_scalars/layout")
    charts = [chart for category in layout["category"] for chart in category["chart"]]
    assert charts[0]["multiline"]["tag"] == ["gradient_mean_abs/.*"]


def test_a_port_in_use_is_replaced_by_the_next_free_one(logdir):
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with serving(logdir, port) as (address, said):
            free = int(re.search(r":(\d+)/", address)[1])
            assert free > port
            assert said[0] == f"port {port} is in use; the next free one is {free}\n"


# TensorBoard's tabs are web components: their text is in nested shadow trees.
VISIBLE_TEXT = """
const text = (node) => node.nodeType === Node.TEXT_NODE ? node.data
  : [...(node.shadowRoot ? node.shadowRoot.childNodes : []), ...node.childNodes]
    .map(text).join(" ");
return text(document.body);
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("no chromium with its driver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--window-size=1500,1100",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(flag)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with webdriver.Chrome(options, service) as driver:
        yield driver


@pytest.mark.parametrize(
    ("tab", "words"),
    [
        (
            "scalars",
            ["gradient_flow/log10_first_to_last", "sigmoid", "relu", "leaky_relu"],
        ),
        ("custom_scalars", ["mean absolute gradient of every layer"]),
        ("histograms", ["gradients/layer1"]),
        ("text", ["glorot_uniform", "Could learn", "vanishing gradients in layer"]),
        ("graphs", [f"layer{number}" for number in range(1, 7)]),
        ("hparams", ["activation", "accuracy/test", "symptoms/found", "leaky_relu"]),
    ],
)
def test_a_browser_shows_it(board, browser, tab, words):
    assert_shown(browser, board.address, tab, words)


def assert_shown(browser, address, tab, words):
    browser.get("about:blank")
    browser.get(f"{address}#{tab}")

    def shown(driver):
        text = driver.execute_script(VISIBLE_TEXT)
        return all(word in text for word in words)

    WebDriverWait(browser, 60).until(shown, f"the tab {tab} does not show all of {words}")


def test_a_browser_shows_a_plain_fit(browser, tmp_path):
    inner = keras.Sequential([keras.layers.Dense(4, "relu"), keras.layers.Dense(4, "relu")])
    model = keras.Sequential([keras.Input((3,)), inner, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    logger = GradientLogger(tmp_path / "my_run", every=2, measures="full")
    model.fit(np.ones((40, 3)), np.ones(40), batch_size=8, verbose=0, callbacks=[logger])
    with serving(tmp_path, free_port()) as (address, _):
        # TensorBoard unfolds only the first groups of tags, but all matches of a filter.
        tags = [
            f"{measure}/{path}"
            for measure in ("gradient_mean_abs", "update_ratio", "units_dead")
            for path in ("sequential/dense", "sequential/dense_1")
        ]
        assert_shown(
            browser, address, "scalars&tagFilter=(mean_abs|ratio|dead).seq", ["my_run", *tags]
        )
        tags = ["gradients/dense", "weights/sequential/dense", "activations/sequential/dense"]
        assert_shown(browser, address, "histograms&tagFilter=dense$", tags)
        assert_shown(browser, address, "text", ["Adam", "learning_rate"])
