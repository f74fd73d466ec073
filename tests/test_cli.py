import io
import json
import os
import shutil
import subprocess
import sys
import types

import pytest
from conftest import assert_refused, call_command, run_command, without_xla
from rich.console import Console

from mnist_vg import SUITES, Run, Scenario, UsageError, train
from mnist_vg.cli.diagnose import _exit_code
from mnist_vg.diagnosis.diagnosis import (
    BROKE_OFF,
    NOT_LEARNED,
    NOTHING_RECORDED,
    STOPPED_EARLY,
    Diagnosis,
)
from mnist_vg.report import Display
from mnist_vg.runs import events
from mnist_vg.runs.folder import claim_folder

pytestmark = pytest.mark.usefixtures("shared_programs")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "sigmod"], ["scenario: 'sigmod'", "did you mean sigmoid"]),
        (["train", "SIGMOID"], ["scenario: 'SIGMOID'", "did you mean sigmoid or"]),
        (["train", "xyz"], ["scenario: 'xyz' is not known; mnist-vg list shows every name"]),
        (["train", "--activation", "rellu"], ["activation: 'rellu'", "did you mean relu"]),
        (["train", "--optimizer", "sdg"], ["optimizer: 'sdg'", "did you mean sgd"]),
        (["train", "--kernel-initializer", "he_norm"], ["kernel_initializer:", "he_normal"]),
        (["train", "--num-layers", "0"], ["num_layers: 0", "1 or more"]),
        (["train", "--iterations", "many"], ["--iterations", "'many'", "integer"]),
        (["train", "--learning-rate", "-1"], ["learning_rate: -1.0", "positive finite"]),
        (["train", "--learning-rate", "inf"], ["learning_rate: inf", "positive finite"]),
        (["train", "--name", "a/b", "relu"], ["name: 'a/b'", "letters, digits"]),
        (["train", "--name", "both", "relu", "sigmoid"], ["name: 'both'", "2 scenarios"]),
        (["train", "--name", ""], ["name: '' names no folder"]),
        (["sweep", ""], ["name: '' must be 1 to 100 letters"]),
        (["train", "--checkpoint-seconds", "-1"], ["--checkpoint-seconds", "-1"]),
        (["train", "--depth", "3"], ["--depth"]),
        (["train", "circlez"], ["scenario: 'circlez'", "did you mean circles"]),
        (["train", "--seeds", "0"], ["--seeds", "0"]),
        (["train", "--momentum", "0.9"], ["momentum: 0.9", "adam", "sgd or rmsprop"]),
        (["train", "--output", "sigmoid_twice", "--num-layers", "1"], ["output:", "num_layers"]),
        (
            ["train", "--kernel-initializer", "random_normal(stdev=1)"],
            ["kernel_initializer: 'random_normal(stdev=1)'", "mean=…, stddev=…"],
        ),
        (
            ["train", "--kernel-initializer", "random_normal(stddev=)"],
            ["kernel_initializer: 'random_normal(stddev=)' has no value for stddev; random_normal"],
        ),
        (
            ["train", "--kernel-initializer", "random_normal(stddev=1"],
            ["has no closing bracket; random_normal takes mean=…, stddev=…"],
        ),
        (["train", "--kernel-initializer", "he normal"], ["did you mean he_normal"]),
        (["plot", "nowhere"], ["logdir: nowhere holds no run"]),
        (["diagnose", "nowhere"], ["logdir: nowhere holds no run"]),
        (["cure", "sigmod"], ["scenario: 'sigmod'", "did you mean sigmoid"]),
        (["cure", "sigmoid", "--seeds", "2"], ["--seeds", "2"]),
        (["trian"], ["trian"]),
        (["board", "--port", "0"], ["--port", "0"]),
    ],
)
def test_bad_input_gets_one_line_and_code_2_and_writes_nothing(tmp_path, arguments, words):
    assert_refused(run_command(*arguments, cwd=tmp_path), *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset", "mnits"], "dataset: 'mnits' .*did you mean mnist"),
        (["--activation", "glu", "--hidden-size", "9"], "scenario: 'glu' makes no network"),
    ],
    ids=["an unknown data set", "an impossible network"],
)
def test_what_is_refused_after_the_import_of_tensorflow_gets_one_line(
    tmp_path, arguments, words, capfd
):
    with pytest.raises(UsageError, match=words) as refusal:
        call_command("train", "--logdir", tmp_path, *arguments)
    assert "\n" not in str(refusal.value)
    printed, errors = capfd.readouterr()
    assert {line.split()[0] for line in printed.splitlines()} <= {"Starting", "Compiling"}
    assert errors == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"], ["list"]])
def test_help_and_lists_import_no_tensorflow(arguments):
    code = (
        "import sys; sys.argv[0] = 'mnist-vg'\n"
        "from mnist_vg.cli import cli\n"
        f"cli.main({arguments!r}, standalone_mode=False)\n"
        "assert not {'tensorflow', 'keras', 'tensorflow_datasets'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip()


def test_ctrl_c_during_the_imports_gets_one_line():
    code = """
import os, signal, sys

import mnist_vg.__main__

class CtrlC:
    def find_spec(self, name, *_):
        if name == "numpy":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, CtrlC())
mnist_vg.__main__.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert_refused(done, "interrupted", code=130)


def test_every_setting_is_an_option():
    printed = run_command("train", "--help").stdout
    for name in Scenario().settings():
        assert f"--{name.replace('_', '-')}" in printed


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_screen_of_any_encoding_is_written_to(encoding, tmp_path):
    def on_such_a_screen(*arguments):
        options = {"env": {**os.environ, "PYTHONIOENCODING": encoding}, "encoding": encoding}
        return run_command(*arguments, **options)

    done = on_such_a_screen("list")
    assert (done.returncode, done.stderr) == (0, "")
    named = next(s for s in SUITES["glorot2010"] if "√" in s.about)
    assert named.name in done.stdout
    assert ("√" if encoding == "utf-8" else r"\u221a") in done.stdout
    assert_refused(on_such_a_screen("diagnose", tmp_path / "größe-√"), "holds no run")


def test_the_list_names_every_scenario():
    printed = run_command("list").stdout
    for suite, scenarios in SUITES.items():
        for name in (suite, *(scenario.name for scenario in scenarios)):
            assert f" {name} " in printed


NOT_GIVEN = (
    *("output", "output_initializer", "bias_initializer", "shared_initializer", "momentum"),
    *("partial_batches", "data_seed"),
    "measures",
)


def test_options_make_a_new_network(tmp_path, capfd):
    code = call_command(
        *["train", "--activation", "gelu", "--num-layers", "4", "--hidden-size", "16"],
        *["--kernel-initializer", "he_normal", "--optimizer", "sgd", "--learning-rate", "0.1"],
        *["--iterations", "60", "--batch-size", "20", "--log-every", "30", "--seed", "3"],
        *["--skip-connections", "--normalization", "layer", "--name", "mine"],
        *["--logdir", tmp_path],
    )
    printed, errors = capfd.readouterr()
    assert (code, errors) == (0, "")
    run = Run.load(tmp_path / "mine")
    assert run.settings == {
        "name": "mine",
        "dataset": "mnist",
        "num_layers": 4,
        "hidden_size": 16,
        "activation": "gelu",
        "kernel_initializer": "he_normal",
        "normalization": "layer",
        "skip_connections": True,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "global_clipnorm": None,
        "iterations": 60,
        "batch_size": 20,
        "log_every": 30,
        "seed": 3,
        **{key: value for key, value in Scenario().settings().items() if key in NOT_GIVEN},
    }
    assert run.history["gradient_mean_abs"].shape == (3, 4)
    lines = [line for line in printed.splitlines() if line.startswith("Iteration")]
    assert [line.split(",")[0] for line in lines] == [
        f"Iteration {step} of 60" for step in (0, 30, 59)
    ]


def test_a_quick_run_finishes_in_a_separate_folder(tmp_path):
    assert call_command("train", "relu", "--quick", "--logdir", tmp_path) == 0
    run = Run.load(tmp_path / "relu-quick")
    assert run.status == "finished"
    assert run.settings["iterations"] == 300
    assert [path.name for path in tmp_path.iterdir()] == ["relu-quick"]


def test_a_quick_run_that_has_not_learned_was_stopped_early(tmp_path, capfd):
    """The same network without --quick has not learned, and shows no symptom either."""
    for quick in (["--quick"], []):
        command = ["train", "--dataset", "digits", "--activation", "relu", "--num-layers", "2"]
        command += ["--optimizer", "sgd", "--learning-rate", "1e-3", "--name", "slow"]
        command += ["--iterations", "60", "--log-every", "10", "--logdir", tmp_path]
        with without_xla():
            assert call_command(*command, *quick) == 0
    verdicts = [Run.load(tmp_path / name).verdict for name in ("slow-quick", "slow")]
    assert verdicts == [STOPPED_EARLY, NOT_LEARNED]
    assert STOPPED_EARLY in capfd.readouterr().out
    assert call_command("diagnose", "--logdir", tmp_path, "slow-quick", "--json") == 3
    [told] = json.loads(capfd.readouterr().out)
    assert (told["judged"], told["advice"]) == (False, ["the whole run, without --quick"])
    assert call_command("diagnose", "--logdir", tmp_path, "slow") == 1


def test_seeds_are_separate_runs_and_one_line_in_the_table(tmp_path, capsys):
    few = ["--iterations", "20", "--num-layers", "2", "--logdir", tmp_path]
    assert call_command("train", "relu", "--seeds", "3", "--seed", "5", *few) == 0
    names = [f"relu-seed{seed}" for seed in (5, 6, 7)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    results = [Run.load(tmp_path / name).results["test_accuracy"] for name in names]
    assert len(set(results)) == 3
    printed = capsys.readouterr().out
    [row] = [line for line in printed.splitlines() if line.startswith("│ relu ")]
    assert "of 3 │" in row
    assert f"{sorted(results)[1]:.2%}" in row


def test_plot_draws_the_event_files_without_tensorflow(logdir, tmp_path):
    code = (
        "import sys; sys.argv[0] = 'mnist-vg'\n"
        "from mnist_vg.cli import cli\n"
        f"cli.main(['plot', {str(logdir)!r}, '--out', {str(tmp_path)!r}], standalone_mode=False)\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    drawn = {"gradient_profile", "learning"}
    files = {f"{name}.{kind}" for name in drawn for kind in ("png", "svg")}
    assert {path.name for path in tmp_path.iterdir()} == files
    assert {line.rpartition("/")[2] for line in done.stdout.splitlines()} == files


def diagnoses(done):
    """The rows of the printed table, without evidence and advice."""
    rows = [line.split("│") for line in done.stdout.splitlines() if line.startswith("│")]
    return [tuple(cell.strip() for cell in row[1:5]) for row in rows if row[1].strip()]


def test_diagnose_lists_sick_runs_first_and_exits_with_1(logdir):
    history = {name: Run.load(logdir / name).history for name in ("sigmoid", "relu", "leaky_relu")}
    [evidence] = Diagnosis.of(history["sigmoid"], finished=True).evidence
    done = run_command("diagnose", logdir)
    assert (done.returncode, done.stderr) == (1, "")
    others = sorted(("relu", "leaky_relu"), key=lambda name: history[name]["accuracy/test"][-1])
    assert diagnoses(done) == [
        ("sigmoid", "vanishing gradients", evidence.layer, str(evidence.step)),
        *[(name, "healthy", "", "") for name in others],
    ]
    done = run_command("diagnose", logdir, "relu")
    assert (done.returncode, diagnoses(done)) == (0, [("relu", "healthy", "", "")])
    refused = run_command("diagnose", logdir, "relu", "sigmod")
    assert_refused(refused, "run: 'sigmod'", "did you mean sigmoid")


def test_diagnose_prints_json_without_tensorflow(logdir):
    code = (
        "import sys; sys.argv[0] = 'mnist-vg'\n"
        "from mnist_vg.cli import cli\n"
        f"code = cli.main(['diagnose', {str(logdir)!r}, '--json'], standalone_mode=False)\n"
        "assert code == 1\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    printed = {diagnosis["run"]: diagnosis for diagnosis in json.loads(done.stdout)}
    assert next(iter(printed)) == "sigmoid"
    assert set(printed) == {"sigmoid", "relu", "leaky_relu"}
    for name, found in printed.items():
        expected = Diagnosis.of(Run.load(logdir / name).history, finished=True)
        assert found["healthy"] is (name != "sigmoid")
        assert (found["verdict"], found["finished"]) == (expected.verdict, True)
        assert [(s["symptom"], s["layer"], s["step"], s["value"]) for s in found["symptoms"]] == [
            (e.symptom, e.layer, e.step, e.value) for e in expected.evidence
        ]
        assert found["not_recorded"] == {}


def test_diagnose_reads_runs_that_were_killed(logdir, tmp_path):
    """Runs that were killed while writing a record, and before the first one."""

    def killed(name, run, step):
        folder = tmp_path / name
        shutil.copytree(logdir / run, folder)
        facts = json.loads((folder / "run.json").read_text())
        facts |= {"status": "running", "results": None, "verdict": None}
        (folder / "run.json").write_text(json.dumps(facts))
        [path] = events.event_files(folder)
        [length] = events.lengths_before(folder, step)
        os.truncate(path, length + 1000)
        assert (path.stat().st_size, Run.load(folder).status) == (length + 1000, "running")

    killed("sick", "sigmoid", 400)
    killed("young", "relu", 400)
    killed("begun", "relu", 0)
    shutil.copytree(tmp_path / "begun", tmp_path / "empty")
    for path in events.event_files(tmp_path / "empty"):
        path.unlink()
    [evidence] = Diagnosis.of(Run.load(logdir / "sigmoid").history, finished=True).evidence

    done = run_command("diagnose", tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert diagnoses(done) == [
        ("sick", "vanishing gradients", evidence.layer, str(evidence.step)),
        ("begun", NOTHING_RECORDED, "", ""),
        ("empty", NOTHING_RECORDED, "", ""),
        ("young", BROKE_OFF, "", ""),
    ]
    for name, verdict in (("empty", NOTHING_RECORDED), ("young", BROKE_OFF)):
        done = run_command("diagnose", tmp_path, name)
        assert (done.returncode, diagnoses(done)) == (3, [(name, verdict, "", "")])
    with claim_folder(tmp_path / "young"):  # As the process does that trains it.
        assert call_command("diagnose", tmp_path, "young") == 0
        assert call_command("diagnose", tmp_path, "young", "empty") == 3


@pytest.mark.parametrize(
    ("healths", "code"),
    [
        ([], 0),
        (["healthy"], 0),
        (["healthy", "unknown"], 3),
        (["unknown", "sick", "healthy"], 1),
    ],
)
def test_a_sick_run_counts_before_one_that_could_not_be_judged(healths, code):
    diagnoses = [
        types.SimpleNamespace(judged=health != "unknown", healthy=health == "healthy")
        for health in healths
    ]
    assert _exit_code(diagnoses) == code


def test_a_terminal_gets_a_live_bar(tmp_path):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    scenario = Scenario(activation="relu", num_layers=2, iterations=40, log_every=20, name="bar")
    with Display(console) as display:
        train(scenario, tmp_path, watch=display.watch)
    shown = screen.getvalue()
    assert "40/40" in shown
    assert "steps/s" in shown
    assert "Iteration" not in shown
    assert display.watched == {"bar"}
