"""Runs scenarios, each into a folder of its own."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

from mnist_vg import datasets
from mnist_vg.errors import RunFailed, UsageError
from mnist_vg.runs import run as runs
from mnist_vg.runs.paths import as_path
from mnist_vg.runs.run import Run
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.scenarios.suites import find_scenario
from mnist_vg.tensorflow_import import import_tensorflow
from mnist_vg.training import tf_config

if TYPE_CHECKING:
    from mnist_vg.training.trainer import Block

CHECKPOINT_SECONDS = 10.0
"""Time between two checkpoints: what a killed run may lose."""

Watcher = Callable[[Scenario, "Block"], None]
"""Called after each block of steps, for a display."""


def train(
    scenario: Scenario | str,
    logdir: str | os.PathLike = "logdir",
    *,
    data_dir: str | os.PathLike | None = None,
    overwrite: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    strategy: str | None = None,
    watch: Watcher = lambda scenario, block: None,
) -> Run:
    """Train one scenario into its own folder, `logdir/<its name>`.

    A run that was killed or interrupted goes on where its checkpoint stands, and
    ends bit for bit as if it had never stopped. A finished run is not trained
    again: it is returned as it is.

    Args:
        scenario: what to train, or the name of a known scenario.
        logdir: the folder that TensorBoard is pointed at, also a remote one (`gs://…`) of a
            file system that TensorFlow knows.
        data_dir: where TFDS keeps prepared data sets; its own default with None.
        overwrite: remove the run that the folder holds, and train anew.
        checkpoint_seconds: time between two checkpoints.
        strategy: "mirrored" to share each batch among the devices of this machine,
            "multiworker" among those of all workers that `TF_CONFIG` names, each of
            which makes the same call; None for one device. The chief alone writes,
            and calls `watch`; the folder must be one that all workers see.
        watch: called after each block of steps.

    Returns:
        The finished run; its `history` has what was recorded, as arrays.

    Raises:
        UsageError: the request cannot be carried out; nothing was changed.
        RunFailed: the run broke half way; the same call goes on with it.
        KeyboardInterrupt: everything is written, and the same call goes on.
    """
    [run] = train_all(
        [scenario],
        logdir,
        data_dir=data_dir,
        overwrite=overwrite,
        checkpoint_seconds=checkpoint_seconds,
        strategy=strategy,
        watch=watch,
    )
    return run


def train_all(
    scenarios: Iterable[Scenario | str],
    logdir: str | os.PathLike = "logdir",
    *,
    data_dir: str | os.PathLike | None = None,
    overwrite: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    strategy: str | None = None,
    watch: Watcher = lambda scenario, block: None,
) -> Iterator[Run]:
    """Train scenarios one after another, after a look at all of their folders.

    Neighbours of one structure share a compiled program, and while they train, the
    next one is compiled. Arguments and errors are those of `train`; a run that cannot
    be made ends the list where it stands, after those before it.
    """
    scenarios = [find_scenario(s) if isinstance(s, str) else s for s in scenarios]
    names = {scenario.name for scenario in scenarios}
    if len(names) < len(set(scenarios)):
        raise UsageError("name: two different scenarios have one name, so one folder; rename one")
    if not checkpoint_seconds >= 0:
        raise UsageError(f"checkpoint_seconds: {checkpoint_seconds} must be 0 or more")
    leads = tf_config.leads(strategy)
    folders = {scenario: as_path(logdir) / scenario.name for scenario in scenarios}
    found = {s: runs.check(folder, s, overwrite) for s, folder in folders.items()}
    waiting = [s for s, run in found.items() if run is None or run.status != "finished"]
    for scenario in waiting:
        if leads and (folders[scenario] / runs.LOCK_FILE).exists():
            with runs.claim(folders[scenario]):
                pass  # Refused now, if at all, and not after the seconds of compiling.
    groups = [list(group) for _, group in itertools.groupby(waiting, key=Scenario.structure)]
    firsts = [group[0] for group in groups]
    with closing(_prepared(firsts, data_dir, strategy)) as prepared:
        for scenario, run in found.items():
            if scenario in waiting:
                if scenario in firsts:
                    dataset, trainer = next(prepared)
                else:
                    _restart(trainer, scenario, dataset, strategy)
                made = scenario, folders[scenario], dataset, trainer
                with _break_told(scenario, trainer):
                    if leads:
                        run = _train(*made, overwrite, checkpoint_seconds, watch)
                    else:
                        run = _follow(*made)
            yield run


def _prepared(scenarios, data_dir, strategy):
    """Yield what `_prepare` makes of each; on one device, the next while one trains."""
    if strategy:
        # Workers agree on variables as they make them, and cannot while they train.
        yield from (_prepare(scenario, data_dir, strategy) for scenario in scenarios)
        return
    ahead = ThreadPoolExecutor(1)
    submitted = (ahead.submit(_prepare, scenario, data_dir) for scenario in scenarios)
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


def _prepare(scenario, data_dir, strategy=None):
    """The data set and the compiled trainer of a scenario."""
    import_tensorflow()

    from mnist_vg.training.build import make_trainer

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
        from mnist_vg.training.trainer import Trainer

        return Trainer, contextlib.nullcontext()
    from mnist_vg.training.distributed import DistributedTrainer, make_strategy

    return DistributedTrainer, make_strategy(strategy).scope()


def _restart(trainer, scenario, dataset, strategy):
    from mnist_vg.training.build import make_model, make_optimizer

    _, scope = _placed(strategy)
    with makes_a_network(scenario), scope:
        model = make_model(scenario, dataset)
        trainer.restart(model, make_optimizer(scenario), scenario.batch_seed)


@contextlib.contextmanager
def makes_a_network(scenario: Scenario) -> Iterator[None]:
    """Within, a scenario that makes no network is a UsageError."""
    import tensorflow as tf

    try:
        yield
    except UsageError:
        raise
    except (
        ValueError,
        TypeError,
        LookupError,
        MemoryError,
        RecursionError,
        tf.errors.OpError,
    ) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"scenario: {scenario.name!r} makes no network: {reason}") from error


def _train(scenario, folder, dataset, trainer, overwrite, checkpoint_seconds, watch):
    from mnist_vg.training.session import Session

    with runs.claim(folder):
        # Another process may have written here since the first look.
        run = runs.check(folder, scenario, overwrite)
        if run is None:
            runs.remove_run(folder)
        elif run.status == "finished":
            return run
        elif run.dataset != dataset.name:
            raise UsageError(
                f"dataset: {folder} was begun with {run.dataset}, not {dataset.name}; give the "
                "same --data-dir, or replace that run with --overwrite"
            )
        with closing(Session(scenario, folder, dataset, trainer)) as session, trainer.together():
            return session.train(checkpoint_seconds, watch)


def _follow(*made):
    from mnist_vg.training.distributed import follow

    return follow(*made)


@contextlib.contextmanager
def _break_told(scenario, trainer):
    import tensorflow as tf

    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise RunFailed(
            f"run {scenario.name!r} broke at step {trainer.steps_done} of "
            f"{scenario.iterations}: {reason}; what was written is kept, and the same command "
            "(without --overwrite) goes on from its last checkpoint"
        ) from error
