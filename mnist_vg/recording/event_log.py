"""`EventLog`: writes a run's event file through `tf.summary`."""

import contextlib
import json
import math
import struct
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_TENSOR, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_DOUBLE, DT_FLOAT
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalar
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.hparams import api as hp
from tensorboard.plugins.hparams import api_pb2 as hparams_api_pb2
from tensorboard.plugins.hparams import summary as hparams_session
from tensorboard.plugins.hparams import summary_v2 as hparams_summary
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.util import tensor_util

from mnist_vg.model import Model
from mnist_vg.runs import events
from mnist_vg.runs.marks import WITH_GRADIENT
from mnist_vg.runs.paths import is_remote, sync
from mnist_vg.runs.tags import (
    ACCURACY_TEST,
    ACCURACY_TRAIN,
    GRADIENT_FLOW,
    GRADIENT_LOG10,
    GRADIENT_MEAN_ABS,
    GRADIENT_THROUGH_TIME,
    HISTOGRAMS,
    LAYER_STATE,
    LOSS_TEST,
    LOSS_TRAIN,
    NONFINITE,
    RELATIVE_SENSITIVITY,
    RUN_FACTS,
    SYMPTOM_COUNT,
    layer_tag,
)

REMOTE_SECONDS = 30
"""Time between two uploads of a remote event file. Each uploads the whole file.

Cloud Storage allows one write per object and second (its page "Quotas and limits")."""


class EventLog:
    """Writes one run's event file. TensorBoard can show each record at once.

    A file in a bucket cannot be appended to. So the file of a remote run is written on this
    machine and uploaded: every `REMOTE_SECONDS`, and by `upload` and `lengths`.

    Args:
        folder: the run folder; no other writer may be at work in it.

    Raises:
        OSError: what is written does not reach the disk. Every method raises it.
    """

    def __init__(self, folder: Path):
        earlier = events.event_files(folder)
        self._earlier = [path.stat().st_size for path in earlier]
        self._here = tempfile.TemporaryDirectory() if is_remote(folder) else None
        written = Path(self._here.name) if self._here else folder
        self._writer = tf.summary.create_file_writer(
            str(written), filename_suffix=events.EVENT_SUFFIX
        )
        made = set(events.event_files(written)) - set(earlier)
        if not made:
            raise OSError(f"another program has removed the event file in {folder}")
        [self._path] = made
        self._remote = folder / self._path.name if self._here else None
        self._uploaded_length, self._uploaded_at = 0, -math.inf
        # The file's first record is its version.
        self._unchecked, self._length = 1, 0
        if not self._here:
            sync(folder)  # A checkpoint counts on the names of event files, too.

    def describe(self, settings: Mapping, about: str, graph=None) -> None:
        """Write what is known before the first step.

        Args:
            settings: of the run, for the HParams tab and the text card.
            about: what the run is known for, for the text card.
            graph: the forward pass as a GraphDef, for the Graphs tab.
        """
        table = _markdown_table(("Setting", "Value"), settings)
        self._write(
            0,
            *hparams_summaries(settings),
            custom_scalar.pb(_layout()),
            text_pb("scenario", f"{about}\n\n{table}".strip()),
        )
        if graph is not None:
            with self._recording():
                tf.summary.graph(graph)
            self._unchecked += 1
        self._flush()

    @np.errstate(over="ignore")  # A number may be beyond float32.
    def record(
        self,
        step: int,
        scalars: Mapping[str, float],
        tables: Iterable[tuple[Sequence[str], Mapping]] = (),
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Write one record. Of a layer without a gradient, what is NaN is left out.

        Args:
            step: the optimizer update, counted from 0.
            scalars: tag to value; None leaves out a number that would follow from the tables.
            tables: names of layers, the one nearest the input first, with their measures
                at that step: name to array, as `measures.layer_measures` returns them.
            arrays: tag to array, for `Run` to read; TensorBoard ignores them.
        """
        summary = Summary()
        numbers = {GRADIENT_FLOW: _flow(tables), **scalars}
        for tag, value in numbers.items():
            if value is not None:
                summary.value.append(_scalar_value(tag, value))
        for layers, measures in tables:
            states = _states(layers, measures)
            measures = {name: _in_buckets(values) for name, values in measures.items()}
            for number, layer in enumerate(layers):
                for measure, values in measures.items():
                    if states[number] == WITH_GRADIENT or _is_known(values, number):
                        _add_layer(summary, measure, layer, values, number)
        for tag, array in (arrays or {}).items():
            summary.value.append(_array_value(tag, array))
        self._write(step, summary)
        self._flush()
        if time.monotonic() - self._uploaded_at >= REMOTE_SECONDS:
            self.upload()

    def card(self, step: int, name: str, facts: Mapping[str, str]) -> None:
        """Write facts for the Text tab: a table of this name."""
        self._write(step, text_pb(name, _markdown_table(("Where", "What"), facts)))
        self._flush()

    def tell(self, step: int, facts: Mapping) -> None:
        """Write a run's facts for the tab "Gradient flow", see `diagnosis.facts`."""
        self._write(step, Summary(value=[_facts_value(facts)]))
        self._flush()

    def conclude(
        self, step: int, card: Mapping, symptom_count: int, pictures: Mapping[str, bytes]
    ) -> None:
        """Write the end of a run, and tell the HParams tab that it succeeded.

        Args:
            step: of the newest record.
            card: what came out, name to words, for the Text tab.
            symptom_count: of the run's diagnosis, for the HParams tab.
            pictures: tag to PNG, for the Images tab.
        """
        self._write(
            step,
            Summary(value=[_picture_value(tag, png) for tag, png in pictures.items()]),
            Summary(value=[_scalar_value(SYMPTOM_COUNT, symptom_count)]),
            text_pb("result", _markdown_table(("Result", "Value"), card)),
            hparams_session.session_end_pb(hparams_api_pb2.STATUS_SUCCESS),
        )
        self._flush()
        self.upload()

    def upload(self) -> None:
        """Upload a remote run's file, if it has grown. A local file is always up to date."""
        if self._remote and self._length > self._uploaded_length:
            self._remote.write_bytes(self._path.read_bytes())
            self._uploaded_length, self._uploaded_at = self._length, time.monotonic()

    def lengths(self) -> list[int]:
        """The size of each event file in bytes, for `events.cut_event_files`.

        They are on the disk then, also if the power fails: a checkpoint counts on them.
        """
        self.upload()
        if not self._here:
            sync(self._path)
        return [*self._earlier, self._length]

    def close(self) -> None:
        """End the event file."""
        with _reaching_the_disk(self._path):
            self._writer.close()
        if self._here:
            with self._here:
                self.upload()

    @contextlib.contextmanager
    def _recording(self):
        # Keras' TensorBoard callback may have switched recording off.
        with _reaching_the_disk(self._path), self._writer.as_default(), tf.summary.record_if(True):
            yield

    def _write(self, step, *summaries):
        with self._recording():
            for summary in summaries:
                tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=step)
                self._unchecked += 1

    def _flush(self):
        """Flush to the disk, and check that all records are there.

        TensorFlow's writer says nothing when the disk is full. If another program has cut the
        file short, the writer goes on behind a gap.
        """
        if self._path.stat().st_size < self._length:
            raise OSError(f"{self._path} was cut short by another program")
        with _reaching_the_disk(self._path):
            self._writer.flush()
        count, self._length = events.whole_records(self._path, self._length)
        if count != self._unchecked or self._length != self._path.stat().st_size:
            raise _not_written(self._path)
        self._unchecked = 0


@contextlib.contextmanager
def _reaching_the_disk(path):
    try:
        yield
    except tf.errors.OpError as error:
        raise _not_written(path) from error


def _not_written(path):
    return OSError(f"{path} could not be written to its end; is the disk full?")


def hparams_summaries(settings: Mapping) -> list:
    """A run's settings for the HParams tab, without those that are None: it would show text.

    Without a trial's name, TensorBoard gives a run a row of its own under the run's name.
    """
    known = {key: value for key, value in settings.items() if key != "name" and value is not None}
    metrics = [ACCURACY_TEST, LOSS_TEST, GRADIENT_FLOW, SYMPTOM_COUNT]
    config = hparams_summary.hparams_config_pb(
        hparams=[hp.HParam(key) for key in known], metrics=[hp.Metric(tag) for tag in metrics]
    )
    return [config, hparams_summary.hparams_pb(known, trial_id="")]


def gradient_flow(mean_abs: np.ndarray) -> np.ndarray:
    """log10 of the first layer's mean absolute gradient over the last one's.

    Args:
        mean_abs: `[layers, ...]`.

    Returns:
        `[...]`, infinite or NaN where one of the two is 0.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log10(mean_abs[0] / mean_abs[-1])


def _states(layers, measures):
    """Which layers got a gradient; a table that does not say so has only such layers."""
    return measures.get(LAYER_STATE, np.full(len(layers), WITH_GRADIENT))


def _flow(tables):
    """The gradient flow in the table of gradients; None without one."""
    for layers, measures in tables:
        if GRADIENT_MEAN_ABS in measures:
            states = _states(layers, measures)
            return gradient_flow(np.asarray(measures[GRADIENT_MEAN_ABS])[states == WITH_GRADIENT])
    return None


def forward_graph(model: Model) -> tf.compat.v1.GraphDef:
    """A model's forward pass for the Graphs tab to draw: each layer a box of its name."""
    example = tf.TensorSpec([None, *model.input_shape[1:]], tf.float32, name="input")
    traced = tf.function(model.call, autograph=False).get_concrete_function(example)
    graph = tf.compat.v1.GraphDef()
    for node in traced.graph.as_graph_def().node:
        # Control edges and what they lead to would be drawn beside every layer.
        if node.op != "NoOp":
            drawn = graph.node.add()
            drawn.CopyFrom(node)
            drawn.name = _box(node.name)
            drawn.input[:] = [_box(name) for name in node.input if not name.startswith("^")]
    return graph


def _box(node_name):
    # Keras enters a layer's name scope twice, and TensorFlow numbers the second: layer1_1.
    scope, slash, rest = node_name.partition("/")
    return scope.removesuffix("_1") + slash + rest


def as_recorded(tables: Iterable[tuple[Sequence[str], Mapping]]) -> list:
    """The tables of `EventLog.record` with the numbers that a reader of the record finds.

    Histograms are in buckets, and other numbers have float32's precision.
    """
    with np.errstate(over="ignore"):
        return [
            (layers, {name: _recorded(_in_buckets(values)) for name, values in measures.items()})
            for layers, measures in tables
        ]


def _recorded(values):
    is_histogram = np.ndim(values) > 1  # Which is written in float64.
    return values if is_histogram else np.asarray(values, np.float32).astype(float)


def _in_buckets(values):
    """A histogram of all layers as it is written; another measure as it is."""
    return events.buckets(**values) if isinstance(values, Mapping) else values


def _is_known(values, number):
    """Whether a layer without a gradient has a measure: what it lacks is NaN."""
    return not np.isnan(values[number]).any()


def _add_layer(summary, measure, layer, values, number):
    tag = layer_tag(measure, layer)
    if measure == LAYER_STATE:
        summary.value.append(_array_value(tag, values[number]))
    elif measure in HISTOGRAMS:
        if values[number, :, -1].any():  # The counts.
            summary.value.append(_histogram_value(tag, values[number]))
    elif measure in _NOT_OF_ALL and np.isnan(values[number]):
        pass
    elif measure not in NONFINITE or (values > 0).any():
        summary.value.append(_scalar_value(tag, values[number]))
        if measure == GRADIENT_MEAN_ABS and values[number] != 0:
            tag = layer_tag(GRADIENT_LOG10, layer)
            summary.value.append(_scalar_value(tag, math.log10(values[number])))


_NOT_OF_ALL = (GRADIENT_THROUGH_TIME, RELATIVE_SENSITIVITY)
"""Measures that some layers lack: those without time steps, and those whose weights are all zero,
or all layers where there is no loss."""

# TensorBoard's own functions write the same bytes, and take three times as long.
_SCALAR = scalar_metadata.create_summary_metadata(display_name=None, description=None)
_HISTOGRAM = histogram_metadata.create_summary_metadata(display_name=None, description=None)


def _scalar_value(tag, value):
    number = float(np.float32(value))
    tensor = TensorProto(dtype=DT_FLOAT, tensor_shape=TensorShapeProto(), float_val=[number])
    return Summary.Value(tag=tag, metadata=_SCALAR, tensor=tensor)


def _histogram_value(tag, buckets):
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in buckets.shape])
    tensor = TensorProto(dtype=DT_DOUBLE, tensor_shape=shape, tensor_content=buckets.tobytes())
    return Summary.Value(tag=tag, metadata=_HISTOGRAM, tensor=tensor)


def _array_value(tag, array):
    metadata = SummaryMetadata(plugin_data={"plugin_name": events.ARRAYS_PLUGIN})
    tensor = tensor_util.make_tensor_proto(array, dtype=np.float32)
    return Summary.Value(tag=tag, metadata=metadata, tensor=tensor)


def _facts_value(facts):
    plugin = {"plugin_name": events.ARRAYS_PLUGIN}
    # TensorBoard's default loader keeps nothing of a plugin's without a data class.
    metadata = SummaryMetadata(plugin_data=plugin, data_class=DATA_CLASS_TENSOR)
    tensor = tensor_util.make_tensor_proto(json.dumps(facts, allow_nan=False))
    return Summary.Value(tag=RUN_FACTS, metadata=metadata, tensor=tensor)


def _picture_value(tag, png):
    width, height = struct.unpack(">II", png[16:24])  # Width and height, in a PNG's first chunk.
    parts = [str(width).encode(), str(height).encode(), png]
    metadata = image_metadata.create_summary_metadata(display_name=None, description=None)
    return Summary.Value(tag=tag, metadata=metadata, tensor=tensor_util.make_tensor_proto(parts))


def _layout():
    def chart(title, *tags):
        content = layout_pb2.MultilineChartContent(tag=tags)
        return layout_pb2.Chart(title=title, multiline=content)

    return layout_pb2.Layout(
        category=[
            layout_pb2.Category(
                title="Gradient by layer",
                chart=[
                    chart("log10 of every layer's mean absolute gradient", f"{GRADIENT_LOG10}/.*"),
                    chart("log10 of layer 1's over the last layer's", GRADIENT_FLOW),
                ],
            ),
            layout_pb2.Category(
                title="Learning",
                chart=[
                    chart("loss", LOSS_TRAIN, LOSS_TEST),
                    chart("accuracy", ACCURACY_TRAIN, ACCURACY_TEST),
                ],
            ),
        ]
    )


def _markdown_table(header, facts):
    cells = [header, ("---", "---"), *facts.items()]
    return "\n".join(f"| {key} | {'' if value is None else value} |" for key, value in cells)
