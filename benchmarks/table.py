"""A sweep's table of a million rows: written, read, drawn and ranked.

The rows are made up, of networks of six layers on a grid of initial spreads, learning rates
and activations under ten seeds; all in a temporary folder.
"""

import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow
from _common import in_turn, run, spread

from mnist_vg import figures
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.sweeps import heatmaps
from mnist_vg.sweeps.ranking import rank
from mnist_vg.sweeps.table import (
    RECORDS_FOLDER,
    SCALARS,
    SWEEP_FILE,
    TABLE_MEASURES,
    read_sweep,
    read_table,
    schema,
    write_part,
)

TARGET = 10
"""Seconds in which a table of a million rows is to be read, drawn and saved."""

DEPTH = 6
STEPS = np.append(np.arange(0, 2500, 200), 2499)
"""Steps of a default run's records."""
NETWORKS = 150
"""Networks in a part file."""


def grid(rows: int) -> dict[str, list]:
    """Axes of about so many rows under ten seeds: spreads, learning rates and activations."""
    side = max(2, round((rows / len(STEPS) / 30) ** 0.5))
    spreads, rates = np.geomspace(0.01, 1, side), np.geomspace(1e-5, 1, side)
    return {
        "kernel_initializer": [f"random_normal(stddev={float(f'{s:.4g}')})" for s in spreads],
        "learning_rate": [float(f"{rate:.4g}") for rate in rates],
        "activation": ["sigmoid", "tanh", "relu"],
    }


def parts(axes: dict[str, list]) -> Iterator[pyarrow.Table]:
    """The table in parts."""
    random = np.random.default_rng(0)
    networks = list(itertools.product(*axes.values(), range(10)))
    for start in range(0, len(networks), NETWORKS):
        yield part(start, axes, networks[start : start + NETWORKS], random)


def part(start: int, axes: dict[str, list], networks: list[tuple], random) -> pyarrow.Table:
    """The rows of some networks, as their settings have them, with numbers at random."""
    rows = len(networks) * len(STEPS)

    def column(field):
        if field.name in TABLE_MEASURES:
            offsets = np.arange(0, rows * DEPTH + 1, DEPTH, dtype=np.int32)
            values = random.random(rows * DEPTH, dtype=np.float32)
            return pyarrow.ListArray.from_arrays(offsets, values)
        if field.name in SCALARS:
            return random.random(rows)
        if field.name == "step":
            return np.tile(STEPS, len(networks))
        if field.name == "verdict":
            words = ["healthy", "vanishing gradients, stuck at chance"]
            return np.repeat(random.choice(words, len(networks)), len(STEPS)).tolist()
        if field.name == "name":
            names = [f"network-{start + network}" for network in range(len(networks))]
            return np.repeat(names, len(STEPS)).tolist()
        if field.name in (*axes, "seed"):
            place = [*axes, "seed"].index(field.name)
            return np.repeat([network[place] for network in networks], len(STEPS)).tolist()
        return [getattr(Scenario(), field.name)] * rows

    arrays = [pyarrow.array(column(field), field.type) for field in schema()]
    return pyarrow.table(arrays, schema())


def write(folder: Path, axes: dict[str, list], tables: list[pyarrow.Table]) -> None:
    """A finished sweep's folder."""
    folder.mkdir(exist_ok=True)
    (folder / SWEEP_FILE).write_text(json.dumps({"base": {}, "axes": axes, "seeds": 10}))
    for number, table in enumerate(tables):
        write_part(folder, number, table)


def seconds(call) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main(rounds: int = 3, rows: int = 1_000_000) -> None:
    """Measure and print, of about so many rows."""
    axes = grid(rows)
    tables = list(parts(axes))
    rows = sum(map(len, tables))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write(folder, axes, tables)
        size = sum(path.stat().st_size for path in (folder / RECORDS_FOLDER).iterdir())
        calls = {
            "written": lambda: write(folder, axes, tables),
            "read, all columns": lambda: read_table(folder),
            "read, three columns": lambda: read_table(folder, ["name", "step", "test_accuracy"]),
            "first and last records": lambda: read_sweep(folder),
            "ranked": lambda: rank(*read_sweep(folder)),
            "plotted": lambda: figures.save(heatmaps.draw(*read_sweep(folder)), folder / "figures"),
        }
        timed = {name: lambda call=call: seconds(call) for name, call in calls.items()}
        times = in_turn(timed, rounds)
    print(
        f"{rows:,} rows in {len(tables):,} files, {size / 1e6:,.0f} MB, {rounds} rounds "
        "in turn: median (min–max)\n"
    )
    for name, of_name in times.items():
        speed = spread([rows / taken for taken in of_name])
        print(f"{name:24}{spread(of_name, '.2f'):>20} s{speed:>40} rows/s")
    verdict = "met" if median(times["plotted"]) <= TARGET else "missed"
    print(f"\nplotted, reading and saving included: target {TARGET} s at most: {verdict}")


if __name__ == "__main__":
    run(main, __doc__, takes="a minute", smoke={"rounds": 1, "rows": 1})
