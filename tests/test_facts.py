"""A run's facts for the tab "Gradient flow", and the relative sensitivity, read by TensorBoard."""

import dataclasses
import json
from contextlib import closing

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_TENSOR
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_ndarray
from test_diagnosis import EVERY, LAYERS, as_recorded, healthy, of_kappa
from test_recorder import LABELS, LOSS, VECTORS, network
from test_recorder import train as train_own
from test_runs import points, read

from mnist_vg import GradientLogger, Recorder, Run, train
from mnist_vg.board.log import parsed
from mnist_vg.diagnosis.diagnosis import diagnose
from mnist_vg.diagnosis.symptoms import SYMPTOMS
from mnist_vg.recording.run_writer import RunWriter
from mnist_vg.runs.events import event_files
from mnist_vg.scenarios.scenario import Scenario

TAG = "mnist_vg/run"
FINDING = {"check": "labels", "layer": None, "words": "a", "why": "b", "instead": "c"}


def told(folder):
    """Each record of the facts, with its step, in the order of writing."""

    def refused(number):
        raise ValueError(f"{number} is no JSON")

    texts = [(e.step, make_ndarray(e.tensor_proto).item()) for e in read(folder).Tensors(TAG)]
    return [(step, json.loads(text, parse_constant=refused)) for step, text in texts]


def symptoms(facts):
    return [(s["symptom"], s["kind"], s["step"], s["until"]) for s in facts["symptoms"]]


def write(folder, history, findings=(), results=None):
    """A run with these records, and the facts that it told."""
    folder.mkdir()
    run = Run(folder, "running", {"name": folder.name, "seed": 3}, "digits:1", {})
    with closing(RunWriter(run)) as writer:
        if findings:
            writer.note_findings(0, findings)
        for record in range(len(history["step"])):
            writer.record(*as_recorded(history, record))
        writer.conclude(writer.read_back(), results or {})
    return told(folder)


def test_the_facts_of_a_trained_run(tmp_path):
    scenario = Scenario(dataset="digits", activation="sigmoid", iterations=60, log_every=10)
    run = train(dataclasses.replace(scenario, name="deep-seed0"), tmp_path)
    first, second, *_, (step, facts) = told(run.folder)
    assert (first[0], first[1]["layers"]) == (0, [])
    assert (second[0], second[1]["layers"]) == (0, [f"layer{n}" for n in range(1, 7)])
    assert (first[1]["health"], first[1]["verdict"]) == ("so far", "no symptom so far")
    assert step == run.history["step"][-1]
    assert (facts["name"], facts["recipe"], facts["dataset"]) == ("deep-seed0", "deep", run.dataset)
    assert facts["settings"] == run.settings
    assert facts["activation_layers"] == [f"layer{n}" for n in range(1, 6)]
    assert (facts["finished"], facts["health"]) == (True, "sick")
    assert (facts["results"], facts["verdict"]) == (run.results, run.verdict)
    evidence = diagnose(run).evidence
    for symptom in facts["symptoms"][: len(evidence)]:
        [same] = [e for e in evidence if e.symptom == symptom["symptom"]]
        assert symptom["kind"] == "fault"
        for key in set(symptom) - {"kind", "cause", "advice"}:
            assert symptom[key] == getattr(same, key)
        assert symptom["advice"] == list(same.advice)
    assert [s["cause"] for s in facts["symptoms"]] == sorted(
        [s["cause"] for s in facts["symptoms"]], reverse=True
    )
    metadata = read(run.folder).SummaryMetadata(TAG)
    assert metadata.plugin_data.plugin_name == "mnist_vg"
    assert metadata.data_class == DATA_CLASS_TENSOR
    assert TAG not in run.history


def test_facts_are_told_when_a_symptom_comes_and_when_it_passes(tmp_path):
    """Two records announce dead units; a tenth of all without them, and they have passed."""
    history = healthy(30)
    history["units_dead"][5:10, 1] = 0.9
    *while_training, (end, last) = write(tmp_path / "run", history)
    assert [step // EVERY for step, _ in while_training] == [
        0,  # Before the first record,
        0,  # with its layers,
        6,  # when the second one shows dead units,
        11,  # when two of twelve no longer do,
        25,  # and when those that did are less than a fifth.
    ]
    since, until = 5 * EVERY, 9 * EVERY
    assert [symptoms(facts) for _, facts in while_training] == [
        [],
        [],
        [("dead units", "fault", since, None)],
        [("dead units", "fault", since, until)],
        [("dead units", "remark", since, until)],
    ]
    assert end == history["step"][-1]
    assert symptoms(last) == [("dead units", "remark", since, until)]
    assert [facts["health"] for _, facts in while_training] == [
        *("so far", "so far", "sick", "sick", "so far")
    ]
    assert last["verdict"] == Run.load(tmp_path / "run").verdict


def test_an_announced_symptom_that_is_gone_says_until_when_it_was_there(tmp_path):
    stuck = ("stuck at chance", "fault", 0, None)
    values = [*[0.01] * 12, *[0.2] * 3]
    facts = [facts for _, facts in write(tmp_path / "run", of_kappa(values))]
    gone = ("stuck at chance", "passed", 0, 11 * EVERY)
    assert [symptoms(each) for each in facts] == [[], [], [stuck], [gone], [gone]]
    assert not facts[-1]["symptoms"][0]["cause"]
    assert "stuck at chance" not in facts[-1]["verdict"]
    # It comes back. Before ten records say so again, the first ones are what is known of it.
    again = [facts for _, facts in write(tmp_path / "again", of_kappa([*values, *[0.0] * 10]))]
    earlier = ("stuck at chance", "fault", 0, 11 * EVERY)
    back = ("stuck at chance", "fault", 15 * EVERY, None)
    assert [*map(symptoms, again)] == [[], [], [stuck], [gone], [earlier], [back], [back]]
    # It is gone again, before ten records say so.
    last = write(tmp_path / "last", of_kappa([*values, 0.0, 0.2]))[-1][1]
    assert symptoms(last) == [gone]


def test_numbers_that_are_not_finite_and_findings(tmp_path):
    history = healthy()
    history["gradient_nonfinite"][5:] = 9
    history["gradient_mean_abs"][5:] = np.inf
    facts = write(tmp_path / "run", history, [FINDING], {"loss": np.nan, "accuracy": 0.5})
    assert [symptoms(each)[0][:2] for _, each in facts[1:]] == [("unsuitable labels", "fault")] * 4
    last = facts[-1][1]
    assert last["results"] == {"loss": None, "accuracy": 0.5}
    finding, nonfinite = last["symptoms"]
    assert (finding["value"], finding["why"], finding["advice"]) == (None, "b", ["c"])
    assert (nonfinite["symptom"], nonfinite["value"]) == ("non-finite values", 9)


def test_a_healthy_run_and_one_that_cannot_be_judged(tmp_path):
    learned = of_kappa(np.linspace(0.2, 0.9, 12))
    [*_, (_, good)] = write(tmp_path / "good", learned)
    assert (good["health"], good["verdict"], good["symptoms"]) == ("healthy", "healthy", [])
    assert good["learned_share"] == pytest.approx(0.9)
    [*_, (_, single)] = write(tmp_path / "single", healthy(1))
    assert (single["health"], single["learned_share"]) == ("not judged", pytest.approx(1 / 9))
    assert single["verdict"].startswith("could not judge")


@pytest.mark.parametrize("resumes_at", [3, 5])
def test_a_recorder_that_goes_on_is_not_finished(tmp_path, resumes_at):
    with Recorder(tmp_path / "run", model := network(), settings={"rate": 0.5}) as recorder:
        train_own(recorder, model)
    before = told(tmp_path / "run")
    assert [(step, facts["finished"]) for step, facts in before] == [
        (0, False),
        (0, False),
        (4, True),
    ]
    assert before[-1][1]["settings"]["rate"] == 0.5
    with Recorder(tmp_path / "run", model, initial_step=resumes_at) as recorder:
        [*_, (step, facts)] = told(tmp_path / "run")
        assert (step < resumes_at, facts["finished"], facts["results"]) == (True, False, None)
        assert facts["layers"] == ["layer1", "layer2", "layer3"]
        train_own(recorder, model, steps=range(resumes_at, 8))
    assert told(tmp_path / "run")[-1][1]["finished"]
    assert diagnose(tmp_path / "run").verdict == told(tmp_path / "run")[-1][1]["verdict"]


def test_a_fit_tells_which_layers_are_frozen(tmp_path):
    layers = [keras.layers.Dense(5, "tanh", name=name) for name in ("base", "top")]
    model = keras.Sequential([keras.Input([6]), *layers, keras.layers.Dense(4, name="out")])
    layers[0].trainable = False
    model.compile("sgd", LOSS)
    logger = GradientLogger(tmp_path / "fit", every=1)
    model.fit(VECTORS, LABELS, batch_size=8, verbose=0, callbacks=[logger])
    [*_, (_, facts)] = told(tmp_path / "fit")
    assert facts["layers"] == ["base", "top", "out"]
    assert facts["marks"] == {"base": "frozen"}
    assert facts["results"].keys() == {"loss"}
    assert facts["name"] == "fit"


def without_facts(folder):
    """Make a run one of an earlier version: without facts, and without sensitivities."""
    [path] = event_files(folder)
    found = [Event.FromString(raw) for raw in RawEventFileLoader(str(path)).Load()]
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for event in found:
            kept = [v for v in event.summary.value if not v.tag.startswith((TAG, "relative_"))]
            if event.HasField("summary"):
                del event.summary.value[:]
                event.summary.value.extend(kept)
            writer.write(event.SerializeToString())


def test_a_run_of_an_earlier_version_reads_and_goes_on(tmp_path):
    with Recorder(tmp_path / "run", model := network()) as recorder:
        train_own(recorder, model)
    before = diagnose(tmp_path / "run")
    without_facts(tmp_path / "run")
    assert repr(diagnose(tmp_path / "run")) == repr(before)
    with Recorder(tmp_path / "run", model, initial_step=5):
        [(step, facts)] = told(tmp_path / "run")
        assert (step, facts["layers"]) == (4, ["layer1", "layer2", "layer3"])


def test_the_sensitivity_is_weight_norm_times_gradient_norm_over_loss(tmp_path):
    model = network()
    variables = model.trainable_variables
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=v.shape).astype(np.float32) for v in variables]
    with Recorder(tmp_path / "run", model, measures="full") as recorder:
        recorder.record(0, gradients, variables, loss=np.float32(0.7))
    reader = read(tmp_path / "run")
    for number, (kernel, gradient) in enumerate(
        zip(variables[::2], gradients[::2], strict=True), 1
    ):
        expected = np.linalg.norm(kernel.numpy()) * np.linalg.norm(gradient) / 0.7
        [recorded] = points(reader, f"relative_sensitivity/layer{number}").values()
        assert recorded == pytest.approx(expected, rel=1e-5)
    history = Run.load(tmp_path / "run").history
    assert history["relative_sensitivity"].shape == (1, 3)


def test_a_sensitivity_that_is_not_known_is_left_out(tmp_path):
    with Recorder(tmp_path / "no-loss", model := network()) as recorder:
        variables = model.trainable_variables
        recorder.record(0, variables, variables)
    tags = read(tmp_path / "no-loss").PluginTagToContent("scalars")
    assert not [tag for tag in tags if tag.startswith("relative_sensitivity")]
    history = healthy(3)
    history["weight_norm"][0, 1] = 0  # Weights that are all zero have no size.
    write(tmp_path / "zero", history)
    reader = read(tmp_path / "zero")
    steps = {name: [*points(reader, f"relative_sensitivity/{name}")] for name in LAYERS}
    assert steps.pop("layer2") == [EVERY, 2 * EVERY]
    assert list(steps.values()) == [[0, EVERY, 2 * EVERY]] * 3
    known = np.isfinite(Run.load(tmp_path / "zero").history["relative_sensitivity"])
    assert known.tolist() == [[True, False, True, True], [True] * 4, [True] * 4]


def test_each_symptom_says_why_it_matters():
    whys = [symptom.why for symptom in SYMPTOMS]
    assert len(set(whys)) == len(SYMPTOMS)
    assert all(why and "." not in why and len(why) <= 100 for why in whys)


def altered(facts, **changes):
    return json.dumps(facts | changes).encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda facts: b'{"settings": {}}',
        lambda facts: b'{"settings": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        lambda facts: altered(facts, layers=5),
        lambda facts: altered(facts, layers=["layer1", None]),
        lambda facts: altered(facts, health=None),
        lambda facts: altered(facts, results=[1]),
        lambda facts: altered(facts, settings={"activation": ["relu"]}),
        lambda facts: altered(facts, symptoms=[{"symptom": "vanishing gradients"}]),
    ],
)
def test_facts_of_another_form_are_none(tmp_path, damage):
    [*_, (_, facts)] = write(tmp_path / "run", healthy(3))
    assert parsed(json.dumps(facts)).items() <= facts.items()
    assert parsed(damage(facts).decode()) is None
