"""`Log`: what TensorBoard has read of the runs that this package recorded."""

import json
import types
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from tensorboard.data import provider

from mnist_vg.runs.events import ARRAYS_PLUGIN
from mnist_vg.runs.tags import (
    ACCURACY_TEST,
    GRADIENT_MEAN_ABS,
    LAYER_MEASURES,
    LOSS_TRAIN,
    LOSS_TRAIN_MEAN,
    NONFINITE,
    RUN_FACTS,
    layer_tag,
)

MOST_POINTS = 1000
"""So many records of a tag TensorBoard keeps itself, unless it is told otherwise."""

_MAYBE = types.NoneType
_VALUE = (str, int, float, _MAYBE)
_SYMPTOM = {
    **dict.fromkeys(("symptom", "words", "why", "source", "kind"), str),
    **dict.fromkeys(("step", "known"), int),
    "until": (int, _MAYBE),
    "layer": (str, _MAYBE),
    "advice": [str],
    "cause": bool,
}
_FACTS = {
    **dict.fromkeys(("name", "recipe", "verdict", "health"), str),
    "dataset": (str, _MAYBE),
    **{key: [str] for key in ("layers", "activation_layers", "advice")},
    "settings": {...: _VALUE},
    "marks": {...: str},
    "results": (dict, _MAYBE),
    "finished": bool,
    "learned_share": (int, float, _MAYBE),
    "symptoms": [_SYMPTOM],
}
"""The form of what `diagnosis.facts.run_facts` returns: a log may come from anybody."""


class Table(NamedTuple):
    """A measure of a run's layers.

    Attributes:
        layers: names, the one nearest the input first.
        steps: `[records]`.
        values: float32 `[layers, records]`, NaN where the layer has no such record, and
            where NaN was recorded.
        recorded: bool `[layers, records]`, whether there is a record.
    """

    layers: list[str]
    steps: np.ndarray
    values: np.ndarray
    recorded: np.ndarray


class Newest(NamedTuple):
    """The newest record of a run.

    Attributes:
        step: of the record.
        time: when it was written, in seconds since 1970.
        accuracy: of the test split; None where it is not recorded.
    """

    step: int
    time: float
    accuracy: float | None


class Log:
    """Reads runs through TensorBoard's data provider, for one request.

    Args:
        data_provider: TensorBoard's.
        context: of the request.
        experiment: the id of the experiment.
    """

    def __init__(self, data_provider: provider.DataProvider, context: Any, experiment: str):
        self._provider = data_provider
        self._where = {"ctx": context, "experiment_id": experiment}

    def facts(self, runs: Sequence[str] | None = None) -> dict[str, tuple[int, float, str]]:
        """The newest facts of runs; default: of all runs.

        Returns:
            Run to the step and the time at which the facts were written, in seconds since 1970,
            and the JSON that `RunWriter` wrote.
        """
        found = self._provider.read_tensors(
            **self._where,
            plugin_name=ARRAYS_PLUGIN,
            downsample=1,
            run_tag_filter=provider.RunTagFilter(runs, [RUN_FACTS]),
        )
        return {
            run: (records[-1].step, records[-1].wall_time, _text(records[-1].numpy))
            for run, tags in sorted(found.items())  # TensorBoard has them in any order.
            if (records := tags.get(RUN_FACTS))
        }

    def newest(self, runs: Sequence[str]) -> dict[str, Newest]:
        """The newest record of each run; a run without any is left out."""
        found = self._provider.read_last_scalars(
            **self._where,
            plugin_name="scalars",
            run_tag_filter=provider.RunTagFilter(
                runs, [LOSS_TRAIN, LOSS_TRAIN_MEAN, ACCURACY_TEST]
            ),
        )
        newest = {}
        for run, tags in found.items():
            last = max(tags.values(), key=lambda record: record.step)
            accuracy = tags[ACCURACY_TEST].value if ACCURACY_TEST in tags else None
            newest[run] = Newest(last.step, last.wall_time, accuracy)
        return newest

    def measures(self, runs: Sequence[str]) -> list[str]:
        """What these runs record of their layers, in the order of `LAYER_MEASURES`."""
        chosen = {"run_tag_filter": provider.RunTagFilter(runs)}
        found = [
            self._provider.list_scalars(**self._where, plugin_name="scalars", **chosen),
            self._provider.list_tensors(**self._where, plugin_name="histograms", **chosen),
        ]
        tags = {tag for of_kind in found for tags in of_kind.values() for tag in tags}
        named = {tag.partition("/")[0] for tag in tags}
        # What is not finite is counted only where there is any.
        named |= set(NONFINITE) if GRADIENT_MEAN_ABS in named else set()
        return [measure for measure in LAYER_MEASURES if measure in named]

    def tables(self, layers_of: dict[str, Sequence[str]], measure: str) -> dict[str, Table]:
        """A measure of some runs.

        Args:
            layers_of: run to the names of its layers.
            measure: the first part of the tags.
        """
        measures = {measure, GRADIENT_MEAN_ABS} if measure in NONFINITE else {measure}
        layers = {layer for names in layers_of.values() for layer in names}
        found = self._provider.read_scalars(
            **self._where,
            plugin_name="scalars",
            downsample=MOST_POINTS,
            run_tag_filter=provider.RunTagFilter(
                layers_of, [layer_tag(m, layer) for m in measures for layer in layers]
            ),
        )
        return {
            run: _table(found.get(run, {}), measure, list(names))
            for run, names in layers_of.items()
        }

    def histograms(
        self, runs: Iterable[str], group: str, layer: str
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """The histograms of a layer in some runs.

        Returns:
            Run to steps `[records]`, and to left edge, right edge and count of each bucket,
            float32 `[records, buckets, 3]`.
        """
        tag = layer_tag(group, layer)
        found = self._provider.read_tensors(
            **self._where,
            plugin_name="histograms",
            downsample=MOST_POINTS,
            run_tag_filter=provider.RunTagFilter(runs, [tag]),
        )
        return {
            run: (
                np.array([record.step for record in records], float),
                np.array([record.numpy for record in records], np.float32),
            )
            for run in runs
            if (records := _histograms(found.get(run, {}).get(tag, ())))
        }


def parsed(facts: str) -> dict[str, Any] | None:
    """Facts as a dict; None if they are damaged, or not of the form that `run_facts` gives them."""
    try:
        known = json.loads(facts)
    except (ValueError, RecursionError):
        return None
    return known if _has_form(known, _FACTS) else None


def _has_form(value, form):
    if isinstance(form, list):
        return isinstance(value, list) and all(_has_form(each, form[0]) for each in value)
    if not isinstance(form, dict):
        return isinstance(value, form)
    if not isinstance(value, dict):
        return False
    if ... in form:
        return all(_has_form(each, form[...]) for each in value.values())
    return all(key in value and _has_form(value[key], of) for key, of in form.items())


def _histograms(records):
    """Those that have as many buckets as the newest: others are not of our own."""
    return [
        record
        for record in records
        if record.numpy.shape == (len(records[-1].numpy), 3) and record.numpy.dtype.kind == "f"
    ]


def _text(tensor):
    content = tensor.item() if tensor.size == 1 else b""
    return content.decode(errors="replace") if isinstance(content, bytes) else ""


def _table(tags, measure, layers):
    series = [tags.get(layer_tag(measure, layer), ()) for layer in layers]
    # What is not finite is counted only where there is any.
    counted = [tags.get(layer_tag(GRADIENT_MEAN_ABS, layer), ()) for layer in layers]
    counted = counted if measure in NONFINITE else [()] * len(layers)
    steps = np.unique([record.step for of_layer in series + counted for record in of_layer])
    values = np.full((len(layers), len(steps)), np.nan, np.float32)
    recorded = np.zeros(values.shape, bool)
    for row, (zeros, known) in enumerate(zip(counted, series, strict=True)):
        for records, of in ((zeros, lambda _: 0), (known, lambda record: record.value)):
            at = np.searchsorted(steps, [record.step for record in records])
            values[row, at] = [of(record) for record in records]
            recorded[row, at] = True
    return Table(layers, steps, values, recorded)


def thinned(table: Table, columns: int) -> Table:
    """A table with at most so many records, evenly spread, the first and the newest among them.

    Of the records that one stands for, it is one with a value that is not finite, if there is any.
    """
    count = len(table.steps)
    if count <= columns:
        return table
    odd = (table.recorded & ~np.isfinite(table.values)).any(axis=0)
    parts = np.array_split(np.arange(1, count - 1), columns - 2) if columns > 2 else []
    kept = [0, *(part[np.argmax(odd[part])] for part in parts), count - 1]
    return Table(table.layers, table.steps[kept], table.values[:, kept], table.recorded[:, kept])
