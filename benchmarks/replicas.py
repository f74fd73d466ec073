"""Networks trained together: replica-steps a second, over the steps of one alone.

First the tutorial's network, in groups of more and more replicas. Then a deep one, its
layers a loop or written out. Last, as a sweep on one machine does it: a process of one
thread on each of two cores, over one process of two threads.
"""

import argparse
import functools
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from unittest import mock

import _common_tf
import tensorflow as tf
from _common import in_turn, ratios, spread

from mnist_vg import datasets
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.training import stacked_model as stacked
from mnist_vg.training.group_trainer import GroupTrainer
from mnist_vg.training.trainer import Trainer, run_blocks

GROUPS = (1, 10, 100, 300, 1000)

SWEEP = 100
"""Replicas of each process of a sweep, and of the evaluation."""

TARGET = 4
"""How many times the steps of one alone a group of `SWEEP` or more should do."""

DEEP = Scenario(num_layers=100, hidden_size=50, optimizer="sgd", activation="tanh")
DEEP_REPLICAS = 20
DEEP_WAYS = {"a loop": DEEP.num_layers, "written out": DEEP.num_layers + 1}

SECONDS = 0.5
"""How long blocks are run for one figure, at least."""


def group_trainer(scenario: Scenario, count: int) -> GroupTrainer:
    """A trainer, not compiled yet, of a scenario under so many seeds."""
    scenarios = [scenario.with_seed(seed) for seed in range(count)]
    return GroupTrainer(scenarios, datasets.load())


def steps_per_second(trainer: Trainer, count: int = 1) -> float:
    """Steps of all replicas, in blocks of the length that a run comes to."""
    first, start = trainer.steps_done, time.perf_counter()
    for block in run_blocks(trainer, sys.maxsize, log_every=sys.maxsize):
        seconds = time.perf_counter() - start
        if seconds > SECONDS:
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


def compare_groups(rounds: int) -> None:
    """Print the figures of groups of the tutorial's network, and of one alone."""
    alone = compiled(_common_tf.make_trainer(Scenario(), datasets.load().train))
    groups = {count: compiled(group_trainer(Scenario(), count)) for count in GROUPS}
    ways = {0: lambda: steps_per_second(alone)}
    ways |= {c: lambda c=c: steps_per_second(groups[c], c) for c in groups}
    speeds = in_turn(ways, rounds)
    print(f"{'tutorial':20}{'replica-steps/s':>28}{'/ alone':>22}{'/ its best':>12}")
    print(f"{'alone':20}{spread(speeds[0]):>28}")
    for count in groups:
        faster = ratios(speeds[count], speeds[0])
        over_best = median(speeds[count]) / max(speeds[0])
        words = ""
        if count >= SWEEP:
            met = "met" if median(faster) >= TARGET else "missed"
            words = f"  target at least {TARGET}: {met}"
        name = f"group of {count:,}"
        figures = f"{spread(speeds[count]):>28}{spread(faster, '.2f'):>22}{over_best:12.2f}"
        print(f"{name:20}{figures}{words}")
    test = in_turn({c: lambda c=c: evaluation_seconds(groups[c]) for c in (1, SWEEP)}, rounds)
    for count, seconds in test.items():
        print(f"evaluation of 10,000 examples, {count} replicas: {spread(seconds, '.2f')} s")


def made(way: str) -> tuple[GroupTrainer, float]:
    """A deep group, and the seconds until both its programs were traced and compiled."""
    with mock.patch.object(stacked, "DEEP", DEEP_WAYS[way]):
        start = time.perf_counter()
        trainer = group_trainer(DEEP, DEEP_REPLICAS)
        trainer.compile()
        seconds = time.perf_counter() - start
    trainer.advance(1, record=False)
    return trainer, seconds


def compare_depths(rounds: int) -> None:
    """Print the figures of a deep network, its layers a loop and written out."""
    made_once = {way: made(way) for way in DEEP_WAYS}  # Compiling takes a minute.
    ways = {
        way: functools.partial(steps_per_second, trainer, DEEP_REPLICAS)
        for way, (trainer, _) in made_once.items()
    }
    speeds = in_turn(ways, rounds)
    layers = f"{DEEP.num_layers} layers of {DEEP.hidden_size}, {DEEP_REPLICAS} replicas"
    print(f"\n{layers:32}{'replica-steps/s':>24}{'trace and compile s':>24}")
    for way, (_, seconds) in made_once.items():
        print(f"{way:32}{spread(speeds[way]):>24}{seconds:24.1f}")
    print(f"{' / '.join(DEEP_WAYS):32}{spread(ratios(*speeds.values()), '.2f'):>24}")


_in_process: list[GroupTrainer] = []


def prepare(threads: int) -> None:
    """In a process of its own: a group on so many threads."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    _in_process.append(compiled(group_trainer(Scenario(), SWEEP)))


def speed_in_process() -> float:
    """The speed of this process' group."""
    return steps_per_second(*_in_process, SWEEP)


def compare_processes(rounds: int) -> None:
    """Print the figures of two processes of one thread, and of one of two."""
    context = multiprocessing.get_context("spawn")
    one, *two = [ProcessPoolExecutor(1, context, prepare, (threads,)) for threads in (2, 1, 1)]

    def speed_of_all(processes):
        return sum([each.result() for each in [p.submit(speed_in_process) for p in processes]])

    ways = {
        "two processes, one thread each": lambda: speed_of_all(two),
        "one process, two threads": lambda: speed_of_all([one]),
    }
    for way in ways.values():
        way()  # Compiled now.
    speeds = in_turn(ways, rounds)
    print(f"\n{f'{SWEEP} replicas a process':32}{'replica-steps/s':>24}")
    for way, figures in speeds.items():
        print(f"{way:32}{spread(figures):>24}")
    print(f"{'ratio':32}{spread(ratios(*speeds.values()), '.2f'):>24}")
    for process in (one, *two):
        process.shutdown()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    loads = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"{rounds} rounds in turn: median (min–max); load before {loads}\n")
    compare_groups(rounds)
    compare_depths(rounds)
    compare_processes(rounds)


if __name__ == "__main__":
    main()
