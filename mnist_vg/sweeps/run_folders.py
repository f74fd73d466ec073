"""A sweep's files for TensorBoard: a network's run folder, or just its row in the HParams tab."""

import io
import tempfile
import time
from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2 as hparams_api_pb2
from tensorboard.plugins.hparams import summary as hparams_session
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from mnist_vg.datasets import Dataset
from mnist_vg.diagnosis.diagnosis import Diagnosis
from mnist_vg.recording.event_log import forward_graph, hparams_summaries
from mnist_vg.runs.events import EVENT_SUFFIX
from mnist_vg.runs.results import result_row
from mnist_vg.runs.tags import (
    ACCURACY_TEST,
    ACCURACY_TRAIN,
    GRADIENT_FLOW,
    LOSS_TEST,
    LOSS_TRAIN,
    SYMPTOM_COUNT,
)
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.sweeps.records import Records
from mnist_vg.sweeps.table import RUNS_FOLDER
from mnist_vg.training.build import make_model
from mnist_vg.training.session import begin_run, results_of
from mnist_vg.training.trainer import Trainer

EVENT_FILE = f"events.out.tfevents.0000000000.sweep{EVENT_SUFFIX}"


def hparams_file(
    records: Records,
    network: int,
    scenario: Scenario,
    diagnosis: Diagnosis,
    varied: Collection[str],
) -> dict[str, bytes]:
    """An event file that holds only a network's row in the HParams tab.

    Args:
        records: the group's records.
        network: the network's index in the group.
        scenario: the network's scenario.
        diagnosis: the network's diagnosis.
        varied: the settings that the row shows.

    Returns:
        The file's path, relative to the sweep's folder, and its content.
    """
    settings = {field: getattr(scenario, field) for field in (*varied, "seed")}
    tags = (ACCURACY_TEST, LOSS_TEST, GRADIENT_FLOW)
    metrics = {tag: records.measured[tag][-1, network] for tag in tags}
    metrics[SYMPTOM_COUNT] = len(diagnosis.evidence)
    summaries = [
        *hparams_summaries(settings),
        *(scalar_pb(tag, value) for tag, value in metrics.items()),
        hparams_session.session_end_pb(hparams_api_pb2.STATUS_SUCCESS),
    ]
    file = io.BytesIO()
    writer = RecordWriter(file)
    now, step = time.time(), int(records.steps[-1])
    writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
    for part in summaries:
        # Some summaries are of TensorFlow's class `Summary`, others of TensorBoard's.
        summary = Summary.FromString(part.SerializeToString())
        writer.write(Event(wall_time=now, step=step, summary=summary).SerializeToString())
    return {f"{RUNS_FOLDER}/{scenario.name}/{EVENT_FILE}": file.getvalue()}


def run_files(
    chosen: Sequence[tuple[int, Scenario, Diagnosis]],
    records: Records,
    trainer: Trainer,
    dataset: Dataset,
    seconds: float,
) -> dict[str, bytes]:
    """The files of run folders, as `train` writes them for a single network.

    Args:
        chosen: index in the group, scenario and diagnosis of each network to write.
        records: the group's records.
        trainer: the group's trainer, after training.
        dataset: the group's data set.
        seconds: how long each network trained.

    Returns:
        Each file's path, relative to the sweep's folder, and its content.
    """
    files = {}
    splits = (trainer.examples, dataset.test)
    # For each split, `[loss and accuracy, networks]`.
    train, test = (np.reshape(trainer.evaluate(split), (2, -1)) for split in splits)
    graph = forward_graph(make_model(chosen[0][1], dataset))
    with tempfile.TemporaryDirectory() as parent:
        for network, scenario, diagnosis in chosen:
            folder = Path(parent) / scenario.name
            folder.mkdir()
            scores = (*train[:, network],), (*test[:, network],)
            flow = records.measured[GRADIENT_FLOW][:, network]
            results = results_of(flow, *scores, dataset.chance)
            with closing(begin_run(scenario, folder, dataset, graph)) as writer:
                _write_records(writer, records, network)
                writer.conclude(
                    writer.read_back(),
                    results,
                    card=result_row([results]),
                    diagnosis=diagnosis,
                    seconds=seconds,
                )
            for path in folder.iterdir():
                files[f"{RUNS_FOLDER}/{scenario.name}/{path.name}"] = path.read_bytes()
    return files


def _write_records(writer, records, network):
    """Write a network's default records."""
    measured = records.of(network)
    for n, step in enumerate(records.steps):
        record = tf.nest.map_structure(lambda array, n=n: array[n], measured)
        tags = (LOSS_TRAIN, ACCURACY_TRAIN, LOSS_TEST, ACCURACY_TEST)
        tables = [
            (layers, {name: record[name] for name in names})
            for layers, names in records.layer_measures
        ]
        writer.record(int(step), {tag: record[tag] for tag in tags}, tables)
