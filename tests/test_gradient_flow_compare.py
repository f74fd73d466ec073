"""The tab "Gradient flow" in real browsers: runs over each other."""

import json
import urllib.parse

import numpy as np
import pytest
from tab import open_tab, recorded, tile

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
    window.go("#mnist_vg" + state(view="compare", runs=RUNS, group=group, layer=layer, **shown))
    window.wait_for_text(f"{group} of {layer}", ".histograms h3")
    for run in RUNS:
        window.wait("(run) => find('.runs').textContent.includes(run)", run)


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
        "() => [...document.querySelectorAll('.profile [aria-label=dot] *')].map((dot) => {"
        "const { x, y, width, height } = dot.getBoundingClientRect();"
        "return [x + width / 2, y + height / 2]; })"
    )
    start = 0 if run == RUNS[0] else len(recorded(flows, RUNS[0]))
    x, y = np.transpose(dots[start : start + len(values)])
    np.testing.assert_allclose(np.diff(x), x[1] - x[0], atol=0.1)
    slope, offset = np.polyfit(np.log10(values), y, 1)
    assert slope < 0
    np.testing.assert_allclose(slope * np.log10(values) + offset, y, atol=0.5)
    for layer in (0, len(values) - 1):
        page.point(f".profile [aria-label=dot] *:nth-child({start + layer + 1})")
        words = f"layer{layer + 1}, step 299"
        page.wait_for_text(words, ".profile [aria-label=tip]")
        said = page.run("() => find('.profile [aria-label=tip]').textContent")
        assert run in said
        number = float(said.partition(words)[2].strip("\u200b \n"))
        assert number == pytest.approx(values[layer], rel=5e-3)


def test_slider_and_arrow_keys_move_all_charts_to_a_step(page, flows):
    page.click(".slider input", at=(0.99, 0.5))
    page.press("ArrowLeft")
    page.wait_for_text("step 275", ".profile h3")
    page.wait_for_text("step 275", ".histograms h3")
    rows = numbers(page, ".profile")
    values = recorded(flows, "sigmoid")[:, 11]
    found = [float(row[-1]) for row in rows if row[0] == "sigmoid"]
    np.testing.assert_allclose(found, values)
    page.click(".profile h3")
    page.click(".profile .plot", at=(0.5, 0.97))
    page.press("ArrowLeft", "ArrowLeft")
    page.wait_for_text("step 225", ".profile h3")
    page.press("ArrowRight")
    page.wait_for_text("step 250", ".profile h3")
    assert "step=250" in page.address()


def test_play_moves_through_the_steps_and_stops(page):
    page.click("button", "Play")
    page.wait_for_text("step 50", ".profile h3")
    page.click("button", "Stop")
    page.text("button", "Play")
    stopped = page.text(".profile h3")
    page.wait("() => new Promise((resolve) => setTimeout(() => resolve(true), 600))")
    assert page.text(".profile h3") == stopped


@pytest.mark.parametrize("group", ["gradients", "weights"])
def test_two_histograms_share_an_axis_and_hold_what_was_recorded(page, flows, group):
    show(page, group=group, layer="layer2", step=100)
    rows = numbers(page, ".histograms")
    for run in RUNS:
        buckets = Run.load(flows / run).history[group][4, 1]
        found = np.array([row[2:5] for row in rows if row[0] == run], float)
        np.testing.assert_allclose(found, buckets, rtol=1e-6)
