"""A log of many runs, written at once: the tab needs their records, and not their training."""

import json
from pathlib import Path

import numpy as np
from _common_tf import tf
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_TENSOR, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_FLOAT
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.util import tensor_util

from mnist_vg import Scenario
from mnist_vg.diagnosis import Diagnosis
from mnist_vg.diagnosis.facts import run_facts
from mnist_vg.runs.events import EVENT_SUFFIX, buckets
from mnist_vg.runs.run import Run
from mnist_vg.runs.tags import (
    ACCURACY_TEST,
    CHANCE_ACCURACY,
    GRADIENT_MEAN_ABS,
    GRADIENTS,
    LOSS_TRAIN,
    RUN_FACTS,
    layer_tag,
)

SCALAR = scalar_metadata.create_summary_metadata(display_name=None, description=None)
HISTOGRAM = histogram_metadata.create_summary_metadata(display_name=None, description=None)
FACTS = SummaryMetadata(
    plugin_data=SummaryMetadata.PluginData(plugin_name="mnist_vg"), data_class=DATA_CLASS_TENSOR
)

HISTOGRAMS = 4
"""Records of a run that have histograms, too: those of all would fill the disk."""

EVERY = 10
"""Steps between two records."""


def write_runs(logdir: Path, runs: int, layers: int, records: int) -> None:
    """Write runs whose gradients shrink with depth, each by a factor of its own.

    Args:
        logdir: the log folder.
        runs: how many.
        layers: of each run.
        records: of each run.
    """
    names = [f"layer{number}" for number in range(1, layers + 1)]
    random = np.random.default_rng(0)
    for number in range(runs):
        shrink = 10 ** -random.uniform(0, 10 / layers)
        noise = random.lognormal(0, 0.3, [records, layers])
        gradients = 1e-2 * shrink ** np.arange(layers)[::-1] * noise
        scenario = Scenario(
            name=f"run{number:05}", num_layers=layers, activation="sigmoid", seed=number
        )
        _write_run(logdir / scenario.name, scenario, names, gradients, 0.9 * shrink**layers)


def _write_run(folder, scenario, layers, gradients, accuracy):
    folder.mkdir(parents=True)
    steps = EVERY * np.arange(len(gradients))
    facts = _facts(folder, scenario, layers, gradients, steps, accuracy)
    path = folder / f"events.out.tfevents.0000000000.benchmark{EVENT_SUFFIX}"
    with tf.io.TFRecordWriter(str(path)) as file:
        file.write(Event(file_version="brain.Event:2").SerializeToString())
        spaced = np.linspace(0, len(steps) - 1, HISTOGRAMS).astype(int)
        for record, step in enumerate(steps):
            values = [_scalar(LOSS_TRAIN, 2.3)]
            for layer, size in zip(layers, gradients[record], strict=True):
                values.append(_scalar(layer_tag(GRADIENT_MEAN_ABS, layer), size))
                if record in spaced:
                    counts = buckets(-size, size, np.full(30, 10.0))
                    values.append(_value(layer_tag(GRADIENTS, layer), counts, HISTOGRAM))
            event = Event(step=int(step), wall_time=float(step), summary=Summary(value=values))
            file.write(event.SerializeToString())
        value = _value(RUN_FACTS, json.dumps(facts).encode(), FACTS)
        last = Event(step=int(steps[-1]), wall_time=0, summary=Summary(value=[value]))
        file.write(last.SerializeToString())


def _facts(folder, scenario, layers, gradients, steps, accuracy):
    history = {
        "step": steps,
        "layers": layers,
        GRADIENT_MEAN_ABS: gradients,
        "gradient_norm": gradients,
        "weight_norm": np.ones_like(gradients),
        LOSS_TRAIN: np.full(len(steps), 2.3),
        ACCURACY_TEST: np.full(len(steps), accuracy),
        CHANCE_ACCURACY: np.full(len(steps), 0.1),
    }
    diagnosis = Diagnosis.of(history, True, scenario.settings())
    results = {"test_accuracy": accuracy}
    run = Run(folder, "finished", scenario.settings(), "mnist", {}, results=results)
    run.save()
    return run_facts(run, diagnosis)


def _scalar(tag, number):
    tensor = TensorProto(dtype=DT_FLOAT, float_val=[number])
    return Summary.Value(tag=tag, metadata=SCALAR, tensor=tensor)


def _value(tag, content, metadata):
    tensor = tensor_util.make_tensor_proto(content)
    return Summary.Value(tag=tag, tensor=tensor, metadata=metadata)
