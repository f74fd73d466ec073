"""How much each varied field of a sweep matters: shares of variance over the grid."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mnist_vg.errors import UsageError
from mnist_vg.sweeps.axes import Axis, cells, on_grid
from mnist_vg.sweeps.table import GRADIENT_RATIO, TEST_ACCURACY, last_records

if TYPE_CHECKING:
    import pandas


class Share(NamedTuple):
    """What a field has to do with the variance of a measure.

    `alone` is its first-order Sobol index, `together` its total-effect index: alone and in
    interactions with others. `best` is the value whose networks have the best median, and
    `median` that; it is None for the seed, of which no value is better than another.
    """

    field: str
    alone: float
    together: float
    best: Any
    median: float | None


class Ranking(NamedTuple):
    """The fields, the one that matters most first, over `networks` of a sweep.

    `left_out` are values of fields that lack a network, or its number, under some setting of
    the others.
    """

    column: str
    shares: list[Share]
    networks: int
    left_out: dict[str, list]


def sobol_indices(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First-order and total-effect indices of a function that is known on a whole grid.

    With every point as probable as any other, first-order is the variance of the means given
    an input over the variance of all; total-effect the mean of the variances given all other
    inputs over it (Sobol 1993; Homma and Saltelli 1996; Saltelli et al. 2010). For
    hyperparameters it is the functional ANOVA of Hutter et al. 2014, with the trained networks
    themselves in the place of their forest.

    Args:
        table: finite values, an axis an input, not all of them equal.

    Returns:
        Two arrays `[inputs]` of shares from 0 to 1; those of first order sum to 1 at most.
    """
    inputs = range(table.ndim)
    first = [table.mean(axis=tuple(k for k in inputs if k != n)).var() for n in inputs]
    total = [table.var(axis=n).mean() for n in inputs]
    return np.array(first) / table.var(), np.array(total) / table.var()


def rank(
    sweep_table: "pandas.DataFrame", axes: Mapping[str, Sequence], column: str = TEST_ACCURACY
) -> Ranking:
    """Rank the varied fields, and the seed, by their total effect on a column's last record.

    An accuracy that is NaN counts as chance, which is what such a network knows; a gradient
    ratio is clipped as in the figures, its best value is the one nearest to 0, and where it
    is NaN, it is missing. Shares need a whole grid: values with missing networks are
    left out, those that lack the largest part first, until there is one.

    Args:
        sweep_table: a row a network and record.
        axes: the varied fields and their values, as in `sweep.json`.
        column: `test_accuracy` or `log10_gradient_ratio`.

    Raises:
        UsageError: of no field two values are left, or all networks are equal.
    """
    last = last_records(sweep_table)
    if column == TEST_ACCURACY:
        last = last.assign(**{column: last[column].fillna(last["chance"])})
    grid = [Axis.of(field, values) for field, values in axes.items()]
    grid.append(Axis.of("seed", sorted(last["seed"].unique().tolist())))
    table = on_grid(cells(last, grid, column).mean(), grid)
    table, kept = _whole(table)
    if table.size == 0 or np.ptp(table) == 0:
        raise UsageError(
            f"sweep: the {table.size} networks of the part of the grid that is whole leave nothing "
            f"to compare in {column}; finish the sweep, or vary more"
        )
    kept = [[axis.values[n] for n in those] for axis, those in zip(grid, kept, strict=True)]
    shares = sorted(_shares(table, grid, kept, column), key=lambda share: -share.together)
    left_out = {
        axis.field: [value for value in axis.values if value not in those]
        for axis, those in zip(grid, kept, strict=True)
    }
    left_out = {field: values for field, values in left_out.items() if values}
    return Ranking(column, shares, table.size, left_out)


def _shares(table, axes, values, column):
    """A `Share` for each axis of which more than one value is left; the last one is the seed."""
    for number, (axis, *indices) in enumerate(zip(axes, *sobol_indices(table), strict=True)):
        size = table.shape[number]
        medians = np.median(np.moveaxis(table, number, 0).reshape(size, -1), axis=1)
        best = np.argmin(np.abs(medians)) if column == GRADIENT_RATIO else np.argmax(medians)
        of_best = (None, None) if axis is axes[-1] else (values[number][best], float(medians[best]))
        if size > 1:
            yield Share(axis.field, *map(float, indices), *of_best)


def _whole(table):
    """The part of a table without NaN, and the places on each axis that are left in it."""
    kept = [np.arange(size) for size in table.shape]
    while np.isnan(table).any():
        missing = np.isnan(table)
        shares = [missing.mean(axis=tuple({*range(table.ndim)} - {n})) for n in range(table.ndim)]
        # Of equal shares, the one with fewer networks to lose.
        axis = max(range(table.ndim), key=lambda n: (shares[n].max(), table.shape[n]))
        worst = int(shares[axis].argmax())
        table = np.delete(table, worst, axis)
        kept[axis] = np.delete(kept[axis], worst)
    return table, kept
