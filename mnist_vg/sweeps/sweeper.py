"""Runs a sweep: its groups on this machine's cores or on a cluster, their rows into its table."""

import contextlib
import dataclasses
import functools
import json
import multiprocessing
import os
import signal
import threading
import timeit
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import joblib
import numpy as np
import threadpoolctl

from mnist_vg import datasets
from mnist_vg.datasets import Dataset
from mnist_vg.driver import makes_a_network
from mnist_vg.errors import RunFailed, UsageError
from mnist_vg.runs import run as runs
from mnist_vg.runs.paths import as_path
from mnist_vg.runs.run import Run
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.sweeps import table
from mnist_vg.sweeps.sweep import Sweep, count_weights, recorded, work
from mnist_vg.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from pathlib import Path

    from mnist_vg.runs.paths import RemotePath
    from mnist_vg.sweeps.group import Outcome

RUNS_FOLDER = "runs"
"""Where a sweep's folder has those of its networks, for TensorBoard."""

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
        record: which networks get a run folder for TensorBoard: "all", "none", "sick" or so
            many, evenly spread.

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
        record: str | int = "none",
    ):
        self.sweep = sweep
        self.folder = as_path(logdir) / sweep.name
        self.workers = joblib.cpu_count() if workers is None else workers
        self._sick = record == "sick"
        self._recorded = recorded(sweep.scenarios, record)
        names = {scenario.dataset for scenario in sweep.scenarios}
        self._datasets = {name: datasets.load(name, data_dir) for name in sorted(names)}
        sizes = {name: (d.input_size, d.label_size) for name, d in self._datasets.items()}
        groups = sweep.groups(sizes)
        # The table has parts by number, so all that numbers depend on has to be the same.
        self._facts = sweep.facts() | {
            "record": record,
            "datasets": {name: dataset.name for name, dataset in self._datasets.items()},
            "groups": [len(group) for group in groups],
        }
        self._check_folder()
        self.plan = self._make_plan(groups, sizes)
        self._check_networks()

    def _check_folder(self):
        if Run.load(self.folder) is not None:
            raise UsageError(f"sweep: {self.folder} holds a run; give another name, or --logdir")
        runs.check_writable(self.folder)
        if (self.folder / runs.SWEEP_FILE).exists():
            there = table.load_sweep(self.folder)
            # As text, since the order of the axes tells, too.
            differing = [
                key
                for key, fact in self._facts.items()
                if json.dumps(there.get(key)) != json.dumps(fact)
            ]
            if differing:
                raise UsageError(
                    f"sweep: {self.folder} holds one of other {' and '.join(differing)}; give the "
                    "same command, or another name"
                )

    def _make_plan(self, groups, sizes):
        def of_group(group):
            first = group[0]
            weights = count_weights(first, *sizes[first.dataset])
            examples = len(self._datasets[first.dataset].test.labels)
            return len(group) * work(first, weights, examples)

        of_groups = [of_group(group) for group in groups]
        done = table.parts_of(self.folder)
        left = [of_groups[n] for n in range(len(groups)) if n not in done]
        seconds = sum(left) / (EFFICIENCY * _products_a_second()) + COMPILE_SECONDS * len(left)
        # No more workers at a time than groups.
        return Plan(groups, of_groups, done, seconds / max(1, min(self.workers, len(left))))

    def _check_networks(self):
        """Make a small network of each kind, so that what cannot be is refused now."""
        import_tensorflow()

        from mnist_vg.training.build import make_model, make_optimizer
        from mnist_vg.training.group_trainer import draws

        kinds = {scenario.structure(): scenario for scenario in map(_small, self.sweep.scenarios)}
        for scenario in kinds.values():
            with makes_a_network(scenario):
                make_model(scenario, self._datasets[scenario.dataset])
                make_optimizer(scenario)
        drawn = {_initializers(scenario): _small(scenario) for scenario in self.sweep.scenarios}
        for scenario in drawn.values():
            with makes_a_network(scenario):
                for of_kernel, of_bias in draws(scenario):
                    of_kernel((2, 2)), of_bias((2,))

    def run(
        self,
        cluster: str | None = None,
        watch: Watcher = lambda number, outcome: None,
    ) -> "Path | RemotePath":
        """Train what is left, group by group, and return the folder.

        Args:
            cluster: a Ray cluster to train on: "local" starts one of `workers` processes,
                "auto" or "ray://HOST:PORT" joins one. None is this machine alone.
            watch: called after each group, with its number in the plan.

        Raises:
            UsageError: as the class.
            RunFailed: a worker died; the same call goes on with the groups that are left.
            KeyboardInterrupt: groups that are done are kept, and the same call goes on.
        """
        # A cluster that is not there is refused before anything is written.
        with self._trainers(cluster) as train, runs.claim(self.folder):
            # Another process may have written here since the first look.
            self._check_folder()
            with self._written():
                self._write_facts()
            done = table.parts_of(self.folder)
            left = {n: self._job(g) for n, g in enumerate(self.plan.groups) if n not in done}
            with closing(train(left, self._datasets)) as outcomes:
                for number, outcome in outcomes:
                    with self._written():
                        self._keep(number, outcome)
                    watch(number, outcome)
        return self.folder

    def _trainers(self, cluster):
        """A context of what turns jobs and data sets into outcomes."""
        if cluster is not None:
            from mnist_vg.sweeps.cluster import on_ray

            return on_ray(cluster, self.workers)
        if self.workers == 0:
            return contextlib.nullcontext(_here)
        return contextlib.nullcontext(functools.partial(_in_processes, workers=self.workers))

    def _job(self, group):
        names = self._recorded.intersection(scenario.name for scenario in group)
        return Job(group, tuple(self.sweep.axes), names, self._sick)

    def _write_facts(self):
        path = self.folder / runs.SWEEP_FILE
        if not path.exists():
            facts = self._facts | {"versions": runs.versions()}
            new = path.with_suffix(".new")
            new.write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n")
            new.replace(path)

    def _keep(self, number, outcome):
        """Write what came of a group: its rows last, as they tell that it is done."""
        # Of a group that was being kept when its sweep was killed.
        for scenario in self.plan.groups[number]:
            folder = self.folder / RUNS_FOLDER / scenario.name
            if folder.exists():
                runs.remove_run(folder, trained=False)
        for name, content in outcome.files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        table.write_part(self.folder, number, outcome.rows)

    @contextlib.contextmanager
    def _written(self):
        try:
            yield
        except OSError as error:
            raise RunFailed(
                f"sweep {self.sweep.name!r} could not be written: {error}; what is there is kept, "
                "and the same command goes on"
            ) from error


def _small(scenario):
    sizes = {"num_layers": min(scenario.num_layers, 3), "hidden_size": 2}
    return dataclasses.replace(scenario, name="network", seed=0, **sizes)


def _initializers(scenario):
    return scenario.kernel_initializer, scenario.output_initializer, scenario.bias_initializer


def _products_a_second():
    """Multiplications and additions a second of a plain product on one core, as of now."""
    size = 512
    matrix = np.ones((size, size), np.float32)
    with threadpoolctl.threadpool_limits(1):
        seconds = min(timeit.repeat(lambda: matrix @ matrix, number=1, repeat=20))
    return 2 * size**3 / seconds


class Job(NamedTuple):
    """What `train_group` is to do, but for the data set."""

    scenarios: Sequence[Scenario]
    varied: tuple[str, ...]
    recorded: frozenset[str]
    sick: bool

    @property
    def dataset(self) -> str:
        """The name of the data set."""
        return self.scenarios[0].dataset

    def train(self, dataset: Dataset) -> "Outcome":
        """Do it."""
        from mnist_vg.sweeps.group import train_group

        scenarios, *options = self
        return train_group(scenarios, dataset, *options)


Jobs = Mapping[int, Job]
Datasets = Mapping[str, Dataset]
Outcomes = Iterator[tuple[int, "Outcome"]]


def _here(jobs: Jobs, datasets: Datasets) -> Outcomes:
    """Train the groups in this process, one after the other."""
    for number, job in jobs.items():
        yield number, job.train(datasets[job.dataset])


def _in_processes(jobs: Jobs, datasets: Datasets, workers: int) -> Outcomes:
    """Train the groups in processes of one thread each, and yield them as they are done."""
    spawning = multiprocessing.get_context("spawn")
    numbers = list(jobs)
    for start in range(0, len(numbers), workers * PROGRAMS):
        some = numbers[start : start + workers * PROGRAMS]
        executor = ProcessPoolExecutor(
            min(workers, len(some)), spawning, initializer=_begin_worker, initargs=(datasets,)
        )
        try:
            with _interrupts_put_off():
                waiting = {executor.submit(_work, jobs[number]): number for number in some}
            for future in as_completed(waiting):
                # And forgotten: with run folders an outcome may be large.
                yield waiting.pop(future), future.result()
            executor.shutdown()
        except BrokenProcessPool:
            raise RunFailed(
                "a worker of the sweep was killed (out of memory? try fewer --workers); groups "
                "that are done are kept, and the same command goes on"
            ) from None
        finally:
            # After Ctrl-C nobody waits for what is in flight.
            executor.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _interrupts_put_off():
    """Start processes that never see Ctrl-C, which reaches all of a terminal's.

    It is the parent's to handle, and workers end with that.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


_datasets: dict[str, Dataset] = {}
"""Of a worker, the data sets that it was given when it began."""


def _begin_worker(datasets):
    parent = multiprocessing.parent_process()

    def end_with_parent():
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    _datasets.update(datasets)
    single_threaded()


def _work(job):
    return job.train(_datasets[job.dataset])


def single_threaded() -> None:
    """Import TensorFlow to use one core: as many workers as cores then share a machine."""
    import_tensorflow()

    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
