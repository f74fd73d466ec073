"""A group of a sweep: trained together, and told as rows of a table and as files."""

import tempfile
import time
from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf

from mnist_vg.datasets import Dataset
from mnist_vg.diagnosis.measurements import histogram_norm
from mnist_vg.diagnosis.verdict import diagnose
from mnist_vg.driver import makes_a_network
from mnist_vg.errors import RunFailed
from mnist_vg.recording.event_log import EventLog, hparams_events
from mnist_vg.runs import events
from mnist_vg.runs import run as runs
from mnist_vg.runs.run import Run
from mnist_vg.runs.tags import (
    ACCURACY_TEST,
    ACCURACY_TRAIN,
    GRADIENT_FLOW,
    GRADIENT_MEAN_ABS,
    LOSS_TEST,
    LOSS_TRAIN,
    SYMPTOM_COUNT,
)
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.sweeps.sweep import group_key, stackable
from mnist_vg.sweeps.sweeper import RUNS_FOLDER
from mnist_vg.sweeps.table import GRADIENT_RATIO, LAYERS, TEST_ACCURACY, schema
from mnist_vg.training.build import make_model, make_optimizer, make_trainer
from mnist_vg.training.group_trainer import GroupTrainer
from mnist_vg.training.session import chance, conclude, describe, results_of, scalars_of
from mnist_vg.training.trainer import run_blocks

if TYPE_CHECKING:
    import pyarrow

COLUMNS = {
    "train_loss": LOSS_TRAIN,
    "train_accuracy": ACCURACY_TRAIN,
    "test_loss": LOSS_TEST,
    TEST_ACCURACY: ACCURACY_TEST,
    GRADIENT_RATIO: GRADIENT_FLOW,
}
"""Columns of the table, and the tags that they have in event files."""

NORMS = {"gradient_norm": "gradients", "weight_norm": "weights"}
"""Measures that no default record of a single network has, and the histograms that tell them."""

EVENT_FILE = f"events.out.tfevents.0000000000.sweep{events.EVENT_SUFFIX}"


class Outcome(NamedTuple):
    """What comes of a group.

    `rows` are of the sweep's table; `files` are what TensorBoard reads, path in the sweep's
    folder to bytes; `seconds` are those of training.
    """

    rows: "pyarrow.Table"
    files: dict[str, bytes]
    seconds: float


class Records(NamedTuple):
    """What the networks of a group have recorded.

    `measured` has arrays by tag or group of tags, `[records, networks]` or, of a group of
    tags, `[records, layers, networks]`, and dicts of such for histograms; `tables` are names
    of layers with the groups that a default record has of them: of all layers, and, where there
    are any, of those with an activation.
    """

    steps: np.ndarray
    measured: dict
    tables: list[tuple[list[str], list[str]]]

    def of(self, network: int) -> dict:
        """One network's part of `measured`."""

        def pick(part):
            return part[:, network] if part.ndim == 2 else part[:, :, network]

        return tf.nest.map_structure(pick, self.measured)


def train_group(
    scenarios: Sequence[Scenario],
    dataset: Dataset,
    varied: Collection[str] = (),
    recorded: Collection[str] = (),
    sick: bool = False,
) -> Outcome:
    """Train scenarios of one group, from the beginning to the end.

    Args:
        scenarios: of one `group_key`, and more than one only where `stackable`.
        dataset: theirs.
        varied: settings that the HParams tab is told.
        recorded: names of networks that get a run folder.
        sick: whether those that are not healthy get one, too.

    Raises:
        UsageError: they make no network for the data set.
        RunFailed: there is not enough memory, or no room for files in the making.
    """
    try:
        return _train_group(scenarios, dataset, varied, recorded, sick)
    except (OSError, MemoryError, tf.errors.OpError) as error:
        reason = str(error).strip().partition("\n")[0] or "out of memory"
        raise RunFailed(
            f"the group of {scenarios[0].name!r} broke: {reason}; groups that are done are kept, "
            "and the same command goes on"
        ) from None


def _train_group(scenarios, dataset, varied, recorded, sick):
    start = time.monotonic()
    histograms = sick or any(scenario.name in recorded for scenario in scenarios)
    with makes_a_network(scenarios[0]):
        trainer = _trainer(scenarios, dataset, histograms)
    records = _train(trainer, scenarios[0], dataset)
    seconds = time.monotonic() - start
    diagnoses = [_diagnose(records, number, dataset) for number in range(len(scenarios))]
    rows = _rows(scenarios, records, diagnoses, dataset.chance)
    chosen = [
        number
        for number, (scenario, diagnosis) in enumerate(zip(scenarios, diagnoses, strict=True))
        if scenario.name in recorded or (sick and not diagnosis.healthy)
    ]
    files = {}
    for number, scenario in enumerate(scenarios):
        if number not in chosen:
            settings = {field: getattr(scenario, field) for field in (*varied, "seed")}
            metrics = _metrics(records, number, diagnoses[number])
            event = hparams_events(settings, metrics, int(records.steps[-1]))
            files[f"{RUNS_FOLDER}/{scenario.name}/{EVENT_FILE}"] = event
    if chosen:
        chosen = [(n, scenarios[n], diagnoses[n]) for n in chosen]
        files |= _run_folders(chosen, records, trainer, dataset, seconds / len(scenarios))
    return Outcome(rows, files, seconds)


_newest: dict = {}
"""The trainer that was compiled last, by its kind: neighbours in a sweep may share it."""


def _trainer(scenarios, dataset, histograms):
    """A trainer of the scenarios at their beginning: the one before, or a new one."""
    first = scenarios[0]
    clips = any(scenario.global_clipnorm for scenario in scenarios)
    kind = group_key(first), dataset.name, len(scenarios), histograms, clips
    stacks = stackable(first)
    if kind not in _newest:
        _newest.clear()
        if stacks:
            _newest[kind] = GroupTrainer(scenarios, dataset, histograms)
        else:
            _newest[kind] = make_trainer(first, dataset)
    elif stacks:
        _newest[kind].begin(scenarios)
    else:
        model = make_model(first, dataset)
        _newest[kind].restart(model, make_optimizer(first), first.batch_seed)
    return _newest[kind]


def _train(trainer, scenario, dataset):
    """Train, and keep the records."""
    alone = not isinstance(trainer, GroupTrainer)
    steps, rows = [], []
    for block in run_blocks(trainer, scenario.iterations, scenario.log_every):
        if block.tables is None:
            continue
        scalars = scalars_of((block.loss, block.accuracy), trainer.evaluate(dataset.test))
        row = {tag: np.atleast_1d(value) for tag, value in scalars.items()}
        for _, table in block.tables:
            row |= tf.nest.map_structure(lambda a: a[:, np.newaxis] if alone else a, dict(table))
        steps.append(block.step)
        rows.append(row)
        tables = block.tables
    tables = [(names, [group for group in t if group not in NORMS]) for names, t in tables]
    measured = tf.nest.map_structure(lambda *parts: np.stack(parts), *rows)
    for group, histogram in NORMS.items():
        if group not in measured:
            measured[group] = histogram_norm(events.buckets(**measured[histogram]))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_abs = measured[GRADIENT_MEAN_ABS]
        measured[GRADIENT_FLOW] = np.log10(mean_abs[:, 0] / mean_abs[:, -1])
    return Records(np.array(steps), measured, tables)


def _diagnose(records, network, dataset):
    known = {tag: np.full(len(records.steps), value) for tag, value in chance(dataset).items()}
    layers = zip(("layers", "activation_layers"), records.tables, strict=False)
    names = {"step": records.steps} | {key: names for key, (names, _) in layers}
    return diagnose(names | known | records.of(network), finished=True)


def _rows(scenarios, records, diagnoses, chance):
    """The group's part of the table, network by network."""
    import pyarrow

    times, count = len(records.steps), len(scenarios)
    of_network = np.repeat(np.arange(count), times)

    def column(field):
        name, kind = field.name, field.type
        if name == "step":
            return np.tile(records.steps, count)
        if name == "chance":
            return np.full(times * count, chance)
        if name in COLUMNS:
            return records.measured[COLUMNS[name]].T.ravel()
        if name in LAYERS:
            table = records.measured.get(name, np.zeros((times, 0, count), np.float32))
            ends = table.shape[1] * np.arange(times * count + 1, dtype=np.int32)
            values = np.ascontiguousarray(table.transpose(2, 0, 1), np.float32).ravel()
            return pyarrow.ListArray.from_arrays(ends, values)
        verdicts = [diagnosis.verdict for diagnosis in diagnoses]
        values = verdicts if name == "verdict" else [getattr(s, name) for s in scenarios]
        return pyarrow.array(values, kind).take(of_network)

    columns = schema()
    return pyarrow.table([column(field) for field in columns], schema=columns)


def _metrics(records, network, diagnosis):
    """What the HParams tab shows of a network, by tag."""
    tags = (ACCURACY_TEST, LOSS_TEST, GRADIENT_FLOW)
    scalars = {tag: records.measured[tag][-1, network] for tag in tags}
    return scalars | {SYMPTOM_COUNT: len(diagnosis.evidence)}


def _run_folders(chosen, records, trainer, dataset, seconds):
    """Files of run folders, as the networks would have written them alone."""
    files = {}
    splits = (dataset.train, dataset.test)
    # Of each split: loss and accuracy, of each network.
    train, test = (np.reshape(trainer.evaluate(split), (2, -1)) for split in splits)
    graph = make_model(chosen[0][1], dataset).forward_graph()
    versions = runs.versions()
    with tempfile.TemporaryDirectory() as place:
        for number, scenario, diagnosis in chosen:
            folder = Path(place) / scenario.name
            folder.mkdir()
            run = Run(folder, "running", scenario.settings(), dataset.name, versions)
            scores = (*train[:, number],), (*test[:, number],)
            flow = records.measured[GRADIENT_FLOW][:, number]
            results = results_of(flow, *scores, dataset.chance)
            with closing(EventLog(folder)) as log:
                describe(log, scenario, dataset, graph)
                _write_records(log, records, number)
                conclude(run, log, records.steps[-1], results, diagnosis, seconds)
            for path in folder.iterdir():
                files[f"{RUNS_FOLDER}/{scenario.name}/{path.name}"] = path.read_bytes()
    return files


def _write_records(log, records, network):
    """A network's records, with what a default record has."""
    measured = records.of(network)
    for at, step in enumerate(records.steps):
        row = tf.nest.map_structure(lambda part, at=at: part[at], measured)
        scalars = {tag: row[tag] for tag in (LOSS_TRAIN, ACCURACY_TRAIN, LOSS_TEST, ACCURACY_TEST)}
        tables = [(names, {group: row[group] for group in gs}) for names, gs in records.tables]
        log.record(int(step), scalars, tables)
