"""What the tests of the tab "Gradient flow" ask of its page."""

import json
from pathlib import Path

import matplotlib
import numpy as np
from flows import DAMAGED, SOUND

from mnist_vg import Run

TILES = len(SOUND) + len(DAMAGED) - 1
"""Two seeds of one network share a tile."""

AXE = Path(__file__).parent.parent / ".ci/node_modules/axe-core/axe.min.js"

MARKS = {"nan": "#d81b60", "inf": "#ff8f00", "zero": "#000000", "none": "#9e9e9e"}
FRAME = [229, 57, 53]

FILLED = """async (tiles) => {
  const steps = [...document.querySelectorAll(".tile .steps")].map((each) => each.textContent);
  if (steps.length < tiles || steps.some((text) => text.includes("…"))) return false;
  for (const _ of [1, 2]) await new Promise(requestAnimationFrame);
  return true;
}"""


def open_tab(window, address, state="", tiles=TILES):
    """Load the tab anew, and wait until so many tiles are filled."""
    window.open(f"{address}#mnist_vg{state}")
    window.wait(FILLED, tiles)


def compare(window, state):
    """Change the address to a comparison, and wait until all of its charts are drawn for it."""
    window.run("() => document.querySelectorAll('.plot svg').forEach((old) => old.remove())")
    window.go(f"#mnist_vg&p.mnist_vg.view=compare{state}")
    for figure in (".profile", ".series", ".histograms"):
        window.wait("(figure) => !!find(`${figure} svg`)", figure)


def tile(name, part=""):
    """The selector of a tile, or of a part of it."""
    return f".tile[data-name={json.dumps(name, ensure_ascii=False)}] {part}".strip()


def tiles(window):
    """The names of the tiles, in their order."""
    return window.run("() => [...document.querySelectorAll('.tile')].map((t) => t.dataset.name)")


def recorded(logdir, name, measure="gradient_mean_abs"):
    """What a run's event files hold of a measure, `[layers, records]`."""
    return Run.load(logdir / name).history[measure].T


def powers_around(values):
    """The whole powers of ten below and above all numbers that are on a log scale."""
    known = values[np.isfinite(values) & (values > 0)]
    top = np.ceil(np.log10(known.max()))
    return min(np.floor(np.log10(known.min())), top - 3), top


def colours(place):
    """What an independent twin of the colour scale makes of places from 0 to 1."""
    shades = matplotlib.colormaps["viridis"].resampled(1024)
    return 255 * shades(np.rint(1023 * np.clip(place, 0, 1)).astype(int))[..., :3]


def colour(mark):
    return 255 * np.array(matplotlib.colors.to_rgb(MARKS[mark]))


BOX = """(selector) => {
  const canvas = find(selector);
  const [frame, box] = [window.frameElement, canvas].map((each) => each.getBoundingClientRect());
  const { clientLeft, clientTop, clientWidth, clientHeight } = canvas;
  return [frame.x + box.x + clientLeft, frame.y + box.y + clientTop, clientWidth, clientHeight];
}"""


def cells(window, name, layers, records, across=0.2):
    """The pixels of a heat map on the screen, one for each cell: `[layers, records, 3]`.

    They are not those in the middle of the cells, where a sign may stand.
    """
    left, top, width, height = window.run(BOX, tile(name, "canvas"))
    x = left + width * (np.arange(records) + across) / records
    y = top + height * (layers - np.arange(layers) - 0.5) / layers
    return window.picture()[y.astype(int)[:, None], x.astype(int)]


def broken_rules(window):
    """The rules of accessibility that a page breaks, each with an element (axe-core)."""
    look = "return (await axe.run(document)).violations.map((v) => [v.id, v.nodes[0].html]);"
    return window.run(f"async () => {{ {AXE.read_text()}; {look} }}")
