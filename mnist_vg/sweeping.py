"""Runs a sweep: its groups on this machine's cores or on a cluster, their rows into its table."""

import dataclasses
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mnist_vg import datasets, runs, table
from mnist_vg.datasets import Dataset
from mnist_vg.driver import import_tensorflow, makes_a_network
from mnist_vg.errors import RunFailed, UsageError
from mnist_vg.runs import Run
from mnist_vg.scenarios import Scenario
from mnist_vg.sweeps import Sweep, count_weights, spread_out, work

if TYPE_CHECKING:
    from mnist_vg.group import Outcome

PROGRAMS = 100
"""Groups that a process trains before another takes its place: one has room for some
hundreds of compiled programs."""

COMPILE_SECONDS = 5.0
"""Of a group, to trace and compile its programs, about (`benchmarks/replicas.py`)."""

EFFICIENCY = 0.25
"""A group's training beside a product of matrices on one core, in multiplications a second,
about (the same)."""

Watcher = Callable[[int, "Outcome"], None]


@dataclass(frozen=True)
class Plan:
    """What a sweep will do: its groups, which of them are done, and how long the rest takes.

    `work` is that of a network of each group, in multiplications and additions, times the
    networks; `seconds` are an estimate.
    """

    groups: list[list[Scenario]]
    work: list[float]
    done: frozenset[int]
    seconds: float

    @property
    def left(self) -> list[int]:
        """Numbers of the groups that are to be trained."""
        return [number for number in range(len(self.groups)) if number not in self.done]


class Sweeper:
    """A sweep and its folder, `logdir/<its name>`.

    Args:
        sweep: what to train.
        logdir: the folder that TensorBoard is pointed at.
        data_dir: where TFDS keeps prepared data sets; its own default with None.
        workers: processes on this machine; None for one a core, 0 for none but this one.

    Raises:
        UsageError: the sweep cannot be trained, or the folder holds another; nothing was
            changed.
    """

    def __init__(
        self,
        sweep: Sweep,
        logdir: str | os.PathLike = "logdir",
        *,
        data_dir: str | os.PathLike | None = None,
        workers: int | None = None,
    ):
        self.sweep = sweep
        self.folder = Path(logdir) / sweep.name
        self.workers = len(os.sched_getaffinity(0)) if workers is None else workers
        self._check_folder()
        names = {scenario.dataset for scenario in sweep.scenarios}
        self._datasets = {name: datasets.load(name, data_dir) for name in sorted(names)}
        self.plan = self._make_plan()
        self._check_networks()

    def _check_folder(self):
        if Run.load(self.folder) is not None:
            raise UsageError(f"sweep: {self.folder} holds a run; give another name, or --logdir")
        runs.check(self.folder, self.sweep.base)  # Refused where it cannot be written.
        if (self.folder / table.SWEEP_FILE).exists():
            there, facts = table.load_sweep(self.folder), self.sweep.facts()
            differing = [key for key in facts if there.get(key) != facts[key]]
            if differing:
                raise UsageError(
                    f"sweep: {self.folder} holds one of other {' and '.join(differing)}; give the "
                    "same command, or another name"
                )

    def _make_plan(self):
        sizes = {name: (d.input_size, d.label_size) for name, d in self._datasets.items()}
        groups = self.sweep.groups(sizes)

        def of_group(group):
            first = group[0]
            weights = count_weights(first, *sizes[first.dataset])
            examples = len(self._datasets[first.dataset].test.labels)
            return len(group) * work(first, weights, examples)

        of_groups = [of_group(group) for group in groups]
        done = frozenset(n for n in range(len(groups)) if table.part_path(self.folder, n).exists())
        left = [of_groups[n] for n in range(len(groups)) if n not in done]
        speed = EFFICIENCY * _products_a_second()
        seconds = sum(left) / speed + COMPILE_SECONDS * len(left)
        # No more workers at a time than groups.
        return Plan(groups, of_groups, done, seconds / max(1, min(self.workers, len(left))))

    def _check_networks(self):
        """Make a network of each kind, small, so that what cannot be is refused now."""
        import_tensorflow()

        from mnist_vg.making import make_model

        kinds = {group[0].structure(): group[0] for group in self.plan.groups}
        small = {_small(scenario) for scenario in kinds.values()}
        for scenario in small:
            with makes_a_network(scenario):
                make_model(scenario, self._datasets[scenario.dataset])

    def run(
        self,
        record: str | int = "none",
        cluster: str | None = None,
        watch: Watcher = lambda number, outcome: None,
    ) -> Path:
        """Train what is left, group by group, and return the folder.

        Args:
            record: which networks get a run folder for TensorBoard: "all", "none", "sick" or
                so many, evenly spread.
            cluster: a Ray cluster to train on: "local" starts one of `workers` processes,
                "auto" or "ray://HOST:PORT" joins one. None is this machine alone.
            watch: called after each group, with its number in the plan.

        Raises:
            UsageError: as the class.
            RunFailed: a worker died; the same call goes on with the groups that are left.
            KeyboardInterrupt: groups that are done are kept, and the same call goes on.
        """
        recorded = record
        if record not in ("all", "sick"):
            count = 0 if record == "none" else int(record)
            recorded = spread_out(self.sweep.scenarios, count)
        # A cluster that is not there is refused before anything is written.
        with self._train(recorded, cluster) as outcomes, runs.claim(self.folder):
            self._write_facts()
            for number, outcome in outcomes:
                self._keep(number, outcome)
                watch(number, outcome)
        return self.folder

    def _train(self, recorded, cluster):
        groups = {number: self.plan.groups[number] for number in self.plan.left}
        options = {"varied": tuple(self.sweep.axes), "record": recorded}
        if cluster is not None:
            from mnist_vg.cluster import on_ray

            return on_ray(groups, self._datasets, options, cluster, self.workers)
        if self.workers == 0:
            return closing(_here(groups, self._datasets, options))
        return closing(_in_processes(groups, self._datasets, options, self.workers))

    def _write_facts(self):
        path = self.folder / table.SWEEP_FILE
        if not path.exists():
            facts = self.sweep.facts() | {"versions": runs.versions()}
            new = path.with_suffix(".new")
            new.write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n")
            new.replace(path)

    def _keep(self, number, outcome):
        """Write what came of a group: its rows last, as they tell that it is done."""
        try:
            for name, content in outcome.files.items():
                path = self.folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            table.write_part(self.folder, number, outcome.rows)
        except OSError as error:
            raise RunFailed(
                f"sweep {self.sweep.name!r} could not be written: {error}; what is there is kept, "
                "and the same command goes on"
            ) from error


def _small(scenario):
    sizes = {"num_layers": min(scenario.num_layers, 3), "hidden_size": 2}
    # Of those that differ in nothing else one is enough.
    return dataclasses.replace(scenario, name="network", seed=0, **sizes)


def _products_a_second():
    """Multiplications and additions a second of a plain product on one core, as of now."""
    size, best = 256, np.inf
    matrix = np.ones((size, size), np.float32)
    for _ in range(5):
        start = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / len(os.sched_getaffinity(0))


Groups = Mapping[int, Sequence[Scenario]]
Datasets = Mapping[str, Dataset]
Outcomes = Iterator[tuple[int, "Outcome"]]


def _here(groups: Groups, datasets: Datasets, options: dict) -> Outcomes:
    """Train the groups in this process, one after the other."""
    from mnist_vg.group import train_group

    for number, scenarios in groups.items():
        yield number, train_group(scenarios, datasets[scenarios[0].dataset], **options)


def _in_processes(groups: Groups, datasets: Datasets, options: dict, workers: int) -> Outcomes:
    """Train the groups in processes of one thread each, and yield them as they are done."""
    spawning = multiprocessing.get_context("spawn")
    numbers = list(groups)
    for start in range(0, len(numbers), workers * PROGRAMS):
        some = numbers[start : start + workers * PROGRAMS]
        executor = ProcessPoolExecutor(
            min(workers, len(some)), spawning, initializer=_begin_worker, initargs=(datasets,)
        )
        try:
            waiting = {executor.submit(_work, groups[number], options): number for number in some}
            for future in as_completed(waiting):
                yield waiting[future], future.result()
            executor.shutdown()
        except BrokenProcessPool:
            raise RunFailed(
                "a worker of the sweep was killed (out of memory? try fewer --workers); groups "
                "that are done are kept, and the same command goes on"
            ) from None
        finally:
            # After Ctrl-C nobody waits for what is in flight.
            executor.shutdown(wait=False, cancel_futures=True)


_datasets: dict[str, Dataset] = {}
"""Of a worker, the data sets that it was given when it began."""


def _begin_worker(datasets):
    # Ctrl-C reaches all processes of a terminal, and is the parent's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end_with_parent():
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    _datasets.update(datasets)
    single_threaded()


def _work(scenarios, options):
    from mnist_vg.group import train_group

    return train_group(scenarios, _datasets[scenarios[0].dataset], **options)


def single_threaded() -> None:
    """Import TensorFlow to use one core: as many workers as cores then share a machine."""
    import_tensorflow()

    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
