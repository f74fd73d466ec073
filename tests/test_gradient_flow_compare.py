"""The tab "Gradient flow" in real browsers: runs over each other."""

import csv
import json
import urllib.parse
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
from flows import ODD_NAME
from tab import compare, open_tab, recorded, tile

from mnist_vg import Run

RUNS = ["sigmoid", "relu-seed0"]


def state(**shown):
    """What stands in the address for this state."""
    texts = {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in shown.items()
    }
    return "".join(f"&p.mnist_vg.{key}={urllib.parse.quote(text)}" for key, text in texts.items())


@pytest.fixture(scope="module")
def loaded(browser, flows_board):
    with browser.window(1366, 2000) as window:
        open_tab(window, flows_board)
        yield window


@pytest.fixture
def page(loaded):
    """The same window, comparing two runs."""
    show(loaded)
    return loaded


def show(window, group="gradients", layer="layer1", **shown):
    """Compare two runs, and wait until all charts are there."""
    window.go("#mnist_vg")
    window.wait("() => !find('.compare')")
    compare(window, state(runs=RUNS, group=group, layer=layer, **shown))
    window.wait_for_text(f"{group} of {layer}", ".histograms figcaption")


PATHS = """(figure) => [
  ...document.querySelectorAll(`${figure} [data-mark=line] path`),
].map((path) => path.getAttribute("d"))"""

TIP = """(figure, words) => {
  const tip = find(`${figure} [aria-label=tip]`)?.textContent;
  return tip?.includes(words) && tip;
}"""

NUMBERS = """(figure) => {
  const rows = [...document.querySelectorAll(`${figure} tr`)].slice(1);
  return rows.map((row) => [...row.cells].map((cell) => cell.textContent));
}"""


def numbers(window, figure):
    """The rows of a chart's table of numbers."""
    if window.run("(figure) => !find(`${figure} table`)", figure):
        window.click(f"{figure} button", "Numbers")
    return window.wait(NUMBERS, figure)


def test_runs_are_chosen_in_the_overview(loaded):
    loaded.go("#mnist_vg")
    for run in ("sigmoid", "my_fit"):
        loaded.click(tile(run, "input"))
    loaded.click("nav button", "Compare 2 runs")
    listed = "() => [...document.querySelectorAll('.runs li')].map((li) => li.innerText.trim())"
    loaded.wait(f"() => ({listed})().length === 2")
    loaded.click("button", "Leave out sigmoid")
    loaded.wait(f"() => ({listed})().length === 1")
    assert "my_fit" in loaded.run(listed)[0]


@pytest.mark.parametrize("run", RUNS)
def test_the_profile_tells_numbers_on_hover(page, flows, run):
    values = recorded(flows, run)[:, -1]
    dots = page.run(
        "() => [...document.querySelectorAll('.profile [data-mark=dot] *')].map((dot) => {"
        "const { x, y, width, height } = dot.getBoundingClientRect();"
        "return [x + width / 2, y + height / 2]; })"
    )
    start = 0 if run == RUNS[0] else len(recorded(flows, RUNS[0]))
    x, y = np.transpose(dots[start : start + len(values)])
    np.testing.assert_allclose(np.diff(x), x[1] - x[0], atol=0.1)
    assert_proportional(np.log10(values), y, sign=-1)
    for layer in (0, len(values) - 1):
        page.point(f".profile [data-mark=dot] *:nth-child({start + layer + 1})")
        words = f"layer{layer + 1}, step 299"
        said = page.wait(TIP, ".profile", words)
        assert run in said
        number = float(said.partition(words)[2].strip("\u200b \n"))
        assert number == pytest.approx(values[layer], rel=5e-3)


def test_a_line_breaks_where_a_layer_has_no_number(page):
    compare(page, state(runs=[ODD_NAME, "sigmoid"], step=3))
    page.wait_for_text("1 not finite", ".profile .note")
    lines = page.run(PATHS, ".profile")
    # The second and the third of four layers have none; ten have all.
    assert [line.count("M") for line in lines] == [2, 1]


def test_slider_and_arrow_keys_move_all_charts_to_a_step(page, flows):
    page.click(".slider input", at=(0.99, 0.5))
    page.press("ArrowLeft")
    page.wait_for_text("step 275", ".profile figcaption")
    page.wait_for_text("step 275", ".histograms figcaption")
    rows = numbers(page, ".profile")
    values = recorded(flows, "sigmoid")[:, 11]
    found = [float(row[-1]) for row in rows if row[0] == "sigmoid"]
    np.testing.assert_allclose(found, values)
    page.click(".profile figcaption")
    page.click(".profile .plot", at=(0.5, 0.97))
    page.press("ArrowLeft", "ArrowLeft")
    page.wait_for_text("step 225", ".profile figcaption")
    page.press("ArrowRight")
    page.wait_for_text("step 250", ".profile figcaption")
    assert "step=250" in page.address()


def test_play_moves_through_the_steps_and_stops(page):
    page.click("button", "Play")
    page.wait_for_text("step 50", ".profile figcaption")
    page.click("button", "Stop")
    page.text("button", "Play")
    stopped = page.text(".profile figcaption")
    page.wait("() => new Promise((resolve) => setTimeout(() => resolve(true), 600))")
    assert page.text(".profile figcaption") == stopped


@pytest.mark.parametrize("group", ["gradients", "weights"])
def test_two_histograms_share_an_axis_and_hold_what_was_recorded(page, flows, group):
    show(page, group=group, layer="layer2", step=100)
    rows = numbers(page, ".histograms")
    for run in RUNS:
        buckets = Run.load(flows / run).history[group][4, 1]
        found = np.array([row[2:5] for row in rows if row[0] == run], float)
        np.testing.assert_allclose(found, buckets, rtol=1e-6)


@pytest.mark.parametrize("density", ["linear", "log"])
def test_bars_are_as_high_as_the_share_of_the_values_per_unit(page, flows, density):
    show(page, layer="layer3", density=density)
    boxes = page.run(
        "() => [...document.querySelectorAll('.histograms [data-mark=rect] rect')].map((bar) =>"
        "['x', 'height'].map((side) => Number(bar.getAttribute(side))))"
    )
    left, shares = [], []
    for run in sorted(RUNS):
        buckets = Run.load(flows / run).history["gradients"][-1, 2]
        starts, ends, counts = buckets[buckets[:, 2] > 0].T
        left += [*starts]
        shares += [*(counts / counts.sum() / (ends - starts))]
    # Both runs on one axis, from left to right and from the bottom up.
    x, height = np.transpose([box for box in boxes if box[1]])
    assert_proportional(left, x)
    assert_proportional(np.log10(shares) if density == "log" else shares, height)


def assert_proportional(numbers, pixels, sign=1):
    """Check that pixels follow numbers on a linear scale."""
    slope, offset = np.polyfit(numbers, pixels, 1)
    assert sign * slope > 0
    np.testing.assert_allclose(slope * np.array(numbers) + offset, pixels, atol=1)


def test_ridges_stand_over_steps(page, flows):
    show(page, histograms="ridges", layer="layer2")
    page.wait_for_text("over steps", ".histograms figcaption")
    labels = page.run(
        "() => [...document.querySelectorAll('.histograms svg text')].map((t) => t.textContent)"
    )
    steps = [int(label.split()[1]) for label in labels if label.startswith("step ")]
    assert len(steps) == 8
    assert (steps[0], steps[-1]) == (0, 299)
    rows = numbers(page, ".histograms")
    history = Run.load(flows / "sigmoid").history
    for step in steps:
        found = [row[2:5] for row in rows if row[:2] == ["sigmoid", str(step)]]
        record = list(history["step"]).index(step)
        np.testing.assert_allclose(
            np.array(found, float), history["gradients"][record, 1], rtol=1e-6
        )


def test_the_measure_over_steps_is_drawn_for_the_chosen_layers(page, flows):
    show(page, layers=["layer2", "layer4"], scale="log")
    page.click("fieldset input", "layer9")
    page.wait("() => document.querySelectorAll('.series [data-mark=line] path').length === 5")
    paths = page.run(PATHS, ".series")
    drawn = [np.array([p.split(",") for p in path[1:].split("L")], float) for path in paths]
    wanted = [
        recorded(flows, run)[layer - 1]
        for layer in (2, 4, 9)
        for run in RUNS
        if layer <= len(recorded(flows, run))
    ]
    for path, values in zip(drawn, wanted, strict=True):
        x, y = path.T
        assert_proportional(np.log10(values), y, sign=-1)
        assert (np.diff(x) > 0).all()


def test_steps_can_be_shares_of_each_run(loaded, flows):
    show(loaded, axis="relative", step=50)
    loaded.wait_for_text("at 50% of each run", ".profile figcaption")
    rows = numbers(loaded, ".profile")
    # Half of 299 steps is 149.5: the record at or before it is the one of step 125.
    assert {row[2] for row in rows} == {"125"}
    found = [float(row[-1]) for row in rows if row[0] == "relu-seed0"]
    np.testing.assert_allclose(found, recorded(flows, "relu-seed0")[:, 5])


def test_log_axes_work_below_one(page):
    ticks = page.run(
        "() => [...document.querySelectorAll('.profile [data-mark=\"y-axis tick label\"] text')]"
        ".map((tick) => tick.textContent)"
    )
    powers = np.log10(np.array(ticks, float))
    assert powers.min() <= -7
    np.testing.assert_allclose(powers, np.rint(powers), atol=1e-9)
    assert len(set(np.diff(powers))) == 1, ticks


DOMAIN = """(figure) => [
  ...document.querySelectorAll(`${figure} [data-mark="x-axis tick label"] text`),
].map((tick) => Number(tick.textContent.replace(/,/g, '').replace('−', '-')))"""


def test_mouse_and_keys_zoom(page):
    whole = page.run(DOMAIN, ".series")
    page.drag(".series svg .overlay", (0.25, 0.5), (0.5, 0.5))
    page.wait(f"(whole) => String(({DOMAIN})('.series')) !== String(whole)", whole)
    zoomed = page.run(DOMAIN, ".series")
    assert 60 < min(zoomed) < 90
    assert 130 < max(zoomed) < 160
    linked = page.address()
    page.click(".series button", "Whole")
    page.wait(f"(whole) => String(({DOMAIN})('.series')) === String(whole)", whole)
    page.go("#" + linked.partition("#")[2])
    page.wait(f"(zoomed) => String(({DOMAIN})('.series')) === String(zoomed)", zoomed)
    page.run("() => find('.series .plot').focus()")
    page.press("0")
    page.wait(f"(whole) => String(({DOMAIN})('.series')) === String(whole)", whole)
    page.press("+")
    page.wait(f"(whole) => String(({DOMAIN})('.series')) !== String(whole)", whole)


def test_a_chart_can_be_taken_along(page, flows):
    with page.save(".profile button", "CSV").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["run"] == "sigmoid"]
    found = [float(row["gradient_mean_abs"]) for row in rows]
    np.testing.assert_allclose(found, recorded(flows, "sigmoid")[:, -1], rtol=1e-6)
    drawing = ElementTree.parse(page.save(".profile button", "SVG")).getroot()
    width, height = (float(drawing.get(side)) for side in ("width", "height"))
    assert len(drawing.findall(".//{http://www.w3.org/2000/svg}path")) > len(rows)
    picture = matplotlib.image.imread(page.save(".profile button", "PNG"))
    assert picture.shape[:2] == (2 * height, 2 * width)
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 10
