"""What `mnist-vg diagnose` writes for CI: SARIF and an HTML page."""

import json
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import assert_refused, call_command, run_command

from mnist_vg import Run
from mnist_vg.diagnosis import SYMPTOMS
from mnist_vg.diagnosis.diagnosis import Diagnosis, diagnose_each
from mnist_vg.page import page
from mnist_vg.report import one_of
from mnist_vg.sarif import sarif

ROOT = Path(__file__).parents[1]

# The parts of SARIF 2.1.0 that are used: for each object its fields, and those that it must have.
LOG = {"$schema": str, "version": str, "runs": list}
RUN = {"tool": dict, "results": list}
DRIVER = {"name": str, "version": str, "rules": list}
RULE = {"id": str, "shortDescription": dict, "fullDescription": dict, "help": dict}
RESULT = {"ruleId": str, "level": str, "message": dict, "locations": list, "properties": dict}
LOGICAL = {"name": str, "fullyQualifiedName": str, "kind": str}


def assert_like(thing, fields, optional=()):
    assert fields.keys() - set(optional) <= thing.keys() <= fields.keys()
    for name, value in thing.items():
        assert isinstance(value, fields[name]), name


def read_sarif(text):
    """The results of a log, after a look at its structure."""
    log = json.loads(text)
    assert_like(log, LOG)
    assert log["version"] == "2.1.0"
    [run] = log["runs"]
    assert_like(run, RUN)
    assert_like(run["tool"], {"driver": dict})
    assert_like(run["tool"]["driver"], DRIVER)
    rules = run["tool"]["driver"]["rules"]
    for rule in rules:
        assert_like(rule, RULE, optional=["fullDescription"])
        assert_like(rule["shortDescription"], {"text": str})
        assert_like(rule["help"], {"text": str})
    ids = [rule["id"] for rule in rules]
    assert len(set(ids)) == len(ids)
    for result in run["results"]:
        assert_like(result, RESULT, optional=["properties"])
        assert result["ruleId"] in ids
        assert result["level"] in ("none", "note", "warning", "error")
        assert_like(result["message"], {"text": str})
        [location] = result["locations"]
        assert_like(location, {"physicalLocation": dict, "logicalLocations": list})
        file = location["physicalLocation"]
        assert_like(file, {"artifactLocation": dict, "region": dict})
        assert_like(file["artifactLocation"], {"uri": str})
        assert_like(file["region"], {"startLine": int})
        [place] = location["logicalLocations"]
        assert_like(place, LOGICAL)
    return log, run["results"]


NOTHING = {"step": np.array([], int)}
SAD = {
    "step": np.arange(2),
    "loss/train": np.full(2, 2.0),
    "layers": ["a"],
    "gradient_mean_abs": np.full((2, 1), np.nan),
    "gradient_nonfinite": np.full((2, 1), 3.0),
}
AT_CHANCE = {
    "step": np.arange(2),
    "loss/train": np.full(2, 2.0),
    "layers": ["a"],
    "gradient_mean_abs": np.full((2, 1), 0.1),
    "accuracy/test": np.array([0.1, 0.2]),
    "chance/accuracy": np.array([0.1, np.nan]),
}


def three(folder):
    """One run for each kind of result, of which nothing can be drawn."""
    histories = {"empty": NOTHING, "<b>&": SAD, "at chance": AT_CHANCE}
    runs = {name: SimpleNamespace(folder=folder / name, history={}) for name in histories}
    diagnoses = {name: Diagnosis.of(history, True) for name, history in histories.items()}
    return diagnoses, runs


def test_each_symptom_is_a_rule_with_its_page():
    log, results = read_sarif(sarif({}, {}))
    assert results == []
    rules = log["runs"][0]["tool"]["driver"]["rules"]
    for symptom, rule in zip(SYMPTOMS, rules, strict=False):
        assert symptom.name in rule["shortDescription"]["text"]
        assert one_of(symptom.advice) in rule["help"]["text"]
        assert rule["fullDescription"]["text"].lower() == f"{symptom.why.lower()}."
        assert (ROOT / rule["help"]["text"].rpartition("Page: ")[2]).exists()


def test_each_symptom_of_a_run_is_a_result_at_its_layer():
    _, results = read_sarif(sarif(*three(Path("log dir"))))
    told = [
        (
            result["ruleId"],
            result["level"],
            result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"],
            result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
        )
        for result in results
    ]
    assert told == [
        ("could-not-judge", "warning", "empty", "log%20dir/empty/run.json"),
        ("non-finite-values", "error", "<b>&/a", "log%20dir/%3Cb%3E%26/run.json"),
        ("not-learned-no-known-symptom", "error", "at chance", "log%20dir/at%20chance/run.json"),
    ]
    assert results[1]["properties"] == {"step": 0, "value": 3.0, "threshold": 1}
    assert results[0]["message"]["text"] == "empty: could not judge: nothing recorded"


def test_what_was_found_before_the_first_step_has_a_rule_of_its_own():
    finding = {"check": "head", "layer": None, "words": "a", "why": "b", "instead": "c"}
    runs = {"run": SimpleNamespace(folder=Path("run"))}
    log, [result] = read_sarif(
        sarif({"run": Diagnosis.of(NOTHING, True, findings=[finding])}, runs)
    )
    assert result["ruleId"] == "unsuitable-head"
    assert result["properties"] == {"step": 0}
    assert "docs/checks.md" in log["runs"][0]["tool"]["driver"]["rules"][-1]["help"]["text"]


def test_a_number_that_json_lacks_is_left_out():
    diagnoses, runs = three(Path("/"))
    vars(diagnoses["<b>&"].evidence[0])["value"] = np.inf
    _, results = read_sarif(sarif(diagnoses, runs))
    assert results[1]["properties"] == {"step": 0, "threshold": 1}
    assert results[1]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].startswith(
        "file:///"
    )


class Reader(HTMLParser):
    """Reads a page: its text, its tags with attributes, and that each is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data


def test_the_page_tells_verdict_evidence_and_advice_and_escapes_names():
    diagnoses, runs = three(Path("logdir"))
    shown = Reader(page(diagnoses, runs, {}, None))
    assert "1 not judged" in shown.text
    assert "2 sick" in shown.text
    for words in (
        "could not judge: nothing recorded",
        "<b>&",
        "3 of its gradients",
        diagnoses["<b>&"].evidence[0].why,
        one_of(diagnoses["<b>&"].evidence[0].advice),
    ):
        assert words in shown.text
    assert "not checked for" in shown.text
    assert not [tag for tag, _ in shown.tags if tag in ("b", "img")]


def test_the_page_stands_alone_and_shows_the_gradients(logdir, tmp_path):
    files = tmp_path / "page.html", tmp_path / "log.sarif"
    arguments = ["sigmoid", "leaky_relu", "--against", "relu"]
    code = call_command("diagnose", logdir, *arguments, "--html", files[0], "--sarif", files[1])
    assert code == 1
    shown = Reader(files[0].read_text())
    assert "1 sick, 1 healthy" in shown.text
    assert "Different from relu" in shown.text
    assert "leaky_relu: no layer differs" not in shown.text
    assert "Against relu: no layer differs" in shown.text
    pictures = [facts for tag, facts in shown.tags if tag == "img"]
    assert [facts["src"][:32] for facts in pictures] == ["data:image/png;base64,iVBORw0KGg"] * 2
    assert all(facts["alt"] for facts in pictures)
    assert {tag for tag, _ in shown.tags}.isdisjoint({"script", "link", "iframe"})
    _, results = read_sarif(files[1].read_text())
    runs = {name: Run.load(logdir / name) for name in ("sigmoid", "leaky_relu")}
    lines = [evidence.line for evidence in diagnose_each(runs)["sigmoid"].evidence]
    assert lines
    for line, result in zip(lines, results, strict=True):
        assert line in result["message"]["text"]


@pytest.mark.parametrize("option", ["--sarif", "--html"])
def test_a_file_that_cannot_be_written_is_refused(logdir, tmp_path, option):
    refused = run_command("diagnose", logdir, option, tmp_path / "no" / "file")
    assert_refused(refused, f"{option[2:]}: ", "cannot be written (No such file")
