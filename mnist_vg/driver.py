"""Runs scenarios, each into a folder of its own."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from mnist_vg.errors import UsageError
from mnist_vg.runs.folder import LOCK_FILE, check_folder, claim_folder
from mnist_vg.runs.paths import as_path
from mnist_vg.runs.run import Run
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.scenarios.suites import find_scenario
from mnist_vg.tensorflow_import import import_tensorflow
from mnist_vg.training import tf_config

if TYPE_CHECKING:
    from mnist_vg.diagnosis.symptoms import Evidence
    from mnist_vg.training.trainer import Block

CHECKPOINT_SECONDS = 10.0
"""Time between two checkpoints: what a killed run may lose."""

Watcher = Callable[[Scenario, "Block", Sequence["Evidence"]], None]
"""Called after each block of steps, with the symptoms that its record makes certain."""


def train(
    scenario: Scenario | str,
    logdir: str | os.PathLike = "logdir",
    *,
    data_dir: str | os.PathLike | None = None,
    overwrite: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    strategy: str | None = None,
    watch: Watcher = lambda *block: None,
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
        watch: called after each block of steps, as `Watcher` tells.

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
    watch: Watcher = lambda *block: None,
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
    found = {s: check_folder(folder, s, overwrite) for s, folder in folders.items()}
    waiting = [s for s, run in found.items() if run is None or run.status != "finished"]
    for scenario in waiting:
        if leads and (folders[scenario] / LOCK_FILE).exists():
            with claim_folder(folders[scenario]):
                pass  # Refused now, if at all, and not after the seconds of compiling.
    with closing(_trainers(waiting, data_dir, strategy)) as made:
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


# These three are the door to TensorFlow, which nothing to train need not open.


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
