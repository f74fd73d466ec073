"""Trains a group of a sweep's networks; returns their table rows and their TensorBoard files."""

import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf

from mnist_vg.datasets import Dataset
from mnist_vg.diagnosis.diagnosis import Diagnosis
from mnist_vg.diagnosis.measurements import histogram_norm
from mnist_vg.errors import RunFailed, first_line
from mnist_vg.recording.event_log import gradient_flow
from mnist_vg.recording.measures import LARGE
from mnist_vg.runs.events import buckets
from mnist_vg.runs.tags import GRADIENT_FLOW, GRADIENT_MEAN_ABS, GRADIENTS, WEIGHTS
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.sweeps.records import Records
from mnist_vg.sweeps.run_folders import hparams_file, run_files
from mnist_vg.sweeps.table import rows_of
from mnist_vg.training.blocks import run_blocks
from mnist_vg.training.group_trainer import GroupTrainer
from mnist_vg.training.objective import on_device
from mnist_vg.training.programs import group_trainer
from mnist_vg.training.session import scalars_of

if TYPE_CHECKING:
    import pyarrow

NORMS = {"gradient_norm": GRADIENTS, "weight_norm": WEIGHTS}
"""Columns of the table that a default record of small layers lacks, and the histograms from which
they are estimated when a network trains alone."""


class Outcome(NamedTuple):
    """What a trained group leaves.

    Attributes:
        rows: the group's rows of the sweep's table.
        files: files for TensorBoard: path relative to the sweep's folder, and content.
        seconds: how long the group trained.
    """

    rows: "pyarrow.Table"
    files: dict[str, bytes]
    seconds: float


def train_group(
    scenarios: Sequence[Scenario],
    dataset: Dataset,
    varied: Collection[str] = (),
    record: str = "none",
    advanced: Callable[[float], None] = lambda share: None,
) -> Outcome:
    """Train the scenarios of one group together, from start to end.

    Args:
        scenarios: scenarios with the same `group_key`; just one if it is not `stackable`.
        dataset: the data set that all of them name.
        varied: the varied settings, for the HParams tab.
        record: which networks get a run folder: "none", "sick" or "all".
        advanced: called after each block of steps, with the share of all steps that is done.

    Raises:
        UsageError: the settings make no valid network for the data set.
        RunFailed: memory, or disk space for temporary files, ran out.
    """
    try:
        return _train_group(scenarios, dataset, varied, record, advanced)
    except (OSError, MemoryError, tf.errors.OpError) as error:
        raise RunFailed(
            f"the group of {scenarios[0].name!r} broke: {first_line(error)}; run the same command "
            "to train the groups that are left"
        ) from None


def _train_group(scenarios, dataset, varied, record, advanced):
    start = time.monotonic()
    trainer = group_trainer(scenarios, dataset, histograms=record != "none")
    records = _train(trainer, scenarios[0], dataset, advanced)
    seconds = time.monotonic() - start
    diagnoses = [_diagnose(records, number, dataset) for number in range(len(scenarios))]
    files, chosen = {}, []
    for number, (scenario, diagnosis) in enumerate(zip(scenarios, diagnoses, strict=True)):
        if record == "all" or (record == "sick" and not diagnosis.healthy):
            chosen.append((number, scenario, diagnosis))
        else:
            files |= hparams_file(records, number, scenario, diagnosis, varied)
    if chosen:
        files |= run_files(chosen, records, trainer, dataset, seconds / len(scenarios))
    return Outcome(rows_of(scenarios, records, diagnoses, dataset.chance), files, seconds)


def _train(trainer, scenario, dataset, advanced):
    """Train the networks, and return their `Records`."""
    single = not isinstance(trainer, GroupTrainer)
    steps, records = [], []
    test = on_device(dataset.test)
    for block in run_blocks(trainer, scenario.iterations, scenario.log_every):
        advanced(trainer.steps_done / scenario.iterations)
        if block.tables is None:
            continue
        scalars = scalars_of((block.loss, block.accuracy), trainer.evaluate(test))
        record = {tag: np.atleast_1d(value) for tag, value in scalars.items()}
        for _, measures in block.tables:
            # A single network's arrays lack the axis of the networks.
            record |= tf.nest.map_structure(
                lambda a: a[:, np.newaxis] if single else a, dict(measures)
            )
        steps.append(block.step)
        records.append(record)
        tables = block.tables
    measured = tf.nest.map_structure(lambda *parts: np.stack(parts), *records)
    for norm, histogram in NORMS.items():
        if norm not in measured:
            measured[norm] = histogram_norm(buckets(**measured[histogram]))
    measured[GRADIENT_FLOW] = gradient_flow(np.moveaxis(measured[GRADIENT_MEAN_ABS], 1, 0))
    shapes = [layer.kernel.shape for layer in trainer.model.dense_layers]
    largest = max(np.prod(shape if single else shape[-1:]) for shape in shapes)
    left_out = NORMS if largest <= LARGE else ()
    of_layers = [(layers, [name for name in t if name not in left_out]) for layers, t in tables]
    return Records(np.array(steps), measured, of_layers)


def _diagnose(records, network, dataset):
    times = len(records.steps)
    chance = {tag: np.full(times, value) for tag, value in dataset.chance_scalars.items()}
    layers = zip(("layers", "activation_layers"), records.layer_measures, strict=False)
    names = {"step": records.steps} | {key: names for key, (names, _) in layers}
    return Diagnosis.of(names | chance | records.of(network), finished=True)
