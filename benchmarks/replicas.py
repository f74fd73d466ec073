"""Networks trained together: replica-steps a second, over the steps of one alone.

First the tutorial's network, in groups of more and more replicas. Then a deep one, its
layers a loop or written out. Last, as a sweep on one machine does it: a process of one
thread on each of two cores, over one process of two threads.
"""

import functools
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from typing import NamedTuple
from unittest import mock

import _common_tf  # noqa: F401 - imports TensorFlow quietly
import tensorflow as tf
from _common import in_turn, ratios, run, spread

from mnist_vg import datasets
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.training import stacked_model
from mnist_vg.training.blocks import run_blocks
from mnist_vg.training.build import make_trainer
from mnist_vg.training.group_trainer import GroupTrainer
from mnist_vg.training.trainer import Trainer

TARGET = 4
"""How many times the steps of one alone a group of many should do."""


class Sizes(NamedTuple):
    """What is compared.

    Attributes:
        network: the tutorial's.
        groups: replicas of each group of it; 1 and `many` are among them.
        many: replicas of each process of a sweep, and from which on the target holds.
        deep: the deep network.
        deep_replicas: how many of it train together.
        seconds: how long blocks are run for one figure, at least.
        cores: processes of one thread, beside one process of so many threads.
    """

    network: Scenario = Scenario()
    groups: tuple[int, ...] = (1, 10, 100, 300, 1000)
    many: int = 100
    deep: Scenario = Scenario(num_layers=100, hidden_size=50, optimizer="sgd", activation="tanh")
    deep_replicas: int = 20
    seconds: float = 0.5
    cores: int = 2


FULL = Sizes()


def group_trainer(scenario: Scenario, count: int) -> GroupTrainer:
    """A trainer, not compiled yet, of a scenario under so many seeds."""
    scenarios = [scenario.with_seed(seed) for seed in range(count)]
    return GroupTrainer(scenarios, datasets.load())


def steps_per_second(trainer: Trainer, count: int, at_least: float) -> float:
    """Steps of all replicas, in so many seconds, in blocks of the length that a run comes to."""
    first, start = trainer.steps_done, time.perf_counter()
    for block in run_blocks(trainer, sys.maxsize, log_every=sys.maxsize):
        seconds = time.perf_counter() - start
        if seconds > at_least:
            return count * (block.step + 1 - first) / seconds
    raise AssertionError


def compiled(trainer: Trainer) -> Trainer:
    """The trainer, one step on: the one that would be recorded."""
    trainer.compile()
    trainer.advance(1, record=False)
    return trainer


def evaluation_seconds(trainer: Trainer) -> float:
    """How long the whole test split takes."""
    start = time.perf_counter()
    trainer.evaluate(datasets.load().test)
    return time.perf_counter() - start


def compare_groups(rounds: int, sizes: Sizes) -> None:
    """Print the figures of groups of the tutorial's network, and of one alone."""
    alone = compiled(make_trainer(sizes.network, datasets.load()))
    groups = {count: compiled(group_trainer(sizes.network, count)) for count in sizes.groups}
    ways = {0: lambda: steps_per_second(alone, 1, sizes.seconds)}
    ways |= {c: lambda c=c: steps_per_second(groups[c], c, sizes.seconds) for c in groups}
    speeds = in_turn(ways, rounds)
    print(f"{'tutorial':20}{'replica-steps/s':>28}{'/ alone':>22}{'/ its best':>12}")
    print(f"{'alone':20}{spread(speeds[0]):>28}")
    for count in groups:
        faster = ratios(speeds[count], speeds[0])
        over_best = median(speeds[count]) / max(speeds[0])
        words = ""
        if count >= sizes.many:
            met = "met" if median(faster) >= TARGET else "missed"
            words = f"  target at least {TARGET}: {met}"
        name = f"group of {count:,}"
        figures = f"{spread(speeds[count]):>28}{spread(faster, '.2f'):>22}{over_best:12.2f}"
        print(f"{name:20}{figures}{words}")
    ways = {c: lambda c=c: evaluation_seconds(groups[c]) for c in (1, sizes.many)}
    test = in_turn(ways, rounds)
    for count, seconds in test.items():
        print(f"evaluation of 10,000 examples, {count} replicas: {spread(seconds, '.2f')} s")


def made(sizes: Sizes, deep_from: int) -> tuple[GroupTrainer, float]:
    """A deep group, and the seconds until both its programs were traced and compiled.

    From `deep_from` layers on they are a loop.
    """
    with mock.patch.object(stacked_model, "DEEP", deep_from):
        start = time.perf_counter()
        trainer = group_trainer(sizes.deep, sizes.deep_replicas)
        trainer.compile()
        seconds = time.perf_counter() - start
    trainer.advance(1, record=False)
    return trainer, seconds


def compare_depths(rounds: int, sizes: Sizes) -> None:
    """Print the figures of a deep network, its layers a loop and written out."""
    deep, replicas = sizes.deep, sizes.deep_replicas
    deep_from = {"a loop": deep.num_layers, "written out": deep.num_layers + 1}
    # Once each: compiling takes a minute.
    made_once = {way: made(sizes, layers) for way, layers in deep_from.items()}
    ways = {
        way: functools.partial(steps_per_second, trainer, replicas, sizes.seconds)
        for way, (trainer, _) in made_once.items()
    }
    speeds = in_turn(ways, rounds)
    layers = f"{deep.num_layers} layers of {deep.hidden_size}, {replicas} replicas"
    print(f"\n{layers:32}{'replica-steps/s':>24}{'trace and compile s, once':>28}")
    for way, (_, seconds) in made_once.items():
        print(f"{way:32}{spread(speeds[way]):>24}{seconds:28.1f}")
    print(f"{' / '.join(ways):32}{spread(ratios(*speeds.values()), '.2f'):>24}")


_in_process: list[GroupTrainer] = []


def prepare(threads: int, sizes: Sizes) -> None:
    """In a process of its own: a group on so many threads."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    _in_process.append(compiled(group_trainer(sizes.network, sizes.many)))


def speed_in_process(sizes: Sizes) -> float:
    """The speed of this process' group."""
    return steps_per_second(*_in_process, sizes.many, sizes.seconds)


def compare_processes(rounds: int, sizes: Sizes) -> None:
    """Print the figures of a process of one thread for each core, and of one of all threads."""
    context = multiprocessing.get_context("spawn")
    one, *many = [
        ProcessPoolExecutor(1, context, prepare, (threads, sizes))
        for threads in (sizes.cores, *[1] * sizes.cores)
    ]

    def speed_of_all(processes):
        started = [process.submit(speed_in_process, sizes) for process in processes]
        return sum([each.result() for each in started])

    ways = {
        f"{sizes.cores} processes, one thread each": lambda: speed_of_all(many),
        f"one process, {sizes.cores} threads": lambda: speed_of_all([one]),
    }
    for way in ways.values():
        way()  # Compiled now.
    speeds = in_turn(ways, rounds)
    print(f"\n{f'{sizes.many} replicas a process':32}{'replica-steps/s':>24}")
    for way, figures in speeds.items():
        print(f"{way:32}{spread(figures):>24}")
    print(f"{'ratio':32}{spread(ratios(*speeds.values()), '.2f'):>24}")
    for process in (one, *many):
        process.shutdown()


def main(rounds: int = 5, sizes: Sizes = FULL) -> None:
    """Measure and print."""
    print(f"{rounds} rounds in turn: median (min–max)\n")
    compare_groups(rounds, sizes)
    compare_depths(rounds, sizes)
    compare_processes(rounds, sizes)


if __name__ == "__main__":
    small = Sizes(
        network=Scenario(num_layers=1),
        groups=(1,),
        many=1,
        deep=Scenario(num_layers=3),
        deep_replicas=1,
        seconds=0.0,
        cores=1,
    )
    run(main, __doc__, takes="3 minutes", smoke={"rounds": 1, "sizes": small})
