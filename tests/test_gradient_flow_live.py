"""The tab "Gradient flow" in real browsers: logs that grow, large ones, and those of others."""

import shutil
import sys
from pathlib import Path

import pytest
from flows import FOREIGN, record
from servers import TENSORBOARD, serving
from tab import open_tab, tile, tiles

from mnist_vg import Recorder, Run

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

from _many_runs import write_runs

HEALTHY = [[0.1] * 4, [0.2] * 4]

RELOAD = "() => document.querySelector('[aria-label=Reload], .reload-button').click()"


@pytest.fixture
def growing(flows, tmp_path):
    """A log folder with a finished run, and the address of a TensorBoard behind another server."""
    shutil.copytree(flows / "relu-seed0", tmp_path / "finished")
    options = ["--path_prefix", "/behind/proxy", "--reload_interval", "1"]
    with serving(tmp_path, program=TENSORBOARD, options=options) as (address, _):
        assert address.endswith("/behind/proxy/")
        yield tmp_path, address


def test_a_run_that_trains_appears_says_so_and_ends_with_its_verdict(window, growing):
    logdir, address = growing
    with Recorder(logdir / "loop") as first:
        record(first, HEALTHY)
        open_tab(window, address, tiles=2)
        window.wait_for_text("is training, step 3", tile("loop"))
        window.wait_for_text("1 training", "nav")
        window.choose("Sort by", "name")
        window.click(tile("finished", "input"))
        window.click(tile("finished", ".name"))
        window.click("input", "Filter")
        window.press(*"fin|loop")
        # TensorBoard reads every second, and the tab looks every five.
        record(first, HEALTHY, first=4)
        window.wait_for_text("is training, step 7", tile("loop"))
        window.wait_for_text("7", tile("loop", ".steps"))
    second = Recorder(logdir / "loop2")
    record(second, HEALTHY)
    window.wait(f"() => {{ ({RELOAD})(); return true; }}", frame=False)
    window.wait_for_text("is training", tile("loop2"))
    window.wait_for_text(Run.load(logdir / "loop").verdict, tile("loop", ".badge"))
    assert "training" not in window.text(tile("loop"))
    second.close()
    assert tiles(window) == ["finished", "loop", "loop2"]
    assert window.run("() => find('input', 'Filter').value") == "fin|loop"
    assert window.run("() => find('input', 'Compare finished').checked")
    assert window.run("() => document.activeElement === find('input', 'Filter')")
    assert "finished" in window.text("aside")


TABS = """() => [...document.querySelectorAll("[role=tab]")]
  .filter((tab) => tab.checkVisibility())
  .map((tab) => tab.textContent.trim())"""


def test_a_log_without_runs_of_ours_has_no_tab(window, flows, tmp_path):
    shutil.copytree(flows / FOREIGN, tmp_path / FOREIGN)
    with serving(tmp_path) as (address, _):
        window.open(address)
        window.wait(f"() => ({TABS})().some((tab) => /scalars/i.test(tab))", frame=False)
        assert "Gradient flow" not in " ".join(window.run(TABS, frame=False))
        # Its first run brings the tab.
        shutil.copytree(flows / "relu-seed0", tmp_path / "ours")
        shown = f"({TABS})().some((tab) => /gradient flow/i.test(tab))"
        window.wait(f"() => {{ ({RELOAD})(); return {shown}; }}", frame=False)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A log of 1,000 runs."""
    folder = tmp_path_factory.mktemp("many")
    write_runs(folder, 1000, 6, 10)
    with serving(folder) as (address, _):
        yield address


PAINTED = """(name) => {
  const canvas = document.querySelector(`.tile[data-name="${name}"] canvas`);
  if (!canvas || !canvas.width) return false;
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return pixels.some((value, n) => n % 4 === 3 && value === 255);
}"""


def test_a_thousand_runs_fill_as_they_are_scrolled_to(window, many):
    open_tab(window, many, "&p.mnist_vg.sort=name&p.mnist_vg.seeds=each", tiles=1)
    window.wait_for_text("1000 tiles", ".count")
    names = tiles(window)
    assert names == [f"run{number:05}" for number in range(1000)]
    window.wait(PAINTED, names[0])
    assert not window.run(PAINTED, names[-1])
    window.run("() => scrollTo(0, document.body.scrollHeight)")
    window.wait(PAINTED, names[-1])
    assert window.run("() => document.querySelectorAll('canvas').length") < 100
    window.click("input", "Filter")
    window.press(*"00500")
    window.wait_for_text("1 tile", ".count")
    window.wait(PAINTED, names[500])
