"""Two workers of a Ray on this machine over one; beside it, two of a sweep's own processes.

A sweep of some widths of the tutorial's network, with four of its layers, in turn. What is timed
begins when each worker has had a group: so the start of Ray and of TensorFlow is left out, and
the tracing and compilation of each group is in. All tables must be the same, row for row.
"""

import functools
import importlib.util
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import pandas
from _common import in_turn, ratios, run, spread

from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.sweeps import table
from mnist_vg.sweeps.sweep import Sweep
from mnist_vg.sweeps.sweeper import Sweeper
from mnist_vg.tensorflow_import import import_tensorflow

BASE = Scenario(num_layers=4, iterations=500)
SWEEP = Sweep("widths", BASE, {"hidden_size": (9, 10, 11, 12)}, seeds=10)
"""Four groups of the same work, each with a program of its own."""

WAYS = {"Ray": "local", "processes": None}

tables: list[pandas.DataFrame] = []
"""Of every sweep that was trained."""


def groups_a_minute(sweep: Sweep, cluster: str | None, workers: int) -> float:
    """The pace of a sweep in a new folder, once all workers train."""
    done = []
    with tempfile.TemporaryDirectory() as folder:
        sweeper = Sweeper(sweep, Path(folder), workers=workers)
        sweeper.run(cluster=cluster, watch=lambda *_: done.append(time.perf_counter()))
        tables.append(table.read_table(sweeper.folder))
    return 60 * (len(done) - workers) / (done[-1] - done[workers - 1])


def main(rounds: int = 3, sweep: Sweep = SWEEP, clusters: Mapping[str, str | None] = WAYS) -> None:
    """Measure and print."""
    if importlib.util.find_spec("ray") is None:
        print("skipped: Ray is not installed (pip install 'mnist_vg[cluster]')")
        return
    print(f"{rounds} rounds in turn: median (min–max)\n")
    import_tensorflow()
    ways = {
        (way, workers): functools.partial(groups_a_minute, sweep, cluster, workers)
        for way, cluster in clusters.items()
        for workers in (1, 2)
    }
    paces = in_turn(ways, rounds)
    print(f"{'groups a minute':16}{'one worker':>20}{'two workers':>20}{'two over one':>20}")
    for way in clusters:
        one, two = paces[way, 1], paces[way, 2]
        columns = [spread(one, ".1f"), spread(two, ".1f"), spread(ratios(two, one), ".2f")]
        print(f"{way:16}" + "".join(f"{column:>20}" for column in columns))
    for other in tables[1:]:
        pandas.testing.assert_frame_equal(tables[0], other, check_exact=True)
    print("\nAll tables are the same, bit for bit.")


if __name__ == "__main__":
    base = Scenario(num_layers=1, iterations=1)
    small = Sweep("widths", base, {"batch_size": (1, 2, 3)}, seeds=1)
    smoke = {"rounds": 1, "sweep": small, "clusters": {"Ray": "local"}}
    run(main, __doc__, takes="5 minutes", smoke=smoke)
