"""Trains a sweep's groups in processes on this machine."""

import functools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, NamedTuple

from mnist_vg.datasets import Dataset
from mnist_vg.errors import RunFailed
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.tensorflow_import import import_tensorflow
from mnist_vg.training.interrupts import interrupts_blocked

if TYPE_CHECKING:
    from mnist_vg.sweeps.group import Outcome

GROUPS_PER_PROCESS = 100
"""Groups that a process trains before a new one replaces it. Compiled programs stay in memory, and
a process has room for a few hundred."""

LOOK_SECONDS = 0.25
"""Time between two looks at how far the processes are."""


class Job(NamedTuple):
    """A group to train: the arguments of `train_group`, except for the data set.

    Attributes:
        scenarios: the group's scenarios.
        varied: the varied settings, for the HParams tab.
        record: which networks get a run folder: "none", "sick" or "all".
    """

    scenarios: Sequence[Scenario]
    varied: tuple[str, ...]
    record: str

    @property
    def dataset(self) -> str:
        """The name of the group's data set."""
        return self.scenarios[0].dataset

    def train(
        self, dataset: Dataset, advanced: Callable[[float], None] = lambda share: None
    ) -> "Outcome":
        """Train the group; `advanced` is called as `train_group` does."""
        from mnist_vg.sweeps.group import train_group

        return train_group(self.scenarios, dataset, self.varied, self.record, advanced)


Jobs = Mapping[int, Job]
Datasets = Mapping[str, Dataset]
Outcomes = Iterator[tuple[int, "Outcome"]]

Advanced = Callable[[int, float], None]
"""Called while a group trains, with its number and the share of its steps that is done."""


def in_this_process(jobs: Jobs, datasets: Datasets, advanced: Advanced) -> Outcomes:
    """Train groups in this process, one after the other; yield each number and its outcome."""
    for number, job in jobs.items():
        yield number, job.train(datasets[job.dataset], functools.partial(advanced, number))


def in_processes(jobs: Jobs, datasets: Datasets, advanced: Advanced, workers: int) -> Outcomes:
    """Train groups in processes with one thread each; yield each number and outcome when done.

    Raises:
        UsageError: as `train_group`.
        RunFailed: as `train_group`, or a process was killed.
    """
    start_resource_tracker()
    spawn = multiprocessing.get_context("spawn")
    numbers = list(jobs)
    for start in range(0, len(numbers), workers * GROUPS_PER_PROCESS):
        batch = numbers[start : start + workers * GROUPS_PER_PROCESS]
        shares = spawn.RawArray("d", len(batch))
        executor = ProcessPoolExecutor(
            min(workers, len(batch)), spawn, initializer=_begin_worker, initargs=(datasets, shares)
        )
        try:
            with interrupts_blocked():
                places = range(len(batch))
                pending = {executor.submit(_work, jobs[batch[n]], n): n for n in places}
            while pending:
                done, _ = wait(pending, LOOK_SECONDS, FIRST_COMPLETED)
                for n in pending.values():
                    advanced(batch[n], shares[n])
                for future in done:
                    # Removed as well, because an outcome with run folders may be large.
                    yield batch[pending.pop(future)], future.result()
            executor.shutdown()
        except BrokenProcessPool:
            raise RunFailed(
                "a worker of the sweep was killed (out of memory? try fewer --workers); run the "
                "same command to train the groups that are left"
            ) from None
        finally:
            # After Ctrl-C, do not wait for the groups in training.
            executor.shutdown(wait=False, cancel_futures=True)


def start_resource_tracker() -> None:
    """Start Python's process that removes the semaphores of killed processes, without its warning.

    It would be the last line on the screen after Ctrl-C, or after a worker was killed.
    """
    before = os.environ.get("PYTHONWARNINGS")
    quiet = "ignore:resource_tracker:UserWarning"
    os.environ["PYTHONWARNINGS"] = f"{before},{quiet}" if before else quiet
    try:
        resource_tracker.ensure_running()
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


_datasets: dict[str, Dataset] = {}
"""In a worker, the data sets that it was started with."""
_shares = None
"""In a worker, the share of each group's steps that is done, in memory that the parent reads."""


def _begin_worker(datasets, shares):
    global _shares
    _shares = shares
    parent = multiprocessing.parent_process()

    def end_with_parent():
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    _datasets.update(datasets)
    single_threaded()


def _work(job, place):
    return job.train(_datasets[job.dataset], functools.partial(_shares.__setitem__, place))


def single_threaded() -> None:
    """Import TensorFlow with one thread, so that workers, one per core, do not compete."""
    import_tensorflow()

    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
