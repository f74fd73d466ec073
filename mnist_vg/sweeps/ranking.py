"""Ranks a sweep's varied fields by their share of the variance over the grid (Sobol indices)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mnist_vg.errors import UsageError
from mnist_vg.sweeps.axes import Axis, cells, on_grid
from mnist_vg.sweeps.table import GRADIENT_RATIO, TEST_ACCURACY, last_records

if TYPE_CHECKING:
    import pandas


class Share(NamedTuple):
    """A field's share of the variance of a column.

    Attributes:
        field: the varied field, or "seed".
        alone: the first-order Sobol index, the share of the field alone.
        together: the total-effect index, the share of the field with all of its interactions.
        best: the value whose networks have the best median; None for the seed.
        median: that median; None for the seed.
    """

    field: str
    alone: float
    together: float
    best: Any
    median: float | None


class Ranking(NamedTuple):
    """A sweep's varied fields, ranked by how much they matter.

    Attributes:
        column: the column of the sweep's table whose variance is shared out.
        shares: a share for each field, the largest total effect first.
        networks: how many networks were compared.
        left_out: field to the values that were left out, because the grid has holes there.
    """

    column: str
    shares: list[Share]
    networks: int
    left_out: dict[str, list]


def sobol_indices(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First-order and total-effect Sobol indices of a function that is known on a whole grid.

    All grid points have the same probability. The first-order index of an input is
    `Var(E[f | input]) / Var(f)`. The total-effect index is
    `E[Var(f | all other inputs)] / Var(f)` (Sobol 1993; Homma and Saltelli 1996; Saltelli et
    al. 2010). For hyperparameters this is the functional ANOVA of Hutter et al. 2014, but with
    trained networks instead of a random forest's predictions.

    Args:
        values: the function's finite values, with an axis for each input; not all equal.

    Returns:
        Two arrays `[inputs]` of shares from 0 to 1. The first-order ones sum to at most 1.
    """
    inputs = range(values.ndim)
    first = [values.mean(axis=tuple(k for k in inputs if k != n)).var() for n in inputs]
    total = [values.var(axis=n).mean() for n in inputs]
    return np.array(first) / values.var(), np.array(total) / values.var()


def rank(
    sweep_table: "pandas.DataFrame", axes: Mapping[str, Sequence], column: str = TEST_ACCURACY
) -> Ranking:
    """Rank the varied fields, and the seed, by their total effect on a column's last record.

    An accuracy of NaN counts as chance. Gradient ratios are clipped as in the figures, and the
    best one is the nearest to 0; a ratio of NaN counts as missing. The indices need a grid
    without holes. So values of fields are left out, the one with the largest share of missing
    networks first, until no hole is left.

    Args:
        sweep_table: one row per network and record; those of `read_sweep` are enough.
        axes: the varied fields and their values, as in `sweep.json`.
        column: `test_accuracy` or `log10_gradient_ratio`.

    Raises:
        UsageError: fewer than two different results are left to compare.
    """
    last = last_records(sweep_table)
    if column == TEST_ACCURACY:
        last = last.assign(**{column: last[column].fillna(last["chance"])})
    grid = [Axis.of(field, values) for field, values in axes.items()]
    grid.append(Axis.of("seed", sorted(last["seed"].unique().tolist())))
    results, kept = _without_holes(on_grid(cells(last, grid, column).mean(), grid))
    if results.size == 0 or np.ptp(results) == 0:
        raise UsageError(
            f"sweep: {column} cannot be ranked: the part of the grid without holes has "
            f"{results.size} networks, with no two different results; finish the sweep, or vary "
            "more"
        )
    kept = [[axis.values[n] for n in indices] for axis, indices in zip(grid, kept, strict=True)]
    shares = sorted(_shares(results, grid, kept, column), key=lambda share: -share.together)
    left_out = {
        axis.field: [value for value in axis.values if value not in values]
        for axis, values in zip(grid, kept, strict=True)
    }
    left_out = {field: values for field, values in left_out.items() if values}
    return Ranking(column, shares, results.size, left_out)


def _shares(results, axes, values, column):
    """A `Share` for each axis with more than one value left; the last axis is the seed."""
    for number, (axis, *indices) in enumerate(zip(axes, *sobol_indices(results), strict=True)):
        size = results.shape[number]
        medians = np.median(np.moveaxis(results, number, 0).reshape(size, -1), axis=1)
        best = np.argmin(np.abs(medians)) if column == GRADIENT_RATIO else np.argmax(medians)
        of_best = (None, None) if axis is axes[-1] else (values[number][best], float(medians[best]))
        if size > 1:
            yield Share(axis.field, *map(float, indices), *of_best)


def _without_holes(results):
    """The grid without values of fields until no NaN is left, and the indices kept on each axis."""
    kept = [np.arange(size) for size in results.shape]
    while np.isnan(results).any():
        missing, axes = np.isnan(results), range(results.ndim)
        shares = [missing.mean(axis=tuple({*axes} - {n})) for n in axes]
        # If two shares are equal, shorten the longer axis: that loses fewer networks.
        axis = max(axes, key=lambda n: (shares[n].max(), results.shape[n]))
        worst = int(shares[axis].argmax())
        results = np.delete(results, worst, axis)
        kept[axis] = np.delete(kept[axis], worst)
    return results, kept
