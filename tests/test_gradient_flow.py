"""The tab "Gradient flow" in real browsers, on a real TensorBoard: the overview."""

import csv
import re
import urllib.parse
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
from flows import DAMAGED, FOREIGN, MARKED, ODD_NAME, SOUND
from tab import (
    AXE,
    FILLED,
    FRAME,
    TILES,
    broken_rules,
    cells,
    colour,
    colours,
    compare,
    open_tab,
    powers_around,
    recorded,
    tile,
    tiles,
)

from mnist_vg import Run, diagnose


@pytest.fixture(scope="module")
def loaded(browser, flows_board):
    """The tab in a window that is high enough for all tiles."""
    with browser.window(1366, 2400) as window:
        open_tab(window, flows_board)
        yield window


@pytest.fixture
def page(loaded):
    """The same window, showing what it shows first."""
    loaded.go("#mnist_vg")
    loaded.wait(FILLED, TILES)
    return loaded


def test_it_opens_on_the_sickest_run_and_its_diagnosis(window, flows_board, flows):
    open_tab(window, flows_board, tiles=1)
    shown = tiles(window)
    health = [Run.load(flows / name).verdict for name in shown if name in SOUND]
    assert "non-finite" in health[0]
    assert health[-1] == "healthy"
    assert FOREIGN not in shown
    name = window.text("aside h2")
    assert name == next(each for each in shown if each in SOUND)
    [first, *_] = diagnose(flows / name).evidence
    window.wait_for_text(first.words, "aside")
    assert first.symptom in window.text("aside li")


def test_pixels_have_the_colours_of_the_numbers_in_the_event_files(page, flows):
    everything = np.concatenate([recorded(flows, name).ravel() for name in SOUND])
    low, high = powers_around(everything)
    for name, runs in {
        "sigmoid": ["sigmoid"],
        "my_fit": ["my_fit"],
        "relu": ["relu-seed0", "relu-seed1"],
    }.items():
        # Of several seeds the tile shows the middle.
        values = np.median([recorded(flows, run) for run in runs], axis=0)
        expected = colours((np.log10(values) - low) / (high - low))
        np.testing.assert_allclose(cells(page, name, *values.shape), expected, atol=6, err_msg=name)


def test_a_linear_measure_has_a_scale_of_its_own(page, flows):
    page.choose("Measure", "units_dead")
    page.wait(FILLED, TILES)
    values = recorded(flows, "exploding", "units_dead")
    assert 0 < values.max() <= 1
    pixels = cells(page, "exploding", *values.shape)
    np.testing.assert_allclose(pixels, colours(values), atol=6)


def test_an_explosion_is_marked(page, flows):
    values = recorded(flows, "exploding")
    pixels = cells(page, "exploding", *values.shape)
    assert np.isnan(values[:, 1:]).all()
    np.testing.assert_allclose(pixels[:, 1:], np.broadcast_to(colour("nan"), (4, 12, 3)), atol=1)


def test_nan_inf_zero_and_no_record_have_marks_of_their_own(page):
    pixels = cells(page, ODD_NAME, len(MARKED), len(MARKED[0]))
    for (layer, record), mark in {
        (0, 1): "zero",
        (0, 2): "nan",
        (1, 0): "inf",
        (1, 3): "nan",
        (2, 0): "none",
        (2, 3): "none",
        (3, 2): "zero",
    }.items():
        np.testing.assert_allclose(pixels[layer, record], colour(mark), atol=1, err_msg=mark)
    assert {"NaN", "Inf", "zero", "no record"} <= set(re.split(r"\n\s*", page.text(".legend")))


def reading(window, name, start):
    """What is said of a cell, once it begins like this."""
    window.wait_for_text(start, tile(name, "output"))
    return window.text(tile(name, "output"))


def test_the_pointer_reads_numbers(page, flows):
    values = recorded(flows, "sigmoid")
    for layer, record in [(0, 0), (9, 12), (4, 7)]:
        page.point(tile("sigmoid", "canvas"), at=((record + 0.5) / 13, 1 - (layer + 0.5) / 10))
        said = reading(page, "sigmoid", f"layer{layer + 1}, step {min(25 * record, 299)}: ")
        assert float(said.split()[-1]) == pytest.approx(values[layer, record], rel=5e-3)


def test_the_pointer_reads_the_range_of_several_seeds(page, flows):
    page.point(tile("relu", "canvas"), at=(0.01, 0.99))
    said = reading(page, "relu", "layer1, step 0: ")
    low, high = sorted(recorded(flows, run)[0, 0] for run in ("relu-seed0", "relu-seed1"))
    found = [float(number) for number in re.findall(r"[\d.e-]+", said.split(": ")[1])]
    np.testing.assert_allclose(found, [(low + high) / 2, low, high], rtol=5e-3)


def test_arrow_keys_read_what_the_pointer_reads(page):
    page.click(tile(ODD_NAME, "canvas"), at=(0.99, 0.01))
    assert reading(page, ODD_NAME, "layer4, step 3") == "layer4, step 3: 2"
    for key, said in {
        "ArrowLeft": "layer4, step 2: 0",
        "ArrowDown": "layer3, step 2: no record",
        "ArrowRight": "layer3, step 3: no record",
    }.items():
        page.press(key)
        assert reading(page, ODD_NAME, said) == said
    page.press("ArrowDown")
    assert reading(page, ODD_NAME, "layer2") == "layer2, step 3: NaN"
    page.press("ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowLeft")
    assert reading(page, ODD_NAME, "layer2, step 0") == "layer2, step 0: Inf"


def test_a_filter_keeps_what_matches_and_says_what_is_no_pattern(page):
    page.click("input", "Filter")
    page.press(*"^RELU|moid$")
    page.wait_for_text("2 tiles", ".count")
    assert sorted(tiles(page)) == ["relu", "sigmoid"]
    page.press("(")
    page.wait_for_text("not a regular expression", ".count")
    assert "filter=%5ERELU%7Cmoid%24(" in page.address()


def test_seeds_are_together_or_each_alone(page, flows):
    page.click("input", "Seeds together")
    page.wait(FILLED, TILES + 1)
    assert {"relu-seed0", "relu-seed1"} <= set(tiles(page))
    assert "relu" not in tiles(page)
    values = recorded(flows, "relu-seed1")
    everything = np.concatenate([recorded(flows, name).ravel() for name in SOUND])
    low, high = powers_around(everything)
    expected = colours((np.log10(values) - low) / (high - low))
    np.testing.assert_allclose(cells(page, "relu-seed1", *values.shape), expected, atol=6)


def test_tiles_are_sorted_by_name_result_and_setting(page, flows):
    page.choose("Sort by", "name")
    shown = tiles(page)
    assert shown == sorted(shown)
    page.choose("Sort by", "result")
    accuracy = [
        Run.load(flows / name).results["test_accuracy"]
        for name in tiles(page)
        if name in ("exploding", "sigmoid")
    ]
    assert accuracy == sorted(accuracy, reverse=True)
    page.choose("Sort by", "num_layers")
    shown = [name for name in tiles(page) if name in ("relu", "exploding", "sigmoid")]
    assert shown[-1] == "sigmoid"


def test_damaged_runs_are_named_and_the_others_shown(page):
    assert set(tiles(page)) == {*DAMAGED, *SOUND, "relu"} - {"relu-seed0", "relu-seed1"}
    for name, words in {
        "cut": "its log breaks off",
        "flipped": "its log breaks off",
        "unreadable": "run.json is damaged",
    }.items():
        assert words in page.text(tile(name, ".damage"))
    for name in SOUND[3:]:
        assert page.run("(selector) => !find(selector)", tile(name, ".damage")), name


def test_a_symptom_is_shown_where_it_began(page, flows):
    page.click(tile("exploding", ".name"))
    page.wait_for_text("exploding", "aside h2")
    first = next(each for each in diagnose(flows / "exploding").evidence if each.layer)
    page.click("aside button", f"cause {first.symptom} in {first.layer}")
    reading(page, "exploding", f"{first.layer}, step {first.step}")
    history = Run.load(flows / "exploding").history
    layer = list(history["layers"]).index(first.layer)
    record = list(history["step"]).index(first.step)
    edges = cells(page, "exploding", *history["gradient_mean_abs"].T.shape, across=0)
    framed = abs(edges - FRAME).max(axis=-1) < 8
    assert framed[layer, record : record + 2].all()
    assert framed.sum() == 2


def test_a_link_shows_the_same_to_a_colleague(page, browser):
    page.choose("Measure", "update_ratio")
    page.choose("Sort by", "name")
    page.click("input", "Filter")
    page.press(*"fit|moid")
    page.click(tile("sigmoid", ".name"))
    page.click(tile("my_fit", "input"))
    page.wait_for_text("vanishing gradients", "aside .verdict")
    shows = "() => document.querySelector('main').innerText"
    shown = page.run(shows)
    with browser.window(1366, 2400) as other:
        other.open(page.address())
        other.wait("(shown) => document.querySelector('main').innerText === shown", shown)
        assert other.run("() => find('select', 'Measure').value") == "update_ratio"
        assert other.run("() => find('input', 'Compare my_fit').checked")


def test_back_leads_to_what_was_shown_before(page):
    page.click(tile("sigmoid", ".name"))
    page.wait_for_text("sigmoid", "aside h2")
    page.click(tile("my_fit", ".name"))
    page.wait_for_text("my_fit", "aside h2")
    page.click("nav button", "Compare")
    page.text(".compare figcaption")
    page.back()
    page.wait_for_text("my_fit", "aside h2")
    page.back()
    page.wait_for_text("sigmoid", "aside h2")


LIGHTNESS = """async (mode) => {
  window.parent.document.querySelector("app-header-dark-mode-toggle button").click();
  await new Promise((done) => setTimeout(done, 100));
  const items = [...window.parent.document.querySelectorAll("[role=menuitem]")];
  items.find((item) => item.textContent.trim() === mode).click();
}"""


def test_it_is_dark_where_tensorboard_is(page):
    background = "() => getComputedStyle(document.body).backgroundColor"
    light = page.run(background)
    page.run(LIGHTNESS, "Dark")
    page.wait(f"(light) => ({background})() !== light", light)
    page.wait("() => window.parent.document.body.classList.contains('dark-mode')")
    corner = page.picture()[-5, 5]
    assert corner.max() < 80
    page.run(LIGHTNESS, "Light")
    page.wait(f"(light) => ({background})() === light", light)


def test_a_link_that_makes_no_sense_shows_what_it_can(page):
    for key, text in {
        "measure": "__proto__",
        "runs": '[null, 1, {}, "sigmoid", "sigmoid"]',
        "step": "1e999",
        "layers": "[[]]",
        "group": "<img src=x onerror=alert(1)>",
        "zoom": '{"profile": {"x": ["a", null]}, "series": {"x": [1e308, -1e308]}}',
        "axis": "constructor",
    }.items():
        compare(page, f"&p.mnist_vg.{key}={urllib.parse.quote(text)}")
        page.go(f"#mnist_vg&p.mnist_vg.{key}={urllib.parse.quote(text)}")
        page.wait(FILLED, TILES)


CUT = """() => {
  const width = document.documentElement.clientWidth;
  const inView = ({ left, right }) => left >= 0 && right <= width;
  const scrolls = (element) => /auto|scroll/.test(getComputedStyle(element).overflow);
  const cut = [...document.querySelectorAll("body *")].filter((element) => {
    if (!element.checkVisibility() || element.closest(".unseen")) return false;
    const box = element.getBoundingClientRect();
    if (element.closest("svg")) return element.tagName === "text" && !inView(box);
    const wide = element.scrollWidth > element.clientWidth + 1;
    const inline = getComputedStyle(element).display === "inline";
    return (wide && !inline && !scrolls(element)) || (box.width && !inView(box));
  });
  // The names of layers beside a heat map have the height of it.
  const high = [...document.querySelectorAll(".layers")].filter(
    (names) => names.scrollHeight > names.parentElement.querySelector("canvas").offsetHeight + 2,
  );
  return [...cut, ...high].map(({ outerHTML }) => outerHTML.slice(0, 120));
}"""


@pytest.mark.parametrize("size", [(1366, 768), (600, 900)], ids=["wide", "narrow"])
def test_no_text_is_cut(page, size):
    page.size(*size)
    try:
        for state in ("", "run=exploding", "measure=units_saturated", "filter=my"):
            page.go(f"#mnist_vg&p.mnist_vg.{state}")
            page.wait(FILLED, 1)
            assert page.run(CUT) == [], state
        for run in ("my_fit", "sigmoid"):
            compare(page, f'&p.mnist_vg.runs=["{run}"]')
            assert page.run(CUT) == [], run
    finally:
        page.size(1366, 2400)


CONTROLS = """() => {
  const controls = "a[href], button, input, select, summary, canvas, [tabindex='0']";
  window.controls = [...document.querySelectorAll(controls)].filter((each) =>
    each.checkVisibility(),
  );
  window.reached = new Set();
  document.addEventListener("focusin", ({ target }) => window.reached.add(target));
  return window.controls.length;
}"""


@pytest.mark.parametrize("view", ["overview", "compare"])
def test_the_keyboard_reaches_every_control(page, view):
    if view == "compare":
        compare(page, "&p.mnist_vg.filter=moid|fit")
    else:
        page.go("#mnist_vg&p.mnist_vg.filter=moid|fit&p.mnist_vg.run=sigmoid")
        page.text("aside ol")
    count = page.run(CONTROLS)
    assert count > 15
    page.focus("nav button")
    # One more, and the focus would leave the frame.
    page.press(*["Tab"] * (count - 1))
    missed = "() => window.controls.filter((each) => !window.reached.has(each))"
    assert page.run(f"() => ({missed})().map(({{ outerHTML }}) => outerHTML)") == []


def test_keys_do_what_the_mouse_does(page):
    page.focus("select", "Measure")
    page.press(*"upd")
    page.focus("input", "Filter")
    page.press(*"moid")
    page.wait_for_text("1 tile", ".count")
    assert "measure=update_ratio" in page.address()
    page.focus(tile("sigmoid", "input"))
    page.press("Space", "Tab", "Enter")
    page.wait_for_text("sigmoid", "aside h2")
    page.focus("aside button.symptom")
    page.press("Enter")
    assert reading(page, "sigmoid", "layer")
    page.focus("nav button", "Compare 1 run")
    page.press("Enter")
    page.wait_for_text("sigmoid", ".runs")


@pytest.mark.parametrize("name", ["my_fit", ODD_NAME])
def test_a_heat_map_can_be_taken_along(page, flows, name):
    values = recorded(flows, name)
    steps = Run.load(flows / name).history["step"]
    path = page.save(tile(name, "button"), "CSV")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["run"] for row in rows} == {name}
    assert [int(row["step"]) for row in rows[: len(steps)]] == list(steps)
    numbers = [float(row["gradient_mean_abs"].replace("Infinity", "inf")) for row in rows]
    kept = [row for row in values if len(rows) == values.size or not np.isnan(row).all()]
    np.testing.assert_allclose(numbers, np.ravel(kept), rtol=1e-6)
    drawing = ElementTree.parse(page.save(tile(name, "button"), "SVG")).getroot()
    squares = drawing.findall(".//{http://www.w3.org/2000/svg}rect[@width='12']")
    drawn = [re.findall(r"\d+", square.get("fill")) for square in squares]
    wanted = cells(page, name, *values.shape)
    np.testing.assert_allclose(np.reshape(np.array(drawn, int), wanted.shape), wanted, atol=1)
    left, top, *_ = map(float, drawing.get("viewBox").split())
    picture = matplotlib.image.imread(page.save(tile(name, "button"), "PNG"))
    x, y = (np.array([float(square.get(side)) for square in squares]) for side in "xy")
    pixels = picture[(2 * (y + 2 - top)).astype(int), (2 * (x + 2 - left)).astype(int), :3]
    np.testing.assert_allclose(255 * pixels.reshape(wanted.shape), wanted, atol=1)


SETTLED = """async () => {
  const count = () => document.querySelectorAll("*").length;
  const before = count();
  await new Promise((done) => setTimeout(done, 500));
  return count() === before;
}"""


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: `make page` does")
@pytest.mark.parametrize("view", ["overview", "compare"])
def test_the_page_keeps_the_rules_of_accessibility(page, view):
    page.go(f"#mnist_vg&p.mnist_vg.run=sigmoid&p.mnist_vg.filter=moid|fit&p.mnist_vg.view={view}")
    page.wait(
        "(view) => !!find(view)", {"overview": "aside ol", "compare": ".histograms svg"}[view]
    )
    page.wait(SETTLED)
    assert broken_rules(page) == []
