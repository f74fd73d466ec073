"""The choice of remedies, the recommendation, and `mnist-vg cure` on small digits."""

import contextlib
import dataclasses
import io
import itertools
import json
import random
import re
import shlex
from pathlib import Path

import pytest
from conftest import call_command, of_scenarios, without_xla
from test_resume import stamps

from mnist_vg import SCENARIOS, SUITES, Recorder, Run, Scenario, UsageError
from mnist_vg.cli import cli
from mnist_vg.cure import REMEDIES, Cure, Trial, cure, find_sick, remedies_for
from mnist_vg.diagnosis.symptoms import SYMPTOMS
from mnist_vg.report import cure_lines
from mnist_vg.runs.run import find_runs

pytestmark = pytest.mark.usefixtures("shared_programs")

SLOW = Scenario(
    name="slow",
    dataset="digits",
    num_layers=3,
    hidden_size=32,
    activation="relu",
    learning_rate=1e-8,
    iterations=200,
    log_every=10,
    seed=5,
)
# Too short for any remedy to help. The remedies that are left share one compiled program.
SHORT = dataclasses.replace(
    SLOW,
    name="short",
    num_layers=2,
    normalization="batch",
    skip_connections=True,
    iterations=2,
    log_every=1,
)
BATCH = {"normalization": "batch"}
PICTURES = ("png", "svg")
OF_SCENARIOS = [symptom for symptom in SYMPTOMS if of_scenarios(symptom)]
NAMES = [symptom.name for symptom in OF_SCENARIOS]


def test_every_symptom_has_a_remedy_for_its_example():
    assert set(REMEDIES) == {*NAMES, None}
    for symptom, scenario in zip(NAMES, SUITES["symptoms"], strict=True):
        assert remedies_for(scenario, [symptom]), symptom


def test_every_advice_has_a_remedy():
    scenario = Scenario(activation="relu", kernel_initializer="random_normal(stddev=1)")
    tried_by = {
        "initial weights": "kernel_initializer",
        "normalization": "normalization",
        "skip connections": "skip_connections",
        "leaky_relu": "activation",
        "clip": "global_clipnorm",
        "learning rate": "learning_rate",
    }
    for symptom in OF_SCENARIOS:
        found = remedies_for(scenario, [symptom.name])
        keys = {key for changes in found for key in changes}
        advice = ", ".join(symptom.advice)
        assert {key for words, key in tried_by.items() if words in advice} <= keys
        rates = [changes["learning_rate"] for changes in found if "learning_rate" in changes]
        if "a lower learning rate" in symptom.advice:
            assert max(rates) < 0.001
        if "a higher learning rate" in symptom.advice:
            assert min(rates) > 0.001


def test_remedies_are_real_changes_without_duplicates_and_sorted_by_size():
    chance = random.Random(0)
    settings = {
        "activation": ["sigmoid", "relu", "leaky_relu", "selu"],
        "kernel_initializer": ["glorot_uniform", "he_normal", "lecun_normal"],
        "output_initializer": [None, "zeros"],
        "normalization": ["none", "batch"],
        "skip_connections": [False, True],
        "optimizer": ["adam", "sgd"],
        "learning_rate": [None, 1e-4, 1e-3, 0.01, 0.1, 3.0],
        "global_clipnorm": [None, 1.0],
    }
    for _ in range(100):
        scenario = Scenario(**{key: chance.choice(values) for key, values in settings.items()})
        found = remedies_for(scenario, chance.sample(NAMES, chance.randint(0, 4)))
        assert [len(changes) for changes in found] == sorted(map(len, found))
        for changes, other in itertools.combinations(found, 2):
            assert changes != other
        for changes in found:
            changed = dataclasses.replace(scenario, **changes).settings()
            before = scenario.settings()
            assert changes == {k: v for k, v in changed.items() if v != before[k]} != {}


def test_remedies_for_vanishing_gradients():
    batch, skip = {"normalization": "batch"}, {"skip_connections": True}
    relu, he = {"activation": "relu"}, {"kernel_initializer": "he_normal"}
    vanishing, dead = "vanishing gradients", "dead units"
    found = remedies_for(SCENARIOS["sigmoid"], [vanishing])
    assert found == [batch, skip, relu | he, relu | he | batch]
    assert remedies_for(SCENARIOS["relu"], [vanishing]) == [he, batch, skip, he | batch]
    # Two symptoms that share some remedies.
    leaky, slower = {"activation": "leaky_relu"}, {"learning_rate": 1e-4}
    found = remedies_for(SCENARIOS["relu"], [vanishing, dead])
    assert found == [he, batch, skip, leaky, slower, he | batch]


@pytest.mark.parametrize(("optimizer", "own"), [("adam", 1e-3), ("sgd", 1e-2), ("rmsprop", 1e-3)])
@pytest.mark.parametrize("given", [None, 1.0, 10.0, 1e4, 1e-4])
def test_rates_are_multiples_of_the_default_above_or_below_the_present_one(optimizer, own, given):
    rate = given and given * own
    scenario = Scenario(optimizer=optimizer, learning_rate=rate)

    def factors(symptom):
        return [changes["learning_rate"] / own for changes in remedies_for(scenario, [symptom])]

    too_small = {None: [10], 1.0: [10], 10.0: [], 1e4: [], 1e-4: [1, 10]}[given]
    oscillating = {None: [0.1], 1.0: [0.1], 10.0: [1, 0.1], 1e4: [10, 1, 0.1], 1e-4: []}[given]
    assert factors("updates too small") == pytest.approx(too_small)
    assert factors("oscillating loss") == pytest.approx(oscillating)


def test_remedies_without_a_symptom_are_those_at_chance_and_skip_connections():
    at_chance, found = remedies_for(SLOW, ["stuck at chance"]), remedies_for(SLOW, [])
    skip = {"skip_connections": True}
    assert [changes for changes in found if changes not in at_chance] == [skip, BATCH | skip]
    assert [changes for changes in found if changes in at_chance] == at_chance


def trial(accuracies, *changed):
    """A trial with a seed for each of these accuracies, on ten classes."""
    results = [{"test_accuracy": accuracy, "chance": 0.1} for accuracy in accuracies]
    runs = [Run(Path(), "finished", {}, None, {}, results=of_run) for of_run in results]
    return Trial(SLOW, dict.fromkeys(changed, "new"), runs)


@pytest.mark.parametrize(
    ("one", "two", "recommended"),
    [
        ([0.90, 0.90, 0.60], [0.93, 0.93, 0.60], None),  # one seed could not learn
        ([0.90, 0.91, 0.92], [0.92, 0.92, 0.92], "one"),  # as good, with fewer changes
        ([0.90, 0.90, 0.90], [0.93, 0.93, 0.93], "two"),
        ([0.90, 0.90, 0.60], [0.70, 0.70, 0.70], "two"),
        ([0.90, 0.90, None], [0.70, 0.70, 0.70], "two"),
    ],
)
def test_the_smallest_change_that_helped_with_every_seed_is_recommended(one, two, recommended):
    # The larger change is first, so that the order cannot decide.
    trials = {"two": trial(two, "activation", "kernel_initializer"), "one": trial(one, "seed")}
    found = Cure(trial([0.1, 0.55, 0.2]), list(trials.values()), Path()).recommended
    assert found is trials.get(recommended)


def test_a_change_must_be_better_than_every_seed_before():
    before = trial([0.1, 0.70, 0.2])
    assert not trial([0.90, 0.90, 0.70]).helped(before)
    assert trial([0.90, 0.90, 0.71]).helped(before)


def test_find_sick_prefers_a_run_in_the_folder_to_a_named_scenario(tmp_path):
    assert find_sick("sigmoid", tmp_path) is SCENARIOS["sigmoid"]
    with pytest.raises(UsageError, match="'sigmod' is not known; did you mean sigmoid"):
        find_sick("sigmod", tmp_path)
    run = begun(SLOW.with_seed(6), tmp_path)
    assert find_sick("slow-seed6", tmp_path) == dataclasses.replace(SLOW, seed=6)
    # A run with a scenario's name but other settings counts, in its folder.
    mine = dataclasses.replace(SLOW, name="sigmoid")
    begun(mine, tmp_path)
    assert find_sick("sigmoid", tmp_path) == mine
    assert not run.history["step"].size


def test_a_run_of_the_users_own_model_is_refused(tmp_path):
    Recorder(tmp_path / "mine").close()
    with pytest.raises(UsageError, match=f"'mine'.*mnist-vg diagnose --logdir {tmp_path} mine"):
        find_sick("mine", tmp_path)


def begun(scenario, logdir):
    """A run that was killed before its first record."""
    folder = logdir / scenario.name
    folder.mkdir(parents=True)
    run = Run(folder, "running", scenario.settings(), "digits", {})
    run.save()
    return run


@pytest.fixture(scope="module")
def cured(shared_programs, tmp_path_factory):
    """The log folder of a run that the command has cured, and what it printed, line by line."""
    logdir = tmp_path_factory.mktemp("cure") / "log dir"
    begun(SLOW.with_seed(5), logdir)
    printed, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        assert call_command("cure", "slow-seed5", "--logdir", logdir) == 0
    assert errors.getvalue() == ""
    return logdir, printed.getvalue().splitlines()


def nothing_left(scenario, block, symptoms):
    raise AssertionError(f"{scenario.name} was trained")


def test_trials_differ_only_in_their_changes_and_are_not_trained_again(cured):
    logdir, printed = cured
    before = stamps(logdir)
    result = cure(find_sick("slow-seed5", logdir), logdir, watch=nothing_left)
    assert stamps(logdir) == before

    assert result.before.symptoms == ("updates too small",)
    for tried in (result.before, *result.trials):
        for number, run in enumerate(tried.runs):
            differing = {k: v for k, v in run.settings.items() if v != SLOW.settings()[k]}
            seed = {"seed": 5 + number} if number else {}
            assert differing == {"name": f"{tried.scenario.name}-seed{5 + number}"} | seed | dict(
                tried.changes
            )
    runs = [run for tried in (result.before, *result.trials) for run in tried.runs]
    folder = logdir / "cure" / "slow"
    assert {run.folder for run in runs} == set(folder.iterdir())
    assert len(runs) == 3 * (1 + len(result.trials))

    found = result.recommended
    assert list(found.changes) == ["learning_rate"]
    assert found.helped(result.before)
    accuracies = [Run.load(run.folder).results["test_accuracy"] for run in found.runs]
    assert min(accuracies) > 0.7
    assert max(run.results["test_accuracy"] for run in result.before.runs) < 0.3
    assert {run.verdict for run in found.runs} == {"healthy"}
    lines = [line for line in printed if line.startswith(("Recommended", "Train it"))]
    assert lines == cure_lines(result)
    assert lines[0].startswith(f"Recommended: learning_rate={found.changes['learning_rate']}. ")


def test_each_run_is_numbered(cured):
    """Those of the remedies are known once the scenario has been diagnosed."""
    logdir, printed = cured
    count = len(list((logdir / "cure" / "slow").iterdir()))
    assert count > 6
    numbers = [re.search(r"\((\d+) of (\d+)\)$", line) for line in printed if "Training " in line]
    told = [tuple(map(int, number.groups())) for number in numbers]
    assert told == [(n, 3 if n <= 3 else count) for n in range(1, count + 1)]


def test_the_trials_stay_apart_from_the_runs_of_the_log_folder(cured, capfd):
    logdir, _ = cured
    assert [run.name for run in find_runs(logdir)] == ["slow-seed5"]
    assert call_command("diagnose", "--logdir", logdir) == 3
    [told] = [line for line in capfd.readouterr().out.splitlines() if "is a cure" in line]
    command = shlex.split(told.removeprefix("cure/slow is a cure: "))
    assert command == ["mnist-vg", "diagnose", "--logdir", str(logdir), "cure/slow"]
    assert call_command(*command[1:], "--json") == 1
    names = {run["run"] for run in json.loads(capfd.readouterr().out)}
    assert names == {f"cure/slow/{run.name}" for run in (logdir / "cure" / "slow").iterdir()}


def test_patient_and_remedies_are_drawn_on_one_page(cured, tmp_path, capfd):
    _, printed = cured
    [line] = [line for line in printed if line.startswith("Pictures: ")]
    command = shlex.split(line)[2:]
    assert call_command(*command, "--out", tmp_path) == 0
    drawn = sorted(Path(path).name for path in capfd.readouterr().out.splitlines())
    assert drawn == [f"{n}.{kind}" for n in ("gradient_profile", "learning") for kind in PICTURES]


def test_the_printed_commands_work(cured, tmp_path, capfd):
    logdir, printed = cured
    lines = dict(line.split(": ", 1) for line in printed if ": mnist-vg" in line)
    again = ["mnist-vg", "cure", "slow-seed5", "--seeds", "3", "--logdir", str(logdir)]
    assert shlex.split(lines["Again"]) == again
    trials = stamps(logdir / "cure")
    assert call_command(*shlex.split(lines["Again"])[1:]) == 0
    assert stamps(logdir / "cure") == trials
    found = cure(SLOW, logdir, watch=nothing_left).recommended
    command = shlex.split(lines["Train it"])[1:]
    assert command[-2:] == ["--logdir", str(logdir)]
    assert call_command(*command[:-1], tmp_path, "--seeds", "3") == 0
    for run in found.runs:
        assert Run.load(tmp_path / run.name).results == run.results
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("seed", range(20))
def test_the_command_to_train_has_every_setting(seed):
    chance = random.Random(seed)
    changed = {
        "kernel_initializer": "random_normal(stddev=0.1)",
        "output_initializer": "zeros",
        "skip_connections": True,
        "partial_batches": True,
        "optimizer": "sgd",
        "learning_rate": 1e-5,
        "global_clipnorm": 1.0,
        "data_seed": 0,
        "seed": 3,
    }
    some = {key: value for key, value in changed.items() if chance.random() < 0.5}
    cured = trial([0.9], "activation")
    cured = dataclasses.replace(cured, scenario=dataclasses.replace(SLOW, **some))
    lines = cure_lines(Cure(trial([0.1]), [cured], Path("log dir")), Path("data sets"))
    command = shlex.split(lines[1])[4:]
    context = cli.commands["train"].make_context("train", command)
    given = {key: context.params[key] for key in SLOW.settings()}
    scenario = Scenario(**{key: value for key, value in given.items() if value is not None})
    assert scenario == cured.scenario
    assert (context.params["logdir"], context.params["data_dir"]) == (
        Path("log dir"),
        Path("data sets"),
    )


def test_an_earlier_cure_of_other_settings_is_replaced_only_if_told_so(tmp_path):
    with without_xla():
        cure(SHORT, tmp_path, seeds=1)
        longer = dataclasses.replace(SHORT, iterations=3)
        with pytest.raises(UsageError, match="holds a run with iterations 2 and not 3"):
            cure(longer, tmp_path, seeds=1)
        [run, *_] = cure(longer, tmp_path, seeds=1, overwrite=True).before.runs
    assert run.settings["iterations"] == 3


def test_a_healthy_scenario_is_left_alone(cured):
    logdir, _ = cured
    healthy = cure(SLOW, logdir, watch=nothing_left).recommended.scenario
    left = cure(healthy, logdir)
    assert (left.trials, left.recommended) == ([], None)
    expected = f"{healthy.name} is healthy with every seed; there is nothing to cure."
    assert cure_lines(left) == [expected]


def test_where_nothing_helps_nothing_is_recommended(tmp_path):
    """The symptoms left after the first round get remedies on top of the best change."""
    result = cure(SHORT, tmp_path, seeds=1)
    accuracies = [tried.accuracy for tried in (result.before, *result.trials[:2])]
    assert accuracies.index(max(accuracies)) == 2
    assert [tried.changes for tried in result.trials] == [
        {"learning_rate": 0.001},
        {"learning_rate": 0.01},
        {"learning_rate": 0.01, "kernel_initializer": "he_normal"},
    ]
    assert not any(tried.helped(result.before) for tried in result.trials)
    assert result.recommended is None
    assert cure_lines(result) == ["None of 3 changes helped short."]


def test_a_changed_output_initializer_is_part_of_the_name(tmp_path):
    scenario = dataclasses.replace(
        SHORT, kernel_initializer="he_normal", output_initializer="lecun_normal", learning_rate=0.01
    )
    [tried] = cure(scenario, tmp_path, seeds=1).trials
    assert tried.changes == {"output_initializer": None}
    assert tried.scenario.name != scenario.name
    assert tried.runs[0].settings["output_initializer"] is None
