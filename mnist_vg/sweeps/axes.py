"""The axes of a sweep's grid, and each network's position on it."""

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
"""log10 of a gradient ratio is clipped to ±7: float32 has about seven significant digits."""


@dataclass(frozen=True)
class Axis:
    """A varied field, as an axis of a figure.

    Numbers are sorted, with None first. Words keep their given order. Initializers that
    differ in a single number count as numbers: `random_normal(stddev=0.1)` and
    `random_normal(stddev=0.2)` are 0.1 and 0.2 on an axis "… random_normal stddev".

    Attributes:
        field: the setting's name.
        title: the axis title.
        values: the field's values, in the order in which they are shown.
        labels: a label for each value.
        numeric: whether the values are numbers.
    """

    field: str
    title: str
    values: tuple
    labels: tuple[str, ...]
    numeric: bool

    @classmethod
    def of(cls, field: str, values: Sequence) -> "Axis":
        """The axis of a field with the given values."""
        title, numbers = _argument(field, values) or (field, values)
        numeric = all(_is_number(number) for number in numbers)
        if all(number is None or _is_number(number) for number in numbers):
            order = sorted(range(len(values)), key=lambda n: (numbers[n] is not None, numbers[n]))
            numbers, values = ([some[n] for n in order] for some in (numbers, values))
        return cls(field, title, tuple(values), tuple(map(_label, numbers)), numeric)

    def positions(self, column: "pandas.Series") -> np.ndarray:
        """The index in `values` of each entry of a column; -1 for an entry that is not there."""
        indices = {value: index for index, value in enumerate(self.values)}
        # Depending on its version and the column's type, pandas turns None into NaN.
        entries = zip(column, column.isna(), strict=True)
        return np.array([indices.get(None if missing else v, -1) for v, missing in entries], int)


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _label(value):
    return "none" if value is None else f"{value:g}" if _is_number(value) else str(value)


def _argument(field, values):
    """The axis title and the numbers of initializers that differ in a single number, else None."""
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
    axes: Mapping[str, Sequence], max_panels: int, x: str | None, y: str | None, by: str | None
) -> tuple[dict[str, Axis], list[str]]:
    """Choose the fields of a figure's columns (`x`), rows (`y`) and panels (`by`).

    `x`, `y` and `by` without a field get the next unused one, in this order.

    Args:
        axes: the varied fields and their values.
        max_panels: how many values the field of the panels may have.
        x: the field of the columns.
        y: the field of the rows.
        by: the field of the panels.

    Returns:
        The chosen axes by "by", "y" and "x", in this order, and the unused fields. A role for
        which no field is left is missing.

    Raises:
        UsageError: a field was not varied, is given twice or has too many values, or nothing
            was varied.
    """
    if not axes:
        raise UsageError("sweep: no field was varied, so there is nothing to compare")
    chosen = {role: field for role, field in (("by", by), ("y", y), ("x", x)) if field}
    for role, field in chosen.items():
        if field not in axes:
            raise UsageError(f"{role}: {field} was not varied; choose from {', '.join(axes)}")
    if len(set(chosen.values())) < len(chosen):
        raise UsageError(f"x, y, by: one field is given twice; choose from {', '.join(axes)}")
    if by and len(axes[by]) > max_panels:
        raise UsageError(
            f"by: {by} has {len(axes[by])} values, and a figure has at most {max_panels} panels; "
            "choose another field"
        )
    unused = [field for field in axes if field not in chosen.values()]
    for role in ("x", "y", "by"):
        fitting = [field for field in unused if role != "by" or len(axes[field]) <= max_panels]
        if role not in chosen and fitting:
            chosen[role] = fitting[0]
            unused.remove(fitting[0])
    roles = [role for role in ("by", "y", "x") if role in chosen]
    return {role: Axis.of(chosen[role], axes[chosen[role]]) for role in roles}, unused


def shape(axes: Sequence[Axis]) -> tuple[int, ...]:
    """The number of values of each axis."""
    return tuple(len(axis.values) for axis in axes)


def cells(
    records: "pandas.DataFrame", axes: Sequence[Axis], column: str
) -> "pandas.core.groupby.SeriesGroupBy":
    """A column of the records, grouped by grid cell.

    The cell's key is its index in the flattened grid. Records off the grid are left out, and
    log10 gradient ratios are clipped to ±`RATIO_LIMIT`.
    """
    positions = np.array([axis.positions(records[axis.field]) for axis in axes])
    inside = (positions >= 0).all(axis=0)
    values = records[column][inside]
    if column == GRADIENT_RATIO:
        values = values.clip(-RATIO_LIMIT, RATIO_LIMIT)
    return values.groupby(np.ravel_multi_index(positions[:, inside], shape(axes)))


def on_grid(values: "pandas.Series", axes: Sequence[Axis]) -> np.ndarray:
    """One value per cell, with the keys of `cells`, as an array of `shape(axes)`; NaN elsewhere."""
    grid = np.full(math.prod(shape(axes)), np.nan)
    grid[values.index] = values
    return grid.reshape(shape(axes))


def medians(records: "pandas.DataFrame", axes: Sequence[Axis], column: str) -> np.ndarray:
    """The median of each cell's networks, as an array of `shape(axes)`.

    NaN does not count, unless more than half of a cell's networks have it: then it is NaN.
    """
    by_cell = cells(records, axes, column)
    return on_grid(by_cell.median().where(2 * by_cell.count() >= by_cell.size()), axes)
