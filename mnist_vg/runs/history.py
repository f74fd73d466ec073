"""What a run has recorded, as arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mnist_vg.runs.events import decode, read_points
from mnist_vg.runs.tags import (
    GRADIENT_MEAN_ABS,
    LAYER_MEASURES,
    LAYER_STATE,
    UNITS_DEAD,
    WEIGHTS,
    layer_tag,
)


class History(Mapping):
    """What a run has recorded: arrays by name, each decoded when it is first asked for.

    | name | array |
    |---|---|
    | `step` | int64 `[records]` |
    | a scalar's tag, such as `loss/train` | float64 `[records]` |
    | a measure of layers, such as `gradient_mean_abs` | float64 `[records, layers]` |
    | a histogram of layers, such as `gradients` | float64 `[records, layers, 30, 3]`: left
      edge, right edge, count |
    | `layers` | names of the layers, in the order of the columns |
    | `activation_layers` | the same for measures of activations, where there are any |
    | `layer_state`, of records in which a layer got no gradient | 0: it got one; 1: it got
      none; 2: it was frozen |
    | `kernels/layer1`, in full records of small kernels | float64 `[records, inputs, units]` |

    NaN stands where a record has no such number.

    Args:
        points: tag to step to tensor, as `read_points` returns them.
    """

    def __init__(self, points: Mapping[str, Mapping[int, Any]]):
        self._points = {tag: at for tag, at in points.items() if not tag.startswith("decision/")}
        self._layers_of: dict[str, list[str]] = {}
        for tag in self._points:
            measure, slash, layer = tag.partition("/")
            if slash and measure in LAYER_MEASURES:
                self._layers_of.setdefault(measure, []).append(layer)
        scalars = [tag for tag in self._points if tag.partition("/")[0] not in self._layers_of]
        # Each record has these measures of all layers; the first one only if some got no gradient.
        columns = {
            "layers": (LAYER_STATE, GRADIENT_MEAN_ABS, WEIGHTS),  # Others record no gradients.
            "activation_layers": (UNITS_DEAD,),
        }
        found = {
            name: dict.fromkeys(layer for m in measures for layer in self._layers_of.get(m, ()))
            for name, measures in columns.items()
        }
        self._columns = {name: list(layers) for name, layers in found.items() if layers}
        self._names = ["step", *scalars, *self._columns, *self._layers_of]
        self._decoded: dict[str, np.ndarray] = {}

    @classmethod
    def read(cls, folder: Path) -> "History":
        """What the event files in a run folder hold now."""
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
            return np.array(self._columns[name])
        if name not in self._layers_of:
            return self._column(name)
        known = {layer: self._column(layer_tag(name, layer)) for layer in self._layers_of[name]}
        lacking = np.full_like(next(iter(known.values())), np.nan)
        of_activations = name.startswith(("activation", "units"))
        names = self["activation_layers" if of_activations else "layers"]
        return np.stack([known.get(str(layer), lacking) for layer in names], axis=1)

    def _column(self, tag):
        values = {step: decode(tensor) for step, tensor in self._points[tag].items()}
        lacking = np.full_like(next(iter(values.values())), np.nan)
        return np.stack([values.get(int(step), lacking) for step in self["step"]])
