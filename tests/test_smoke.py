"""Every benchmark, and every script that writes a page, at its smallest size."""

import importlib.metadata
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from conftest import without_xla

ROOT = Path(__file__).parent.parent
SCRIPTS = [
    *sorted(ROOT.glob("benchmarks/[a-z]*.py")),
    # The others there are modules that these import.
    *(path for path in sorted(ROOT.glob("docs/*.py")) if "__main__" in path.read_text()),
]


def committed():
    """What no smoke run may change: when each page, picture and data file was written."""
    kinds = ("docs/**/*.md", "docs/**/*.png", "benchmarks/*.json")
    return {path: path.stat().st_mtime_ns for kind in kinds for path in ROOT.glob(kind)}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_script_goes_the_whole_way(script, monkeypatch, capsys):
    text = script.read_text()
    assert "smoke" in text, f"{script} has no smoke size: hand `smoke` to `run`"
    if re.search("take_picture|webdriver", text) and not shutil.which("chromedriver"):
        pytest.skip("no chromium with its driver on this machine")
    before = committed()
    monkeypatch.setattr(sys, "argv", [str(script), "--smoke"])
    monkeypatch.syspath_prepend(script.parent)
    with without_xla(), pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    lines = printed.out.split("\n")
    if script.parent.name == "benchmarks":
        title, machine, *lines = lines
        assert title.startswith(f"== {script}: ")
        for package in ("TensorFlow", "Keras"):
            assert f"{package} {importlib.metadata.version(package)}" in machine
        assert machine.count("load before") == 1
    assert any(lines), f"{script} printed nothing"
    assert committed() == before
