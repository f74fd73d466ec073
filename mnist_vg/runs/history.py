"""What a run has recorded, as arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mnist_vg.runs.events import decode, read_points
from mnist_vg.runs.tags import GRADIENT_MEAN_ABS, LAYER_MEASURES, UNITS_DEAD, layer_tag


class History(Mapping):
    """What a run recorded: arrays by name, decoded where they are asked for.

    `step`, int64 `[records]`; each scalar tag by its name, float64 `[records]`; and for
    tags of layers one table by the group before the slash: scalars float64 `[records,
    layers]`, histograms float64 `[records, layers, 30, 3]` of left edge, right edge and
    count. NaN stands where a record lacks a number. `layers` and, where activations were
    recorded, `activation_layers` name the columns of the tables. A full record of the
    trainer's has tiny kernels whole: `kernels/layer1` `[records, inputs, units]`.

    Args:
        points: tag to step to tensor, as `read_points` returns them.
    """

    def __init__(self, points: Mapping[str, Mapping[int, Any]]):
        self._points = {tag: at for tag, at in points.items() if not tag.startswith("decision/")}
        self._tables: dict[str, list[str]] = {}
        for tag in self._points:
            group, _, layer = tag.partition("/")
            if group in LAYER_MEASURES:
                self._tables.setdefault(group, []).append(layer)
        scalars = [tag for tag in self._points if tag.partition("/")[0] not in self._tables]
        # These two are written for every layer at every record.
        columns = {"layers": GRADIENT_MEAN_ABS, "activation_layers": UNITS_DEAD}
        self._columns = {name: group for name, group in columns.items() if group in self._tables}
        self._names = ["step", *scalars, *self._columns, *self._tables]
        self._decoded: dict[str, np.ndarray] = {}

    @classmethod
    def read(cls, folder: Path) -> "History":
        """What the event files in a run folder hold at this moment."""
        return cls(read_points(folder))

    def __iter__(self):
        return iter(self._names)

    def __len__(self):
        return len(self._names)

    def __contains__(self, name):
        return name in self._names

    def __getitem__(self, name):
        if name not in self._decoded:
            self._decoded[name] = self._decode(name)
        return self._decoded[name]

    def _decode(self, name):
        if name == "step":
            return np.array(sorted(set().union(*self._points.values())), np.int64)
        if name in self._columns:
            return np.array(self._tables[self._columns[name]])
        if name not in self._tables:
            return self._column(name)
        known = {layer: self._column(layer_tag(name, layer)) for layer in self._tables[name]}
        lacking = np.full_like(next(iter(known.values())), np.nan)
        of_activations = name.startswith(("activation", "units"))
        names = self["activation_layers" if of_activations else "layers"]
        return np.stack([known.get(str(layer), lacking) for layer in names], axis=1)

    def _column(self, tag):
        values = {step: decode(tensor) for step, tensor in self._points[tag].items()}
        lacking = np.full_like(next(iter(values.values())), np.nan)
        return np.stack([values.get(int(step), lacking) for step in self["step"]])
