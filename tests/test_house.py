"""The house: each wing introduces itself with an example that runs, and hands out its names."""

import ast
import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mnist_vg

WINGS = [module.name for module in pkgutil.iter_modules(mnist_vg.__path__) if module.ispkg]
FILES = sorted(Path(mnist_vg.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_opens_with_an_example_that_runs(wing, logdir, tmp_path, monkeypatch, capsys):
    opening = importlib.import_module(f"mnist_vg.{wing}").__doc__
    example = re.search("```python\n(.*?)```", opening, re.S)[1]
    assert 3 <= len([line for line in example.splitlines() if line]) <= 7
    shutil.copytree(logdir, tmp_path / "logdir")
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    printed = capsys.readouterr().out
    assert printed or list(tmp_path.glob("*.png")) or (tmp_path / "logdir/my_run").exists()


@pytest.mark.parametrize("wing", [f"mnist_vg.{wing}" for wing in WINGS] + ["mnist_vg"])
def test_a_wing_hands_out_its_public_names(wing):
    module = importlib.import_module(wing)
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)


def test_the_wings_of_the_driver_wait_with_tensorflow():
    code = "import sys, mnist_vg.training, mnist_vg.sweeps, mnist_vg.driver, mnist_vg.figures\n"
    code += "assert not {'tensorflow', 'keras', 'pandas', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_bears_the_name_of_its_class():
    for path in FILES:
        defined = [
            node
            for node in ast.parse(path.read_text()).body
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_")
        ]
        if len(defined) == 1 and isinstance(defined[0], ast.ClassDef):
            assert defined[0].name.lower() == path.stem.replace("_", ""), path
