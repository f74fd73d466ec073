"""The labelled corpus: scenarios that are healthy, or sick in known ways, and why we know.

    python benchmarks/corpus.py train LOGDIR [tune|test]   trains them, or one half
    python benchmarks/corpus.py label LOGDIR               writes the labels into corpus.json

`corpus.json` holds each scenario, its half, what was found out about it (`facts`) and its
labels. They come from how a scenario is built (theory's gradient factors, one update on much data)
and from what it has done (its final weights, on all examples), not from its records, which the
rules of `mnist_vg.diagnosis.symptoms` look at; oscillation alone is told from the recorded test
loss. Healthy is what has learned, in both: `mnist_vg.diagnosis.diagnosis.LEARNED_KAPPA`.
"""

import dataclasses
import functools
import json
import math
import tempfile
from pathlib import Path

import click
import numpy as np
from _common import opening

from mnist_vg import Scenario, datasets
from mnist_vg.driver import train_all
from mnist_vg.runs.results import LEARNED_KAPPA, kappa
from mnist_vg.runs.run import Run
from mnist_vg.tensorflow_import import import_tensorflow

FILE = Path(__file__).with_name("corpus.json")
COMMON = {"iterations": 1000, "log_every": 40, "measures": "full"}
"""A record every 4% of training: a verdict by 10% has three of them."""

REACH = 2.0
"""Factors of ten by which a gradient shrinks or grows on its way, by theory, in the sick."""
FIRST_UPDATE = 0.3
"""Share of a layer's norm that one update moves where updates are too large: it takes three
to be anywhere."""
MOVED_LITTLE = 0.03
"""Share of its norm that no layer has moved by in all of training: weights are what they were."""
MOVED_NOTHING = 1e-5
"""The same for a frozen layer: a handful of roundings of float32."""
UNITS = 0.7
"""Share of dead units in the sick, on all data: AutoTrainer's and DeepDiagnosis' 70%."""
SATURATED_UNITS = 0.5
"""Share of saturated units in the sick, on all data: DeepDiagnosis' half."""
CHANCE_KAPPA = 0.05
"""Share of what chance leaves wrong that a network stuck at chance gets right, at most."""
SWING = 0.2
"""Rises of the test loss, of so much or more, mark oscillation where a quarter are such."""


def load() -> list[dict]:
    """Every entry of the corpus; `scenario` is made of its settings.

    Entries of one structure stand next to each other, as `train_all` has them best.
    """
    entries = json.loads(FILE.read_text())
    return [entry | {"scenario": Scenario(**COMMON, **entry["settings"])} for entry in entries]


def healthy_twin(scenario: Scenario) -> Scenario:
    """The same data, depth, width and number of updates, with what is known to train."""
    return dataclasses.replace(
        scenario,
        name=f"{scenario.dataset}-{scenario.num_layers}x{scenario.hidden_size}-twin",
        measures="default",
        activation="relu",
        kernel_initializer="he_normal",
        output_initializer=None,
        normalization="batch",
        skip_connections=scenario.num_layers > 10,
        optimizer="adam",
        learning_rate=0.01 if "circles" in scenario.dataset else None,
        momentum=None,
        global_clipnorm=None,
    )


def find_out(run, dataset) -> dict:
    """What a finished run's network was, and is, on much or all of the training data."""
    import tensorflow as tf

    from mnist_vg.keras_models.layers import activation_range
    from mnist_vg.keras_models.taps import tapped
    from mnist_vg.recording.measures import rms, unit_shares
    from mnist_vg.training.build import make_model
    from mnist_vg.training.checkpoint import load_weights
    from mnist_vg.training.objective import loss_and_accuracy, scaled_inputs

    scenario = Scenario(**run.settings)
    model = make_model(scenario, dataset)
    inputs = scaled_inputs(tf.constant(dataset.train.inputs))
    kernels = [layer.kernel for layer in model.dense_layers]
    before = [kernel.numpy() for kernel in kernels]
    facts = {"reach": _reach(scenario, before, float(tf.reduce_mean(inputs**2)))}
    start = model.get_weights()
    _update(model, scenario, inputs[:1000], dataset.train.labels[:1000])
    facts["first_update"] = max(_moved(before, kernels))
    model.set_weights(start)
    load_weights(run.folder, model)
    moved = _moved(before, kernels)
    facts["moved_least"], facts["moved_most"] = min(moved), max(moved)
    with tapped(model) as taps, tf.GradientTape() as tape:
        logits = model(inputs)
        loss, _ = loss_and_accuracy(logits, dataset.train.labels)
    ends = tape.gradient(loss, [taps.pairs[0][0], logits])
    first, last = (rms(tf.reshape(gradient, [1, -1]))[0] for gradient in ends)
    facts["reach_end"] = float(tf.math.log(first / last)) / math.log(10)
    facts["loss_over_chance"] = float(loss) / dataset.chance_loss
    ranges = [activation_range(layer) for layer in model.activation_layers]
    shares = unit_shares([outputs for _, outputs in taps.pairs], ranges)
    facts["dead"] = float(tf.reduce_max(shares["units_dead"]))
    facts["saturated"] = float(tf.reduce_max(shares["units_saturated"]))
    facts["finite"] = all(np.isfinite(weights).all() for weights in model.get_weights())
    facts["kappa"] = kappa(run.results["test_accuracy"], dataset.chance)
    losses = run.history["loss/test"][run.history["step"] < scenario.iterations]
    late = losses[len(losses) // 2 :]
    facts["rises"] = float(np.mean(late[1:] > (1 + SWING) * late[:-1]))
    return {key: _plain(value) for key, value in facts.items()}


def _update(model, scenario, inputs, labels):
    """Make the scenario's first update, on these examples."""
    import tensorflow as tf

    from mnist_vg.training.build import make_optimizer
    from mnist_vg.training.objective import loss_and_accuracy

    with tf.GradientTape() as tape:
        loss, _ = loss_and_accuracy(model(inputs), labels)
    gradients = tape.gradient(loss, model.trainable_variables)
    make_optimizer(scenario).apply(gradients, model.trainable_variables)


def _reach(scenario, kernels, input_variance):
    """Theory's log10 of the gradient at layer 1 over the logits'; None where it has no say."""
    from mnist_vg.theory import gradient_reach

    if scenario.normalization != "none" or scenario.skip_connections:
        return None
    layers = [(kernel.var(), *kernel.shape) for kernel in kernels]
    offset = max(abs(kernel.mean()) * len(kernel) ** 0.5 for kernel in kernels)
    if offset > 3 * max(kernel.std() for kernel in kernels) + 1e-9:
        return None  # The theory is of weights around zero.
    return gradient_reach(scenario.activation, input_variance, layers)


def _moved(before, kernels):
    norms = [np.linalg.norm(kernel) for kernel in before]
    return [
        float(np.linalg.norm(kernel.numpy() - old)) / norm if norm else math.inf
        for kernel, old, norm in zip(kernels, before, norms, strict=True)
    ]


def _plain(value):
    """A number as JSON can hold it: four digits, and words for what is not finite."""
    if value is None or isinstance(value, bool):
        return value
    return float(f"{value:.4g}") if math.isfinite(value) else str(float(value))


def labels_of(facts: dict) -> list[str]:
    """The labels that the facts allow: `healthy`, or each symptom."""
    known = {key: math.nan if v is None else float(v) for key, v in facts.items()}
    if known["finite"] and known["kappa"] >= LEARNED_KAPPA:
        return ["healthy"]
    signs = {
        "updates too large": known["first_update"] > FIRST_UPDATE
        and known["first_update"] < math.inf,
        "updates too small": known["moved_most"] < MOVED_LITTLE,
        "saturated units": known["saturated"] >= SATURATED_UNITS,
        "dead units": known["dead"] >= UNITS,
        "exploding gradients": known["reach"] >= REACH or known["reach_end"] >= REACH,
        "vanishing gradients": known["reach"] <= -REACH or known["reach_end"] <= -REACH,
        "non-finite values": not known["finite"],
        "frozen layers": known["moved_least"] < MOVED_NOTHING,
        "oscillating loss": known["rises"] >= 0.25,
        "stuck at chance": known["kappa"] <= CHANCE_KAPPA,
    }
    return [symptom for symptom, there in signs.items() if there]


def train(entries: list[dict], logdir: Path) -> None:
    """Train entries into LOGDIR; finished runs are left alone."""
    for run in train_all([entry["scenario"] for entry in entries], logdir):
        accuracy = run.results["test_accuracy"]
        click.echo(f"{run.name}: test accuracy {accuracy:.2%}, {run.seconds:.1f} s")


def label(entries: list[dict], logdir: Path) -> str:
    """Find out about every finished run in LOGDIR; the text of the corpus with what was found."""
    import_tensorflow()
    load_dataset = functools.cache(datasets.load)
    for entry in entries:
        name = entry["scenario"].name
        run = Run.load(logdir / name)
        if run is None or run.status != "finished":
            continue
        with np.errstate(over="ignore"):  # Weights that explode have norms beyond float32.
            facts = find_out(run, load_dataset(run.settings["dataset"]))
        before, labels = entry["labels"], labels_of(facts)
        if labels != before:
            click.echo(f"{name}: {', '.join(before)} → {', '.join(labels)}")
        entry |= {"facts": facts, "labels": labels}
    return text_of(entries)


def text_of(entries: list[dict]) -> str:
    """The text of corpus.json, a line an entry."""
    plain = [{key: value for key, value in e.items() if key != "scenario"} for e in entries]
    return "[\n" + ",\n".join(map(json.dumps, plain)) + "\n]\n"


def smallest() -> list[dict]:
    """Some entries that share a compiled program, and fewer updates of each: for smoke runs."""
    return [
        entry | {"scenario": dataclasses.replace(entry["scenario"], iterations=400)}
        for entry in load()
        if entry["scenario"].name.startswith("circles-3x16-relu-")
    ]


def smoke() -> None:
    """Train and label the smallest corpus, and print its text."""
    with tempfile.TemporaryDirectory() as logdir:
        entries = smallest()
        train(entries, Path(logdir))
        click.echo(label(entries, Path(logdir)))


@click.group()
@opening(smoke)
def cli():
    """The labelled corpus: train its networks, or label them."""


FOLDER = click.argument("logdir", type=click.Path(path_type=Path))


@cli.command("train")
@FOLDER
@click.argument("half", type=click.Choice(["tune", "test"]), required=False)
def _train(logdir, half):
    """Train every entry, or one HALF, into LOGDIR; finished runs are left alone."""
    train([entry for entry in load() if half in (None, entry["half"])], logdir)


@cli.command("label")
@FOLDER
def _label(logdir):
    """Find out about every finished run in LOGDIR, and write facts and labels."""
    FILE.write_text(label(load(), logdir))


if __name__ == "__main__":
    cli()
