"""The log in a real TensorBoard, through its HTTP interface and in a browser."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import keras
import numpy as np
import pytest
from conftest import COMMAND
from selenium import webdriver
from selenium.webdriver.support.wait import WebDriverWait
from servers import free_port, serving

from mnist_vg import GradientLogger, Run
from mnist_vg.recording.event_log import EventLog


@pytest.fixture(scope="module")
def board(logdir):
    with serving(logdir) as (address, _):

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
    tag = "gradient_profile"
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
    assert re.findall("<th>(.*)</th>", card["text"]) == ["Setting", "Value"]
    assert "Great Learning" in card["text"]
    [card] = board("plugin/text/text", run="sigmoid", tag="result")
    assert "vanishing gradients in layer" in card["text"]
    assert re.findall("<th>(.*)</th>", card["text"]) == ["Result", "Value"]
    layout = board("plugin/custom_scalars/layout")
    charts = [chart for category in layout["category"] for chart in category["chart"]]
    assert charts[0]["multiline"]["tag"] == ["gradient_mean_abs_log10/.*"]


def test_a_port_in_use_is_replaced_by_the_next_free_one(logdir):
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with serving(logdir, port) as (address, said):
            free = int(re.search(r":(\d+)/", address)[1])
            assert free > port
            assert said[0] == f"port {port} is in use; the next free one is {free}\n"


def test_it_prints_one_link_and_ends_quietly(logdir):
    command = [*COMMAND, "board", str(logdir), "--port", str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        link = process.stdout.readline().decode()
        assert re.fullmatch(r"TensorBoard at http://localhost:\d+/ \(Ctrl-C ends it\)\n", link)
        with urllib.request.urlopen(link.split()[2]) as page:
            assert b"TensorBoard" in page.read()
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == b""
    assert process.returncode == 0


PLUGIN = """
from tensorboard.plugins import base_plugin

class Plugin(base_plugin.TBPlugin):
    plugin_name = "of_{owner}"

    def get_plugin_apps(self):
        return {{}}

    def data_plugin_names(self):
        return ["scalars"]

    def is_active(self):
        return False

    def frontend_metadata(self):
        return base_plugin.FrontendMetadata(es_module_path="/index.js")

Plugin.__module__ = "{owner}.plugin"
"""


def test_a_port_taken_meanwhile_is_one_line():
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        code = f"from mnist_vg.cli.board import _serve; _serve('logdir', {taken.getsockname()[1]})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert re.search(r"UsageError: port: .* already in use; give another one$", done.stderr.strip())


def test_it_opens_on_our_plugin(logdir, browser, tmp_path):
    for owner in ("others", "mnist_vg"):
        facts = tmp_path / f"plugin_of_{owner}-0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {facts.stem}\nVersion: 0\n")
        (facts / "entry_points.txt").write_text(f"[tensorboard_plugins]\na = of_{owner}:Plugin\n")
        (tmp_path / f"of_{owner}.py").write_text(PLUGIN.format(owner=owner))
    with serving(logdir, python_path=tmp_path) as (address, _):
        with urllib.request.urlopen(f"{address}data/plugins_listing") as answer:
            listing = json.load(answer)
        names = list(listing)
        assert names.index("of_mnist_vg") < names.index("timeseries") < names.index("of_others")
        browser.get(address)
        opened = next(name for name in names if listing[name]["enabled"])
        WebDriverWait(browser, 60).until(lambda driver: driver.current_url.endswith(f"#{opened}"))
        assert names.index(opened) < names.index("timeseries")


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
        # TensorBoard opens the first two groups of tags.
        ("timeseries", ["/test", "/log10_first_to_last"]),
        (
            "scalars",
            ["gradient_flow/log10_first_to_last", "sigmoid", "relu", "leaky_relu"],
        ),
        ("custom_scalars", ["log10 of every layer's mean absolute gradient"]),
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
    with serving(tmp_path) as (address, _):
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


def test_hparams_shows_what_differs_and_whole_numbers(browser, tmp_path):
    for name, settings in {
        "narrow": {"name": "mine", "kind": "mlp", "rate": 0.5, "width": 8},
        "wide": {"name": "mine", "kind": "mlp", "rate": 1, "width": 128, "dropout": True},
    }.items():
        (tmp_path / name).mkdir()
        log = EventLog(tmp_path / name)
        log.describe(settings, "")
        log.conclude(0, {}, 3, {})
        log.close()
    with serving(tmp_path) as (address, _):

        def ask(route, **request):
            url = f"{address}data/plugin/hparams/{route}?"
            query = urllib.parse.urlencode({"request": json.dumps(request)})
            with urllib.request.urlopen(url + query) as answer:
                return json.load(answer)

        assert_shown(browser, address, "hparams", ["narrow", "wide", "128", "0.50000"])
        infos = ask("experiment")["hparamInfos"]
        assert [info["name"] for info in infos] == ["rate", "width", "dropout"]
        by_width = {"hparam": "width", "order": "ORDER_DESC"}
        asked = {"allowedStatuses": ["STATUS_SUCCESS"], "startIndex": 0, "sliceSize": 9}
        rows = ask("session_groups", colParams=[by_width], **asked)["sessionGroups"]
        assert [(row["name"], row["hparams"]["width"]) for row in rows] == [
            ("wide", "128"),
            ("narrow", "  8"),
        ]
        assert [row["hparams"]["rate"] for row in rows] == [1, 0.5]
        assert [m["value"] for m in rows[0]["metricValues"]] == ["3"]
        with pytest.raises(urllib.error.HTTPError, match="400"):
            ask("session_groups", nonsense=1)
        text = browser.execute_script(VISIBLE_TEXT)
        assert "128.00" not in text
        assert "kind" not in text


def test_hparams_of_a_single_run_shows_all_its_settings(tmp_path):
    (tmp_path / "alone").mkdir()
    log = EventLog(tmp_path / "alone")
    log.describe({"name": "alone", "width": 8, "kind": "mlp"}, "")
    log.close()
    with serving(tmp_path) as (address, _):
        url = f"{address}data/plugin/hparams/experiment?request=%7B%7D"
        deadline = time.monotonic() + 60
        names = []
        while not names and time.monotonic() < deadline:
            with urllib.request.urlopen(url) as answer:
                names = [info["name"] for info in json.load(answer).get("hparamInfos", ())]
    assert names == ["kind", "width"]
