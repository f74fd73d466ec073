"""The grid of a sweep: its varied fields, and where on it each network stands."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mnist_vg.errors import UsageError
from mnist_vg.scenarios.initializers import parse_initializer
from mnist_vg.sweeps.table import GRADIENT_RATIO

if TYPE_CHECKING:
    import pandas

RATIO_LIMIT = 7
"""Decades beyond which a gradient ratio counts as this many: float32 has no more digits."""


@dataclass(frozen=True)
class Axis:
    """A varied field: its values in the order in which they are shown, and their labels.

    Numbers are sorted, None before them, and words stay as they were given. Initializers
    of one name that differ in one number are numbers, and `title` tells which.
    """

    field: str
    title: str
    values: tuple
    labels: tuple[str, ...]
    numeric: bool

    @classmethod
    def of(cls, field: str, values: Sequence) -> "Axis":
        """The axis of a field that was given these values."""
        title, numbers = _argument(field, values) or (field, values)
        numeric = all(_is_number(number) for number in numbers)
        if all(number is None or _is_number(number) for number in numbers):
            order = sorted(range(len(values)), key=lambda n: (numbers[n] is not None, numbers[n]))
            numbers, values = ([some[n] for n in order] for some in (numbers, values))
        return cls(field, title, tuple(values), tuple(map(_label, numbers)), numeric)

    def positions(self, column: "pandas.Series") -> np.ndarray:
        """Where on the axis each value of a column is, -1 where it is not."""
        places = {value: place for place, value in enumerate(self.values)}
        # pandas has NaN for None, or not, by its version and the kind of the column.
        given = zip(column, column.isna(), strict=True)
        return np.array([places.get(None if missing else v, -1) for v, missing in given], int)


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _label(value):
    return "none" if value is None else f"{value:g}" if _is_number(value) else str(value)


def _argument(field, values):
    """A title and numbers, where values are initializers that differ in one number alone."""
    if not field.endswith("_initializer") or not all(isinstance(value, str) for value in values):
        return None
    names, arguments = zip(*map(parse_initializer, values), strict=True)
    keys = set(map(tuple, arguments))
    if len({*names}) > 1 or len(keys) > 1:
        return None
    varied = [key for key in arguments[0] if len({given[key] for given in arguments}) > 1]
    if len(varied) != 1 or not all(_is_number(given[varied[0]]) for given in arguments):
        return None
    others = ", ".join(f"{k}={_label(v)}" for k, v in arguments[0].items() if k != varied[0])
    return (
        f"{field} {names[0]}{f'({others})' if others else ''} {varied[0]}",
        [given[varied[0]] for given in arguments],
    )


def choose(
    axes: Mapping[str, Sequence], most: int, x: str | None, y: str | None, by: str | None
) -> tuple[dict[str, Axis], list[str]]:
    """The axes to show, panels (`by`) before rows (`y`) before columns (`x`), and what is left.

    A place without a field gets the next that is left over, in the order in which they were
    varied; panels only one of at most `most` values.

    Returns:
        Place to axis, of the places for which there is a field, and the fields left over.

    Raises:
        UsageError: a field was not varied, has two places, or has too many values; or nothing
            was varied at all.
    """
    if not axes:
        raise UsageError("sweep: no field was varied, and there is nothing to compare")
    given = {place: field for place, field in (("by", by), ("y", y), ("x", x)) if field}
    for place, field in given.items():
        if field not in axes:
            raise UsageError(f"{place}: {field} was not varied; choose from {', '.join(axes)}")
    if len(set(given.values())) < len(given):
        raise UsageError(f"x, y, by: one field is given twice; choose from {', '.join(axes)}")
    if by and len(axes[by]) > most:
        raise UsageError(f"by: {by} has {len(axes[by])} values; there is room for {most} panels")
    left = [field for field in axes if field not in given.values()]
    for place in ("x", "y", "by"):
        fitting = [field for field in left if place != "by" or len(axes[field]) <= most]
        if place not in given and fitting:
            given[place] = fitting[0]
            left.remove(fitting[0])
    shown = {
        place: Axis.of(given[place], axes[given[place]]) for place in _PLACES if place in given
    }
    return shown, left


_PLACES = ("by", "y", "x")


def shape(axes: Sequence[Axis]) -> tuple[int, ...]:
    """The number of values of each axis."""
    return tuple(len(axis.values) for axis in axes)


def cells(
    records: "pandas.DataFrame", axes: Sequence[Axis], column: str
) -> "pandas.core.groupby.SeriesGroupBy":
    """A column of the records that are on the grid, by their place in the flat array of cells."""
    places = np.array([axis.positions(records[axis.field]) for axis in axes])
    inside = (places >= 0).all(axis=0)
    values = records[column][inside]
    if column == GRADIENT_RATIO:
        values = values.clip(-RATIO_LIMIT, RATIO_LIMIT)
    return values.groupby(np.ravel_multi_index(places[:, inside], shape(axes)))


def on_grid(values: "pandas.Series", axes: Sequence[Axis]) -> np.ndarray:
    """Values of cells, as `cells` names these, in an array of the grid; NaN elsewhere."""
    table = np.full(math.prod(shape(axes)), np.nan)
    table[values.index] = values
    return table.reshape(shape(axes))
