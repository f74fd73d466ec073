"""Compiled programs: compiled ahead of their use, and shared by scenarios."""

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from mnist_vg import datasets
from mnist_vg.datasets import Dataset
from mnist_vg.runs.marks import listed
from mnist_vg.scenarios.scenario import Scenario, group_key, program_key, stackable
from mnist_vg.training.build import make_model, make_optimizer, make_trainer
from mnist_vg.training.distributed_trainer import DistributedTrainer, make_strategy
from mnist_vg.training.failures import makes_a_network
from mnist_vg.training.group_trainer import GroupTrainer
from mnist_vg.training.trainer import Trainer

_log = logging.getLogger(__name__)


def trainers(
    scenarios: Sequence[Scenario],
    data_dir: str | os.PathLike | None = None,
    strategy: str | None = None,
) -> Iterator[tuple[Dataset, Trainer]]:
    """Yield data set and trainer of each scenario in turn, the trainer compiled and at step 0.

    A trainer may be used until the next one is asked for. Scenarios of one `program_key` share a
    compiled program. While one program is in use, the next one is compiled.

    Args:
        scenarios: in the order of training.
        data_dir: where TFDS keeps prepared data sets; its own default with None.
        strategy: as `driver.train` takes it.

    Raises:
        UsageError: a data set cannot be loaded, or a scenario makes no network for it.
    """
    # Only a program for one device chooses among activations.
    key = Scenario.structure if strategy else program_key
    alike: dict[tuple, list[Scenario]] = {}
    for scenario in scenarios:
        alike.setdefault(key(scenario), []).append(scenario)
    left = {program: len(of_program) for program, of_program in alike.items()}
    programs = {}
    with closing(_compiled(alike.values(), data_dir, strategy)) as compiled:
        for program, scenario in zip(map(key, scenarios), scenarios, strict=True):
            if program in programs:
                _, scope = _placed(strategy)
                with makes_a_network(scenario), scope:
                    restart(scenario, *programs[program])
            else:
                programs[program] = next(compiled)
            yield programs[program]
            left[program] -= 1
            if not left[program]:
                del programs[program]


def _compiled(alike, data_dir, strategy):
    """Yield data set and compiled trainer for each list of scenarios. One is compiled ahead."""
    if strategy:
        # None is compiled ahead: workers make variables together, which they cannot do while
        # they train.
        for scenarios in alike:
            _log_compiling(scenarios)
            made = _make(scenarios, data_dir, strategy)
            _compile(scenarios, made)
            yield made
        return
    ahead = ThreadPoolExecutor(1)

    def submit(scenarios):
        made = ahead.submit(_make, scenarios, data_dir)
        return made, ahead.submit(lambda: _compile(scenarios, made.result()))

    submitted = map(submit, alike)
    try:
        upcoming = next(submitted, None)
        for scenarios in alike:
            made, compiled = upcoming
            if not compiled.done():
                _log_compiling(scenarios)
                made.result()
                # For the pictures. It takes the time of Python code, as tracing does, but not the
                # compiler's.
                import matplotlib.figure  # noqa: F401
            compiled.result()
            # Only one ahead, since each holds its data set on the device.
            upcoming = next(submitted, None)
            yield made.result()
    finally:
        # After Ctrl-C, do not wait for the compiler.
        ahead.shutdown(wait=False, cancel_futures=True)


def _log_compiling(scenarios):
    _log.info("Compiling %s", listed([scenario.name for scenario in scenarios]))


def _make(scenarios, data_dir, strategy=None):
    """Data set and traced trainer of scenarios that share a program."""
    kind, scope = _placed(strategy)
    first, *_ = scenarios
    activations = [scenario.activation for scenario in scenarios]
    dataset = datasets.load(first.dataset, data_dir)
    with makes_a_network(first):
        with scope:
            trainer = make_trainer(first, dataset, kind, activations)
        trainer.trace()
    return dataset, trainer


def _compile(scenarios, made):
    _, trainer = made
    with makes_a_network(scenarios[0]):
        trainer.compile()


def _placed(strategy):
    """The class of a strategy's trainers, and the scope in which to make their variables."""
    if strategy is None:
        return Trainer, contextlib.nullcontext()
    return DistributedTrainer, make_strategy(strategy).scope()


def make_program(
    scenario: Scenario, data_dir: str | os.PathLike | None = None
) -> tuple[Dataset, Trainer]:
    """Data set and trainer of one scenario, compiled and at step 0.

    Raises:
        UsageError: the data set cannot be loaded, or the scenario makes no network for it.
    """
    _log_compiling([scenario])
    made = _make([scenario], data_dir)
    _compile([scenario], made)
    return made


def restart(scenario: Scenario, dataset: Dataset, trainer: Trainer) -> None:
    """Put a trainer to step 0 of another scenario with the same `program_key`."""
    model = make_model(scenario, dataset)
    trainer.restart(model, make_optimizer(scenario), scenario.batch_seed)


_newest: dict[tuple, Trainer] = {}
"""The trainer that was compiled last, by its kind. A sweep's next group is often of that kind."""


def group_trainer(
    scenarios: Sequence[Scenario], dataset: Dataset, histograms: bool = False
) -> Trainer:
    """The trainer of a sweep's group at step 0: the one before if it fits, or a new one.

    Args:
        scenarios: the networks of the group, with one `group_key`. A network that is not
            `stackable` is a group of its own.
        dataset: the scenarios'.
        histograms: whether a record has histograms.

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
            restart(first, dataset, _newest[kind])
    return _newest[kind]
