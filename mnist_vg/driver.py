"""Trains scenarios, each into its own run folder."""

import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from mnist_vg.errors import UsageError
from mnist_vg.runs.folder import check_folder, claim_folder
from mnist_vg.runs.paths import as_path
from mnist_vg.runs.run import RUN_FILE, Run
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.scenarios.size import check_depth, check_memory
from mnist_vg.scenarios.suites import find_scenario
from mnist_vg.tensorflow_import import import_tensorflow
from mnist_vg.training import tf_config

if TYPE_CHECKING:
    from mnist_vg.datasets import Dataset
    from mnist_vg.diagnosis.symptom import Evidence
    from mnist_vg.training.trainer import Block, Trainer

CHECKPOINT_SECONDS = 10.0
"""Time between two checkpoints. A run that is killed repeats at most this much work."""

Watcher = Callable[[Scenario, "Block", Sequence["Evidence"]], None]
"""Called after each block of steps, with the symptoms that have become certain with its record."""

Trainers = Callable[[Sequence[Scenario]], Generator[tuple["Dataset", "Trainer"]]]
"""Makes data set and trainer of each scenario in turn, the trainer compiled and at step 0. A
trainer may be used until the next one is asked for."""


def train(
    scenario: Scenario | str,
    logdir: str | os.PathLike = "logdir",
    *,
    data_dir: str | os.PathLike | None = None,
    overwrite: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    strategy: str | None = None,
    watch: Watcher | None = None,
) -> Run:
    """Train a scenario into its run folder, `logdir/<name of the scenario>`.

    A run that was killed or interrupted continues from its checkpoint, and ends bit for bit as
    if it had never stopped. A finished run is returned without training it again.

    Args:
        scenario: the scenario to train, or the name of a known one.
        logdir: the folder for TensorBoard's `--logdir`. It may be remote (`gs://…`), on a file
            system that TensorFlow supports.
        data_dir: where TFDS keeps prepared data sets; None is TFDS's default folder.
        overwrite: whether to remove an existing run of that name, and train it again.
        checkpoint_seconds: time between two checkpoints, in seconds, 0 or more.
        strategy: None trains on one device. "mirrored" shares each batch among the devices of
            this machine. "multiworker" shares it among the devices of all workers in
            `TF_CONFIG`: each worker makes the same call, and must have access to the same
            logdir; only the chief writes and calls `watch`.
        watch: called after each block of steps; see `Watcher`. None shows Keras' progress bar
            and the symptoms in a terminal or a notebook, and nothing elsewhere.

    Returns:
        The finished run. Its `history` has the recorded arrays.

    Raises:
        UsageError: the arguments are not valid, or the folder holds a different run. Nothing
            has been written.
        RunFailed: the run broke off. The same call continues it.
        KeyboardInterrupt: Ctrl-C. Everything is saved, and the same call continues the run.
    """
    [run] = train_all(
        [scenario],
        logdir,
        data_dir=data_dir,
        overwrite=overwrite,
        checkpoint_seconds=checkpoint_seconds,
        strategy=strategy,
        watch=watch or (_progress_bar() if _is_seen() else lambda *block: None),
    )
    return run


def _is_seen():
    """Whether someone sees the output as it comes."""
    return sys.stdout.isatty() or "ipykernel" in sys.modules


def _progress_bar():
    bars = []

    def watch(scenario, block, symptoms):
        from keras.utils import Progbar

        if not bars:
            bars.append(Progbar(scenario.iterations, stateful_metrics=["loss", "accuracy"]))
        bars[0].update(block.step + 1, [("loss", block.loss), ("accuracy", block.accuracy)])
        for evidence in symptoms:
            print(f"\n{evidence.line}")

    return watch


def train_all(
    scenarios: Iterable[Scenario | str],
    logdir: str | os.PathLike = "logdir",
    *,
    data_dir: str | os.PathLike | None = None,
    overwrite: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    strategy: str | None = None,
    watch: Watcher = lambda *block: None,
    trainers: Trainers | None = None,
) -> Iterator[Run]:
    """Train scenarios one after the other, and yield each finished run.

    All folders are checked before the first scenario trains. Scenarios of the
    same structure share a compiled program; the next program is compiled meanwhile, unless
    `trainers` makes them. Other arguments and errors are those of `train`. An error during training
    ends the list.
    """
    scenarios = [find_scenario(s) if isinstance(s, str) else s for s in scenarios]
    names = {scenario.name for scenario in scenarios}
    if len(names) < len(set(scenarios)):
        raise UsageError(
            "name: two different scenarios have the same name, and so the same folder; rename one"
        )
    if not checkpoint_seconds >= 0:
        raise UsageError(f"checkpoint_seconds: {checkpoint_seconds} must be 0 or more")
    leads = tf_config.leads(strategy)
    folders = {scenario: as_path(logdir) / scenario.name for scenario in scenarios}
    found = {s: check_folder(folder, s, overwrite) for s, folder in folders.items()}
    waiting = [s for s, run in found.items() if run is None or run.status != "finished"]
    for scenario in waiting:
        check_depth(scenario)
        check_memory(scenario)
        if leads and (folders[scenario] / RUN_FILE).exists():
            with claim_folder(folders[scenario]):
                pass  # If another process trains it, refuse now and not after compiling.
    compiled = trainers(waiting) if trainers else _trainers(waiting, data_dir, strategy)
    with closing(compiled) as made:
        for scenario, run in found.items():
            if scenario in waiting:
                dataset, trainer = next(made)
                given = scenario, folders[scenario], dataset, trainer
                if leads:
                    run = _train(
                        *given,
                        overwrite=overwrite,
                        checkpoint_seconds=checkpoint_seconds,
                        watch=watch,
                    )
                else:
                    run = _follow(*given)
            yield run


# These functions import TensorFlow, which takes seconds; without a run to train it is not needed.


def _trainers(scenarios, data_dir, strategy):
    if scenarios:
        import_tensorflow()

        from mnist_vg.training.programs import trainers

        yield from trainers(scenarios, data_dir, strategy)


def _train(*given, **options):
    from mnist_vg.training.session import train_run

    return train_run(*given, **options)


def _follow(*given):
    from mnist_vg.training.distributed_trainer import follow

    return follow(*given)
