"""Compiled programs: made ahead of their use, and used again by what has the same structure."""

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from mnist_vg import datasets
from mnist_vg.datasets import Dataset
from mnist_vg.scenarios.scenario import Scenario, group_key, stackable
from mnist_vg.training.build import make_model, make_optimizer, make_trainer
from mnist_vg.training.distributed_trainer import DistributedTrainer, make_strategy
from mnist_vg.training.failures import makes_a_network
from mnist_vg.training.group_trainer import GroupTrainer
from mnist_vg.training.trainer import Trainer


def trainers(
    scenarios: Sequence[Scenario],
    data_dir: str | os.PathLike | None = None,
    strategy: str | None = None,
) -> Iterator[tuple[Dataset, Trainer]]:
    """Yield each scenario's data set and trainer, at its beginning, good until the next.

    Neighbours of one structure share a compiled program. While the trainer of one is in
    use, the next program is compiled.

    Args:
        scenarios: in the order of training.
        data_dir: where TFDS keeps prepared data sets; its own default with None.
        strategy: as `driver.train` takes it.

    Raises:
        UsageError: a data set cannot be had, or a scenario makes no network for it.
    """
    alike = [list(group) for _, group in itertools.groupby(scenarios, key=Scenario.structure)]
    firsts = [first for first, *_ in alike]
    with closing(_compiled(firsts, data_dir, strategy)) as compiled:
        for (_, *others), (dataset, trainer) in zip(alike, compiled, strict=True):
            yield dataset, trainer
            for scenario in others:
                _, scope = _placed(strategy)
                with makes_a_network(scenario), scope:
                    restart(trainer, scenario, dataset)
                yield dataset, trainer


def _compiled(scenarios, data_dir, strategy):
    """Yield data set and compiled trainer of each; on one device, the next while one trains."""
    if strategy:
        # Workers agree on variables as they make them, and cannot while they train.
        yield from (_compile(scenario, data_dir, strategy) for scenario in scenarios)
        return
    ahead = ThreadPoolExecutor(1)
    submitted = (ahead.submit(_compile, scenario, data_dir) for scenario in scenarios)
    try:
        upcoming = next(submitted, None)
        while upcoming:
            made = upcoming.result()
            # One ahead and no more: each holds its data set on the device.
            upcoming = next(submitted, None)
            yield made
    finally:
        # After Ctrl-C nobody waits for the compiler.
        ahead.shutdown(wait=False, cancel_futures=True)


def _compile(scenario, data_dir, strategy=None):
    kind, scope = _placed(strategy)
    dataset = datasets.load(scenario.dataset, data_dir)
    with makes_a_network(scenario):
        with scope:
            trainer = make_trainer(scenario, dataset, kind)
        trainer.compile()
    return dataset, trainer


def _placed(strategy):
    """The class of a strategy's trainers, and the scope in which their variables are made."""
    if strategy is None:
        return Trainer, contextlib.nullcontext()
    return DistributedTrainer, make_strategy(strategy).scope()


def restart(trainer: Trainer, scenario: Scenario, dataset: Dataset) -> None:
    """Put a trainer to the beginning of another scenario of its structure."""
    model = make_model(scenario, dataset)
    trainer.restart(model, make_optimizer(scenario), scenario.batch_seed)


_newest: dict[tuple, Trainer] = {}
"""The group's trainer that was compiled last, by its kind: a sweep's next group may be of it."""


def group_trainer(
    scenarios: Sequence[Scenario], dataset: Dataset, histograms: bool = False
) -> Trainer:
    """The trainer of a sweep's group at its beginning: the one before, or a new one.

    Args:
        scenarios: of one `group_key`, and more than one only where `stackable`.
        dataset: theirs.
        histograms: whether a record has them.

    Raises:
        UsageError: the scenarios make no network for the data set.
    """
    first = scenarios[0]
    clips = any(scenario.global_clipnorm for scenario in scenarios)
    kind = group_key(first), dataset.name, len(scenarios), histograms, clips
    with makes_a_network(first):
        if kind not in _newest:
            _newest.clear()
            _newest[kind] = (
                GroupTrainer(scenarios, dataset, histograms)
                if stackable(first)
                else make_trainer(first, dataset)
            )
        elif stackable(first):
            _newest[kind].begin(scenarios)
        else:
            restart(_newest[kind], first, dataset)
    return _newest[kind]
