"""What a notebook shows, and how TensorFlow is imported."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import without_xla

from mnist_vg import Run, Scenario, UsageError, diagnose, train
from mnist_vg.tensorflow_import import import_tensorflow

PAGE = Path(__file__).parents[1] / "docs" / "gradient_logger.md"
SICK = Scenario(dataset="digits", activation="sigmoid", num_layers=7, iterations=40, log_every=10)


@pytest.fixture(scope="module")
def sick(tmp_path_factory):
    with without_xla():
        return train(SICK, tmp_path_factory.mktemp("logs"))


def test_a_run_is_told_in_one_line(sick):
    folder = str(sick.folder)
    assert repr(sick) == (
        f"Run(name='sigmoid', status='finished', verdict='vanishing gradients', folder={folder!r})"
    )


def test_a_diagnosis_is_told_as_the_verdict_with_a_line_for_each_symptom(sick):
    diagnosis = diagnose(sick)
    [evidence] = diagnosis.evidence
    told = f"vanishing gradients\n    {evidence.line}"
    assert repr(diagnosis) == repr(diagnose(str(sick.folder))) == told
    of_folder = diagnose(sick.folder.parent)
    assert list(of_folder) == ["sigmoid"]
    assert repr(of_folder) == f"sigmoid: {told}"
    with pytest.raises(UsageError, match="holds no run"):
        diagnose(sick.folder / "nothing")


def test_training_shows_a_progress_bar_and_symptoms_where_someone_sees_them(
    tmp_path, capsys, monkeypatch
):
    with without_xla():
        train(SICK, tmp_path / "in_a_file")
        assert capsys.readouterr().out == ""
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        run = train(SICK, tmp_path / "on_a_terminal")
    shown = capsys.readouterr().out
    assert "40/40" in shown
    assert shown.count(diagnose(run).evidence[0].line) == 1


MAGICS = """
def load_ext(name):
    importlib.import_module(name).load_ipython_extension

def tensorboard(arguments):
    server = program.TensorBoard(default.get_plugins())
    server.configure(["tensorboard", *arguments.split()])
"""
"""IPython's magics of these names, as far as plain Python has them."""


def test_the_cells_of_the_notebook_run_without_a_message(tmp_path):
    [cells] = re.findall(r"```ipython\n(.*?)```", PAGE.read_text(), re.DOTALL)
    *lines, last = re.sub(r"^%(\w+) (.*)$", r"\1('\2')", cells, flags=re.MULTILINE).splitlines()
    imports = "import importlib\nfrom tensorboard import default, program"
    script = "\n".join([imports, MAGICS, *lines, f"print(repr({last}))"])
    assert "tensorboard('--logdir logdir')" in lines
    quiet = {"TF_CPP_MIN_LOG_LEVEL", "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key not in quiet},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    [(name, diagnosis)] = diagnose(tmp_path / "logdir").items()
    assert done.stdout.endswith(f"{name}: {diagnosis!r}\n")
    assert Run.load(tmp_path / "logdir" / name).status == "finished"


class NoTensorFlow:
    """An import of TensorFlow fails as it does where memory is short."""

    def find_spec(self, name, *_):
        if name == "tensorflow":
            raise ImportError("libtensorflow_cc.so.2: failed to map segment\nfrom shared object")


def test_tensorflow_that_cannot_be_imported_gets_one_line(monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorflow")
    monkeypatch.setattr(sys, "meta_path", [NoTensorFlow(), *sys.meta_path])
    with pytest.raises(UsageError, match=r"failed to map segment\); ") as caught:
        import_tensorflow()
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (10**9, 10**9))
    with pytest.raises(UsageError, match=r"1\.0 GB of address space"):
        import_tensorflow()
