"""`Sweeper`: trains a sweep's groups on this machine or on a cluster, and writes their rows."""

import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import joblib

from mnist_vg import datasets
from mnist_vg.errors import RunFailed, UsageError
from mnist_vg.runs.folder import check_writable, claim_folder, remove_run
from mnist_vg.runs.paths import as_path, is_remote, write_whole
from mnist_vg.runs.run import SWEEP_FILE, Run, versions
from mnist_vg.scenarios.size import check_memory
from mnist_vg.sweeps import table
from mnist_vg.sweeps.differences import differences
from mnist_vg.sweeps.plan import Plan
from mnist_vg.sweeps.sweep import Sweep
from mnist_vg.sweeps.table import RECORD_CHOICES, RUNS_FOLDER
from mnist_vg.sweeps.workers import Advanced, Job, in_processes, in_this_process
from mnist_vg.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from pathlib import Path

    from mnist_vg.runs.paths import RemotePath
    from mnist_vg.sweeps.group import Outcome

Watcher = Callable[[int, "Outcome"], None]
"""Called after each group, with its number in the plan and its outcome."""


class Sweeper:
    """Trains a sweep into its folder, `logdir/<name of the sweep>`.

    Args:
        sweep: the sweep to train.
        logdir: the folder for TensorBoard's `--logdir`.
        data_dir: where TFDS keeps prepared data sets; None is TFDS's default folder.
        workers: processes on this machine: None is one per core, and 0 trains in this process.
        record: which networks get a run folder for TensorBoard: "none", "sick" or "all".
        overwrite: whether to remove an existing sweep of that name, and train it again.

    Raises:
        UsageError: the sweep cannot be trained, or the folder holds something else. Nothing
            has been written.
    """

    def __init__(
        self,
        sweep: Sweep,
        logdir: str | os.PathLike = "logdir",
        *,
        data_dir: str | os.PathLike | None = None,
        workers: int | None = None,
        record: str = "none",
        overwrite: bool = False,
    ):
        if record not in RECORD_CHOICES:
            raise UsageError(f"record: {record!r} is not one of {', '.join(RECORD_CHOICES)}")
        self.sweep = sweep
        self.folder = as_path(logdir) / sweep.name
        self.workers = joblib.cpu_count() if workers is None else workers
        self._record, self._overwrite = record, overwrite
        names = {scenario.dataset for scenario in sweep.scenarios}
        self._datasets = {name: datasets.load(name, data_dir) for name in sorted(names)}
        self.plan = Plan.of(sweep, self._datasets, self._done())
        # Parts of the table are found by the group's number, so a sweep that continues must
        # have the same groups.
        self._facts = sweep.facts() | {
            "record": record,
            "datasets": {name: dataset.name for name, dataset in self._datasets.items()},
            "groups": [len(group) for group in self.plan.groups],
        }
        self._check_folder()
        self._check_networks()

    def _done(self):
        """The numbers of the groups that the table has, and keeps."""
        return () if self._overwrite else table.parts_of(self.folder)

    def _check_folder(self):
        check_writable(self.folder)
        check_sweep_folder(self.folder, self._facts, self._overwrite)

    def _check_networks(self):
        """Make a small network of each structure, to refuse an impossible one before training."""
        for scenario in self.sweep.scenarios:
            check_memory(scenario)
        import_tensorflow()

        from mnist_vg.training.build import make_model, make_optimizer
        from mnist_vg.training.failures import makes_a_network
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
        advanced: Advanced = lambda number, share: None,
    ) -> "Path | RemotePath":
        """Train the groups that are left.

        After an error or an interrupt, the finished groups are kept, and the same call trains
        the rest.

        Args:
            cluster: a Ray cluster to train on: "local" starts one with `workers` processes;
                "auto" or "ray://HOST:PORT" joins one. None trains on this machine without Ray.
            watch: called after each group, with its number in the plan and its outcome.
            advanced: called while a group trains on this machine without Ray, with its number
                and the share of its steps that is done.

        Returns:
            The sweep's folder.

        Raises:
            UsageError: the cluster cannot be used, the folder has changed since the class
                checked it, or another process trains this sweep.
            RunFailed: a worker died, or the folder could not be written.
            KeyboardInterrupt: Ctrl-C.
        """
        # Connects first, so that nothing is written if there is no such cluster.
        with self._runner(cluster) as train, claim_folder(self.folder):
            # Another process may have written to the folder since the first check.
            self._check_folder()
            with self._writing():
                if self._overwrite:
                    table.remove_sweep(self.folder)
                    self._overwrite = False
                self._write_facts()
            done = self._done()
            left = {n: self._job(g) for n, g in enumerate(self.plan.groups) if n not in done}
            with closing(train(left, self._datasets, advanced)) as outcomes:
                for number, outcome in outcomes:
                    with self._writing():
                        self._write_outcome(number, outcome)
                    watch(number, outcome)
        return self.folder

    def _runner(self, cluster):
        """A context manager for a function from jobs, data sets and `advanced` to outcomes."""
        if cluster is not None:
            from mnist_vg.sweeps.cluster import on_ray

            return on_ray(cluster, self.workers)
        if self.workers == 0:
            return contextlib.nullcontext(in_this_process)
        return contextlib.nullcontext(functools.partial(in_processes, workers=self.workers))

    def _job(self, group):
        return Job(group, tuple(self.sweep.axes), self._record)

    def _write_facts(self):
        path = self.folder / SWEEP_FILE
        if not path.exists():
            facts = self._facts | {"versions": versions()}
            write_whole(path, (json.dumps(facts, indent=2, allow_nan=False) + "\n").encode())

    def _write_outcome(self, number, outcome):
        """Write a group's files, then its rows: a group with rows counts as done."""
        # Folders may be left from a sweep that was killed while it wrote this group.
        for scenario in self.plan.groups[number]:
            folder = self.folder / RUNS_FOLDER / scenario.name
            if folder.exists():
                remove_run(folder)
        for name, content in outcome.files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if not is_remote(self.folder):
            os.sync()  # The rows count, so what belongs to them must be on the disk before.
        table.write_part(self.folder, number, outcome.rows)

    @contextlib.contextmanager
    def _writing(self):
        try:
            yield
        except OSError as error:
            raise RunFailed(
                f"sweep: {self.folder} could not be written ({error}); run the same command to "
                "train the groups that are left"
            ) from error


def check_sweep_folder(
    folder: "Path | RemotePath", facts: Mapping[str, Any], overwrite: bool = False
) -> None:
    """Check that a folder holds no run, and no sweep but this one.

    Args:
        folder: of the sweep.
        facts: as `sweep.json` would have them; of those that `Sweep.facts` lacks, any will do.
        overwrite: whether another sweep may be there.

    Raises:
        UsageError: it holds something else.
    """
    if Run.load(folder) is not None:
        raise UsageError(f"sweep: {folder} holds a run; give another name or another --logdir")
    if overwrite or not (folder / SWEEP_FILE).exists():
        return
    then = table.load_sweep(folder)
    differing = differences(then, {**then, **facts})
    if differing:
        raise UsageError(
            f"sweep: {folder} holds a sweep with {'; '.join(differing)}; give the "
            "same command as then or another name, or replace it with --overwrite"
        )


def _small(scenario):
    sizes = {"num_layers": min(scenario.num_layers, 3), "hidden_size": 2}
    return dataclasses.replace(scenario, seed=0, **sizes)


def _initializers(scenario):
    return scenario.kernel_initializer, scenario.output_initializer, scenario.bias_initializer
