"""Runs that other programs recorded for TensorBoard, read as far as they go.

The names are those of Keras' `TensorBoard` callback, of PyTorch Lightning's `TensorBoardLogger`
and of what users of PyTorch's `SummaryWriter` write.
"""

import os
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mnist_vg.runs.events import EVENT_SUFFIX, decode, encode, values_in
from mnist_vg.runs.paths import as_path
from mnist_vg.runs.run import Run
from mnist_vg.runs.tags import (
    GRADIENT_MEAN_ABS,
    GRADIENTS,
    LOSS_TRAIN,
    LOSS_TRAIN_MEAN,
    WEIGHTS,
    layer_tag,
)

SPLITS = ("train", "validation")
"""The folders in which Keras' callback writes one run, by the split that each holds."""

_PREFIXES = {"train": "", "training": ""}
_PREFIXES |= dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "val_")
_PREFIXES |= {"test": "test_"}
"""What tells a split in a tag, and how our tags begin then."""

_PER_BATCH = {"batch", "step"}
_SETTINGS = re.compile("|lr(_.*)?|learning_rate|hp_metric")
_SHORT = {"acc": "accuracy"}

_GRADIENT = re.compile(r"(?:^|[/._])grad(?:ient)?s?(?=[/.]|$)", re.IGNORECASE)
_KIND = re.compile(r"(?:^|[/.])(?:histogram|weights|param(?:eter)?s)(?=[/.]|$)", re.IGNORECASE)
_VARIABLES = ("kernel", "weight", "embeddings", "recurrent_kernel", "gamma", "", "bias", "beta")
"""The last part of a variable's name. The first of a layer's variables here stands for it."""

Points = dict[str, dict[int, Any]]


class ForeignRun(Run):
    """A run that another program recorded; it has no `run.json`.

    Its files do not tell whether it has ended, so it is judged as a finished one.
    """

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "ForeignRun | None":
        """The run in a folder, or in Keras' two folders in it; None where there is none."""
        folder = as_path(folder)
        run = cls(folder, "finished", {"name": folder.name or folder.absolute().name}, None, {})
        return run if any(True for _ in run._event_files()) else None

    def _event_files(self):
        """Each event file with the split that its folder tells."""
        for split in ("", *SPLITS):
            for path in sorted((self.folder / split).glob("*tfevents*")):
                if not path.name.endswith(EVENT_SUFFIX):
                    yield split or "train", path

    @cached_property
    def _points(self):
        scalars: Points = {}
        histograms: dict[tuple[str, str, str], dict[int, Any]] = {}
        for split, step, plugin, tag, tensor in self._events():
            if plugin == "histograms" and (variable := _variable_of(tag)):
                histograms.setdefault(variable, {})[step] = tensor
            elif plugin == "scalars" and (name := _scalar_of(tag, split)):
                scalars.setdefault(name, {})[step] = tensor
        return scalars | _tables(histograms)

    def _events(self):
        from tensorboard.data_compat import migrate_value

        found = [
            (split, step, migrate_value(value))
            for split, path in self._event_files()
            for step, value in values_in(path)
        ]
        # Keras counts batches in some tags, and epochs in the others, as in those of histograms.
        by_epoch = any(value.tag.startswith("epoch_") for _, _, value in found)
        for split, step, value in found:
            by_batch = value.tag.startswith("batch_") or value.tag.endswith("_vs_iterations")
            if not (by_epoch and by_batch):
                plugin = value.metadata.plugin_data.plugin_name
                yield split, step, plugin, value.tag, value.tensor


def foreign_runs(logdir: Path) -> list[ForeignRun]:
    """Every run of another program in a folder and in the folders below it."""
    folders = {
        path.parent.parent if path.parent.name in SPLITS and path.parent != logdir else path.parent
        for path in logdir.rglob("*tfevents*")
    }
    return [run for folder in sorted(folders) if (run := ForeignRun.load(folder))]


def _scalar_of(tag, split):
    """Our name of another program's scalar; None for what is no loss and no metric."""
    words = [word for word in re.split(r"[/_.\s-]+", tag.lower()) if word]
    prefix = next((_PREFIXES[word] for word in words if word in _PREFIXES), _PREFIXES[split])
    per_batch = not _PER_BATCH.isdisjoint(words)
    left_out = {*_PREFIXES, *_PER_BATCH, "epoch"}
    name = "_".join(_SHORT.get(word, word) for word in words if word not in left_out)
    if (prefix, name) == ("", "loss"):
        return LOSS_TRAIN if per_batch else LOSS_TRAIN_MEAN
    return None if per_batch or _SETTINGS.fullmatch(name) else prefix + name


def _variable_of(tag):
    """`(gradients or weights, layer, variable)` of a histogram; None if it is of neither."""
    group = GRADIENTS if _GRADIENT.search(tag) else WEIGHTS
    path = _KIND.sub("", _GRADIENT.sub("", tag)).strip("/.")
    layer, _, variable = re.fullmatch(r"(?:(.*)([/.]))?(.*)", path).groups()
    if variable not in _VARIABLES:
        layer, variable = path, ""
    told = variable or group == GRADIENTS or _KIND.search(tag)
    return (group, layer, variable) if told and layer else None


def _tables(histograms: Mapping[tuple[str, str, str], dict[int, Any]]) -> Points:
    """Histograms of layers, all with the same number of buckets, and mean absolute gradients."""
    chosen = {}
    for group, layer, variable in histograms:
        rank, _ = chosen.get((group, layer), (len(_VARIABLES), None))
        if _VARIABLES.index(variable) < rank:
            at = histograms[group, layer, variable]
            chosen[group, layer] = (_VARIABLES.index(variable), at)
    shared = _shared_folder([layer for _, layer in chosen])
    decoded = {
        (group, layer.removeprefix(shared)): {
            step: decode(tensor).reshape(-1, 3) for step, tensor in at.items()
        }
        for (group, layer), (_, at) in chosen.items()
    }
    most = max((len(table) for at in decoded.values() for table in at.values()), default=0)
    points: Points = {}
    for (group, layer), at in decoded.items():
        points[layer_tag(group, layer)] = {
            step: encode(np.pad(table, ((0, most - len(table)), (0, 0))))
            for step, table in at.items()
        }
        if group == GRADIENTS:
            means = {step: encode(_mean_abs(table)) for step, table in at.items()}
            points[layer_tag(GRADIENT_MEAN_ABS, layer)] = means
    return points


def _shared_folder(layers):
    """What all names begin with, such as `sequential/`; empty if nothing."""
    shared = {layer.partition("/")[0] for layer in layers if "/" in layer[1:]}
    return f"{shared.pop()}/" if len(shared) == 1 and all("/" in layer for layer in layers) else ""


def _mean_abs(buckets):
    """The mean absolute value of what a histogram counts, spread evenly within each bucket."""
    left, right, counts = buckets.T
    width = right - left
    with np.errstate(divide="ignore", invalid="ignore"):
        means = (right * np.abs(right) - left * np.abs(left)) / (2 * width)
        means = np.where(width > 0, means, np.abs(left))
        return np.sum(counts * means) / np.sum(counts)
