"""The tab "Gradient flow" in real browsers, on a real TensorBoard: the overview."""

import json

import matplotlib
import numpy as np
import pytest
from flows import DAMAGED, MARKED, ODD_NAME, SOUND, write_flows
from servers import serving, wait_for_runs

from mnist_vg import Run

MARKS = {"nan": "#d81b60", "inf": "#ff8f00", "zero": "#000000", "none": "#9e9e9e"}

TILES = len(SOUND) + len(DAMAGED) - 1
"""Two seeds of one network share a tile."""


@pytest.fixture(scope="module")
def flows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flows")
    write_flows(folder)
    return folder


@pytest.fixture(scope="module")
def board(flows):
    with serving(flows) as (address, _):
        wait_for_runs(address, len(SOUND) + len(DAMAGED))
        yield address


@pytest.fixture
def page(window, board):
    """The tab, with all tiles on the screen."""
    window.size(1366, 2000)
    opened(window, f"{board}#mnist_vg")
    return window


FILLED = """async (tiles) => {
  const steps = [...document.querySelectorAll(".tile .steps")].map((each) => each.textContent);
  if (steps.length < tiles || steps.some((text) => text.includes("…"))) return false;
  for (const _ of [1, 2]) await new Promise(requestAnimationFrame);
  return true;
}"""


def opened(window, address, tiles=TILES):
    window.open(address)
    window.wait(FILLED, tiles)


def tile(name, part=""):
    """The selector of a tile, or of a part of it."""
    return f".tile[data-name={json.dumps(name, ensure_ascii=False)}] {part}".strip()


def gradients(flows, *names):
    """A run's mean absolute gradients, `[layers, records]`; of several seeds their middle."""
    return np.median([Run.load(flows / n).history["gradient_mean_abs"].T for n in names], axis=0)


def colours(values, low, high):
    """What an independent twin of the colour scale makes of numbers, between two powers of 10."""
    shades = matplotlib.colormaps["viridis"].resampled(1024)
    with np.errstate(divide="ignore", invalid="ignore"):
        place = np.clip((np.log10(values) - low) / (high - low), 0, 1)
    found = shades(np.rint(1023 * np.nan_to_num(place)).astype(int))[..., :3]
    marks = {"nan": np.isnan(values), "inf": np.isinf(values), "zero": values == 0}
    for mark, cells in marks.items():
        found[cells] = matplotlib.colors.to_rgb(MARKS[mark])
    return np.rint(255 * found)


BOX = """(selector) => {
  const canvas = document.querySelector(selector);
  const [frame, box] = [window.frameElement, canvas].map((each) => each.getBoundingClientRect());
  const { clientLeft, clientTop, clientWidth, clientHeight } = canvas;
  return [frame.x + box.x + clientLeft, frame.y + box.y + clientTop, clientWidth, clientHeight];
}"""


def cells(window, name, layers, records):
    """The pixels of a heat map on the screen, one for each cell: `[layers, records, 3]`."""
    left, top, width, height = window.run(BOX, tile(name, "canvas"))
    # A sign may stand in the middle of a cell.
    x = left + width * (np.arange(records) + 0.2) / records
    y = top + height * (layers - np.arange(layers) - 0.5) / layers
    return window.picture()[y.astype(int)[:, None], x.astype(int)]


def test_pixels_have_the_colours_of_the_numbers_in_the_event_files(page, flows):
    everything = np.concatenate([gradients(flows, name).ravel() for name in SOUND])
    known = everything[np.isfinite(everything) & (everything > 0)]
    low, high = np.floor(np.log10(known.min())), np.ceil(np.log10(known.max()))
    for name, runs in {
        "sigmoid": ["sigmoid"],
        "exploding": ["exploding"],
        "my_fit": ["my_fit"],
        "relu": ["relu-seed0", "relu-seed1"],
    }.items():
        values = gradients(flows, *runs)
        expected = colours(values, low, high)
        np.testing.assert_allclose(cells(page, name, *values.shape), expected, atol=6, err_msg=name)


def test_nan_inf_zero_and_no_record_have_colours_of_their_own(page):
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
        expected = 255 * np.array(matplotlib.colors.to_rgb(MARKS[mark]))
        np.testing.assert_allclose(pixels[layer, record], expected, atol=1, err_msg=mark)
    assert {"NaN", "Inf", "zero", "no record"} <= set(
        page.run("() => document.querySelector('.legend').textContent.split(/\\n\\s*/)")
    )


def test_the_pointer_reads_exact_numbers(page, flows):
    values = gradients(flows, "sigmoid")
    for layer, record in [(0, 0), (9, 12), (4, 7)]:
        across, down = (record + 0.5) / 13, 1 - (layer + 0.5) / 10
        page.point(tile("sigmoid", "canvas"), across, down)
        step = min(25 * record, 299)
        said = page.wait(
            "(output, start) => { const { textContent } = document.querySelector(output);"
            "return textContent.startsWith(start) && textContent; }",
            tile("sigmoid", "output"),
            f"layer{layer + 1}, step {step}: ",
        )
        assert float(said.split()[-1]) == pytest.approx(values[layer, record], rel=5e-3)
