"""The ranking of fields, on functions with known shares of variance."""

import itertools

import numpy as np
import pandas
import pytest

from mnist_vg import UsageError
from mnist_vg.report import ranking_table
from mnist_vg.sweeps.axes import RATIO_LIMIT, Axis
from mnist_vg.sweeps.ranking import rank, sobol_indices
from mnist_vg.sweeps.table import GRADIENT_RATIO

AXES = {
    "num_layers": [2, 6, 4],
    "kernel_initializer": ["random_normal(stddev=0.5)", "random_normal(stddev=0.1)"],
    "activation": ["relu", "tanh", "selu", "elu"],
}
SEEDS = 3


def networks(value, axes=AXES, seeds=SEEDS, records=2):
    """A sweep's table: a network's last accuracy is `value` of its indices on the axes."""
    places = itertools.product(*(range(len(values)) for values in axes.values()), range(seeds))
    rows = [
        {"name": f"n{number}", "step": step, "chance": 0.25, GRADIENT_RATIO: 0.0}
        | {field: values[n] for (field, values), n in zip(axes.items(), place, strict=False)}
        | {"seed": place[-1], "test_accuracy": float(value(*place)) if step else 0.99}
        for number, place in enumerate(places)
        for step in range(records)
    ]
    return pandas.DataFrame(rows)


def by_brute_force(table):
    """Both Sobol indices by plain loops over the fixed inputs."""
    points = list(itertools.product(*map(range, table.shape)))
    mean = sum(table[p] for p in points) / len(points)
    variance = sum((table[p] - mean) ** 2 for p in points) / len(points)
    alone, together = [], []
    for held in range(table.ndim):
        of_value, of_others = {}, {}
        for p in points:
            of_value.setdefault(p[held], []).append(table[p])
            of_others.setdefault(p[:held] + p[held + 1 :], []).append(table[p])
        alone.append(np.var([np.mean(some) for some in of_value.values()]) / variance)
        explained = np.var([np.mean(some) for some in of_others.values()])
        together.append(1 - explained / variance)
    return np.array(alone), np.array(together)


def test_additive_functions_have_no_interactions():
    a, b, c = np.array([0, 1.0, 5]), np.array([0, 2.0]), np.array([1.0, 1, 4, 9])
    table = a[:, np.newaxis, np.newaxis] + b[:, np.newaxis] + c
    shares = np.array([a.var(), b.var(), c.var()]) / (a.var() + b.var() + c.var())
    alone, together = sobol_indices(table)
    np.testing.assert_allclose(alone, shares)
    np.testing.assert_allclose(together, shares)


def test_products_of_independent_factors():
    a, b = np.array([1.0, 2, 6]), np.array([1.0, 3])
    # V(ab) = V(a)V(b) + V(a)E(b)^2 + V(b)E(a)^2; the first is the interaction.
    both, of_a, of_b = a.var() * b.var(), a.var() * b.mean() ** 2, b.var() * a.mean() ** 2
    alone, together = sobol_indices(np.outer(a, b))
    single = np.array([of_a, of_b])
    np.testing.assert_allclose(alone, single / (both + of_a + of_b))
    np.testing.assert_allclose(together, (single + both) / (both + of_a + of_b))


def test_exclusive_or_is_interaction_alone():
    alone, together = sobol_indices(np.array([[0.0, 1], [1, 0]]))
    np.testing.assert_allclose(alone, 0)
    np.testing.assert_allclose(together, 1)


@pytest.mark.parametrize("seed", range(5))
def test_indices_equal_brute_force_and_keep_their_bounds(seed):
    random = np.random.default_rng(seed)
    table = random.lognormal(size=random.integers(1, 5, size=4))
    alone, together = sobol_indices(table)
    for found, expected in zip((alone, together), by_brute_force(table), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)
    assert (alone >= 0).all()
    assert alone.sum() <= 1 + 1e-12
    assert together.sum() >= 1 - 1e-12
    assert (together >= alone - 1e-12).all()
    # No share depends on the function's offset and scale, or on the order of the values.
    order = random.permutation(table.shape[1])
    np.testing.assert_allclose(sobol_indices(3 - 7 * table[:, order]), (alone, together))


def test_the_most_important_field_is_first_and_has_its_best_value():
    table = networks(lambda layers, spread, act, seed: 0.1 * layers + 0.2 * spread + 0.001 * seed)
    ranking = rank(table, AXES)
    assert [share.field for share in ranking.shares] == [
        "kernel_initializer",
        "num_layers",
        "seed",
        "activation",
    ]
    spread, layers, seed, activation = ranking.shares
    # Indices follow the given order: 4 is the last number of layers, and 0.1 the second spread.
    assert (layers.best, spread.best) == (4, "random_normal(stddev=0.1)")
    assert layers.median == pytest.approx(0.1 * 2 + 0.1 + 0.001)
    assert activation.alone == activation.together == pytest.approx(0)
    assert seed.median is None
    assert (ranking.networks, ranking.left_out) == (72, {})
    total = 0.01 * np.var([0, 1, 2]) + 0.04 * 0.25 + 1e-6 * np.var([0, 1, 2])
    assert spread.alone == pytest.approx(0.01 / total)


def test_fields_that_matter_only_by_interaction_rank_before_a_weak_field():
    ranking = rank(networks(lambda a, b, c, seed: (a + b) % 2 * (a < 2) + 0.1 * c), AXES)
    assert ranking.shares[2].field == "activation"
    assert ranking.shares[2].alone > ranking.shares[1].alone


def test_rows_in_any_order_give_the_same_ranking():
    random = np.random.default_rng(0)
    table = networks(lambda *_: random.random())
    assert rank(table.sample(frac=1, random_state=1), AXES) == rank(table, AXES)


def test_an_accuracy_that_is_nan_counts_as_chance():
    table = networks(lambda layers, *_: np.nan if layers == 1 else 0.5)
    filled = table.fillna({"test_accuracy": 0.25})
    assert rank(table, AXES) == rank(filled, AXES)


def test_ratios_are_clipped_and_best_near_zero():
    def ranked(ratios):
        table = networks(lambda *_: 0.5)
        return rank(
            table.assign(**{GRADIENT_RATIO: table.num_layers.map(ratios)}), AXES, GRADIENT_RATIO
        )

    ranking = ranked({2: -np.inf, 6: 1.0, 4: 30.0})
    first = ranking.shares[0]
    assert (first.field, first.best, first.median) == ("num_layers", 6, 1)
    assert first.alone == pytest.approx(1)
    assert ranking == ranked({2: -RATIO_LIMIT, 6: 1.0, 4: RATIO_LIMIT})
    # A ratio of NaN counts as a missing network.
    assert ranked({2: np.nan, 6: 1.0, 4: 2.0}).left_out == {"num_layers": [2]}


def test_values_with_missing_networks_are_left_out():
    random = np.random.default_rng(0)
    whole = networks(lambda *_: random.random())
    begun = (whole.num_layers == 6) & (whole.activation != "relu")
    one = (whole.activation == "elu") & (whole.seed == 1) & (whole.num_layers == 2)
    ranking = rank(whole[~begun & ~one], AXES)
    assert ranking.left_out == {"num_layers": [6], "activation": ["elu"]}
    assert ranking.networks == 2 * 2 * 3 * SEEDS
    kept = AXES | {"num_layers": [2, 4], "activation": ["relu", "tanh", "selu"]}
    assert ranking.shares == rank(whole, kept).shares


def test_a_field_with_one_value_left_has_no_share():
    random = np.random.default_rng(0)
    table = networks(lambda *_: random.random())
    table = table[table.kernel_initializer == AXES["kernel_initializer"][0]]
    ranking = rank(table, AXES)
    assert {share.field for share in ranking.shares} == {"num_layers", "activation", "seed"}
    assert ranking.left_out == {"kernel_initializer": [AXES["kernel_initializer"][1]]}


@pytest.mark.parametrize("rows", [2, None])
def test_too_few_or_equal_networks_are_refused_in_one_line(rows):
    table = networks(lambda *place: sum(place) if rows else 0.5)[:rows]
    with pytest.raises(UsageError, match="test_accuracy cannot be ranked") as caught:
        rank(table, AXES)
    assert "\n" not in str(caught.value)


def test_the_printed_ranking_has_a_row_per_field_and_names_what_is_left_out():
    table = networks(lambda layers, spread, act, seed: 0.1 * layers + 0.2 * spread)
    ranking = rank(table[table.num_layers != 6], AXES)
    drawn = ranking_table(ranking)
    cells = zip(*(row.cells for row in drawn.rows), strict=True)
    columns = {c.header: list(of) for c, of in zip(drawn.columns, cells, strict=True)}
    assert columns["Field"] == [share.field for share in ranking.shares]
    assert columns["Share alone"][0] == "50.0%"
    best = dict(zip(columns["Field"], columns["Best value"], strict=True))
    assert best["kernel_initializer"] == "random_normal(stddev=0.1)"
    assert (best["num_layers"], best["seed"]) == ("4", "")
    assert "num_layers 6" in drawn.caption
    assert "48 networks" in drawn.caption


@pytest.mark.parametrize("missing", [None, np.nan])
def test_none_has_a_position_on_an_axis(missing):
    axis = Axis.of("output_initializer", (None, "he_normal"))
    column = pandas.Series([missing, "he_normal", missing, "zeros"], dtype=object)
    assert axis.positions(column).tolist() == [0, 1, 0, -1]
