"""The processes of this machine that train a sweep's groups."""

import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, NamedTuple

from mnist_vg.datasets import Dataset
from mnist_vg.errors import RunFailed
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.tensorflow_import import import_tensorflow
from mnist_vg.training.interrupts import interrupts_blocked

if TYPE_CHECKING:
    from mnist_vg.sweeps.group import Outcome

PROGRAMS = 100
"""Groups that a process trains before another takes its place: one has room for some
hundreds of compiled programs."""


class Job(NamedTuple):
    """What a worker is asked to train: arguments of `train_group`, without the data set."""

    scenarios: Sequence[Scenario]
    varied: tuple[str, ...]
    record: str

    @property
    def dataset(self) -> str:
        """The name of the data set."""
        return self.scenarios[0].dataset

    def train(self, dataset: Dataset) -> "Outcome":
        """Train the group."""
        from mnist_vg.sweeps.group import train_group

        return train_group(self.scenarios, dataset, self.varied, self.record)


Jobs = Mapping[int, Job]
Datasets = Mapping[str, Dataset]
Outcomes = Iterator[tuple[int, "Outcome"]]


def in_this_process(jobs: Jobs, datasets: Datasets) -> Outcomes:
    """Train the groups in this process, one after the other."""
    for number, job in jobs.items():
        yield number, job.train(datasets[job.dataset])


def in_processes(jobs: Jobs, datasets: Datasets, workers: int) -> Outcomes:
    """Train the groups in processes of one thread each, and yield them as they are done."""
    spawning = multiprocessing.get_context("spawn")
    numbers = list(jobs)
    for start in range(0, len(numbers), workers * PROGRAMS):
        some = numbers[start : start + workers * PROGRAMS]
        executor = ProcessPoolExecutor(
            min(workers, len(some)), spawning, initializer=_begin_worker, initargs=(datasets,)
        )
        try:
            with interrupts_blocked():
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
