"""`Session`: trains a scenario in its run folder, with records and checkpoints."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import tensorflow as tf

from mnist_vg.datasets import Dataset
from mnist_vg.diagnosis.symptom import Evidence
from mnist_vg.errors import UsageError
from mnist_vg.recording.event_log import forward_graph
from mnist_vg.recording.run_writer import RunWriter
from mnist_vg.runs.folder import check_folder, claim_folder, remove_run
from mnist_vg.runs.results import finite_or_none, result_row
from mnist_vg.runs.run import Run, versions
from mnist_vg.runs.tags import (
    ACCURACY_TEST,
    ACCURACY_TRAIN,
    DECISION_AXIS,
    DECISION_POINTS,
    DECISION_PROBABILITY,
    GRADIENT_FLOW,
    KERNELS,
    LOSS_TEST,
    LOSS_TRAIN,
    layer_tag,
)
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.training.blocks import run_blocks
from mnist_vg.training.checkpoint import Checkpoint
from mnist_vg.training.failures import break_told
from mnist_vg.training.interrupts import interrupt_at_exit
from mnist_vg.training.objective import on_device
from mnist_vg.training.trainer import Block, Trainer

DECISION_GRID = 100
"""Points along each input at which the decision of a network of two inputs is recorded."""


def train_run(
    scenario: Scenario,
    folder: Path,
    dataset: Dataset,
    trainer: Trainer,
    *,
    overwrite: bool,
    checkpoint_seconds: float,
    watch: Callable[[Scenario, Block, Sequence[Evidence]], None],
) -> Run:
    """Train a scenario in its folder, or resume the run that the folder holds.

    Args:
        scenario: what to train.
        folder: of the run.
        dataset: the scenario's.
        trainer: compiled, at step 0.
        overwrite: remove a run that the folder holds.
        checkpoint_seconds: time between two checkpoints.
        watch: called after each block, with the symptoms that its record makes certain.

    Returns:
        The finished run.

    Raises:
        UsageError: the folder holds another run, or another process writes there.
        RunFailed: the run broke half way.
        KeyboardInterrupt: Ctrl-C was pressed; all steps so far are saved.
    """
    with break_told(scenario, trainer), claim_folder(folder):
        # Another process may have written here since the first look.
        run = check_folder(folder, scenario, overwrite)
        if run is None:
            remove_run(folder)
        elif run.status == "finished":
            return run
        elif run.dataset != dataset.name:
            raise UsageError(
                f"dataset: {folder} was begun with {run.dataset}, not {dataset.name}; give the "
                "same --data-dir, or replace that run with --overwrite"
            )
        with closing(Session(scenario, folder, dataset, trainer)) as session, trainer.together():
            return session.train(checkpoint_seconds, watch)


class Session:
    """Trains a run, in a folder that this process has claimed.

    Args:
        scenario: what to train.
        folder: of the run. A checkpoint in it is resumed.
        dataset: the scenario's.
        trainer: compiled, at step 0.
    """

    def __init__(self, scenario: Scenario, folder: Path, dataset: Dataset, trainer: Trainer):
        self.scenario, self.dataset, self.trainer = scenario, dataset, trainer
        self._test, self._test_scores = on_device(dataset.test), None
        self.checkpoint = Checkpoint(folder, trainer)
        notes = self.checkpoint.restore() or {"seconds": 0.0, "lengths": []}
        graph = None if notes["lengths"] else forward_graph(trainer.model)
        self.writer = begin_run(
            scenario, folder, dataset, graph, notes["lengths"], notes["seconds"]
        )

    def train(self, checkpoint_seconds: float, watch: Callable) -> Run:
        """Train to the end, or to the end of the block in which Ctrl-C was pressed."""
        iterations, log_every = self.scenario.iterations, self.scenario.log_every
        saved = time.monotonic()
        with interrupt_at_exit() as interrupted:
            for block in run_blocks(self.trainer, iterations, log_every):
                watch(self.scenario, block, self._record(block))
                if interrupted():
                    break
                if time.monotonic() - saved >= checkpoint_seconds:
                    self._save()
                    saved = time.monotonic()
            self._save()
            if self.trainer.steps_done < iterations:
                self.writer.mark("interrupted")
            else:
                # After the last checkpoint, so that a run which is killed here is resumed and
                # writes this again.
                self._finish()
        return self.writer.run

    def _record(self, block):
        # If this is killed after the last checkpoint, the resumed run writes it again.
        if block.tables is None:
            return []
        self._test_scores = self.trainer.evaluate(self._test)
        scalars = scalars_of((block.loss, block.accuracy), self._test_scores)
        return self.writer.record(block.step, scalars, block.tables, _arrays(block.kernels))

    def _finish(self):
        seconds = self.writer.seconds
        if self.scenario.measures == "full":
            # The final weights, which no step has recorded.
            tables, kernels = self.trainer.measures.weights()
            arrays = _arrays(kernels) | self._decision()
            self.writer.note(self.scenario.iterations, {}, tables, arrays)
        run = self.writer.read_back()
        flow = run.history[GRADIENT_FLOW]
        results = results_of(
            flow[run.history["step"] < self.scenario.iterations],
            self.trainer.evaluate(self.trainer.examples),
            # The last record's are those of the final weights.
            self._test_scores or self.trainer.evaluate(self._test),
            self.dataset.chance,
        )
        self.writer.conclude(run, results, card=result_row([results]), seconds=seconds)

    def _decision(self):
        """For two inputs and two classes: the network's decision on the plane of the inputs."""
        train = self.dataset.train
        plane_of_points = (self.dataset.input_size, self.dataset.label_size) == (2, 2)
        if not plane_of_points or train.inputs.dtype != np.float32:
            return {}
        reach = 1.1 * np.abs(train.inputs).max()
        axis = np.linspace(-reach, reach, DECISION_GRID, dtype=np.float32)
        plane = np.stack(np.meshgrid(axis, axis), axis=-1)
        probability = self.trainer.probability(plane.reshape(-1, 2))
        return {
            DECISION_AXIS: axis,
            DECISION_PROBABILITY: probability.reshape(plane.shape[:2]),
            DECISION_POINTS: np.column_stack([train.inputs, train.labels]),
        }

    def close(self):
        """End the event file."""
        self.writer.close()

    def _save(self):
        self.checkpoint.save(lengths=self.writer.lengths(), seconds=self.writer.seconds)


def begin_run(
    scenario: Scenario,
    folder: Path,
    dataset: Dataset,
    graph: tf.compat.v1.GraphDef | None = None,
    lengths: Sequence[int] = (),
    seconds: float = 0.0,
) -> RunWriter:
    """The writer of a scenario's run, which is new or resumed from a checkpoint.

    Args:
        scenario: what to train.
        folder: of the run.
        dataset: the scenario's.
        graph: the network's forward pass, for the Graphs tab of a new run.
        lengths: as `RunWriter` takes them.
        seconds: how long the run has taken before.
    """
    steps = len(dataset.train.labels) / scenario.batch_size
    run = Run(
        folder,
        "running",
        scenario.settings(),
        dataset.name,
        versions(),
        seconds,
        steps_per_epoch=math.ceil(steps) if scenario.partial_batches else steps,
    )
    about = f"{scenario.about} ({scenario.source})" if scenario.source else scenario.about
    return RunWriter(run, lengths, about=about, graph=graph, chance=dataset.chance_scalars)


def scalars_of(train: tuple[float, float], test: tuple[float, float]) -> dict[str, float]:
    """A record's losses and accuracies by tag: of the batch, and of the test split."""
    return dict(
        zip((LOSS_TRAIN, ACCURACY_TRAIN, LOSS_TEST, ACCURACY_TEST), train + test, strict=True)
    )


def results_of(
    flow: np.ndarray, train: tuple[float, float], test: tuple[float, float], chance: float
) -> dict[str, float | None]:
    """A run's results: scores of the final weights, and gradient ratios.

    Args:
        flow: log10 of the first layer's gradient over the last one's, at each record.
        train: loss and accuracy on the whole training split.
        test: loss and accuracy on the test split.
        chance: test accuracy of always answering the most frequent label.

    Returns:
        Name to number, None where it is not finite.
    """
    return finite_or_none(
        {
            "train_loss": train[0],
            "train_accuracy": train[1],
            "test_loss": test[0],
            "test_accuracy": test[1],
            "chance": chance,
            "first_gradient_ratio": 10.0 ** float(flow[0]),
            "last_gradient_ratio": 10.0 ** float(flow[-1]),
        }
    )


def _arrays(kernels):
    return {layer_tag(KERNELS, layer): kernel for layer, kernel in kernels.items()}
