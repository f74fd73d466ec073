"""`DistributedTrainer`: each replica takes an equal share of every batch.

`strategy.run` takes the place of one call: each replica backpropagates through its share,
and gradients, loss and accuracy are averaged. All the rest (clipping, the update, the
measures) happens once, with the numbers of the whole batch, in the code of one device.
"""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

import keras
import tensorflow as tf

from mnist_vg.datasets import Dataset
from mnist_vg.errors import RunFailed, UsageError, first_line
from mnist_vg.runs.folder import check_folder
from mnist_vg.runs.run import Run
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.training.checkpoint import Checkpoint
from mnist_vg.training.failures import break_told
from mnist_vg.training.interrupts import interrupt_at_exit, sigterm_kept
from mnist_vg.training.trainer import Block, Trainer


@functools.cache
def make_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy with a name in `tf_config.STRATEGIES`; made once per process.

    Raises:
        UsageError: the workers do not find each other.
    """
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    try:
        with sigterm_kept():
            return tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        raise UsageError(
            f"strategy: multiworker does not come about: {first_line(error)}"
        ) from error


class DistributedTrainer(Trainer):
    """A trainer on all replicas of the strategy in whose scope it is made.

    It reports what a `Trainer` reports, up to rounding: gradient, loss and accuracy are
    means over the whole batch, signals are measured over all replicas, and batch
    normalization is over the whole batch, too.

    Raises:
        UsageError: a batch cannot be shared evenly.
    """

    # An XLA-compiled function has one device, and on a CPU it lacks CollectiveGatherV2.
    jit_compile = False

    def __init__(self, model, optimizer, examples, batch_size, seed, **options):
        self._strategy = tf.distribute.get_strategy()
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True
        super().__init__(model, optimizer, examples, batch_size, seed, **options)
        replicas = self._strategy.num_replicas_in_sync
        for size in self._batch_sizes:
            if size % replicas:
                but = "" if size == batch_size else ", without partial_batches"
                raise UsageError(
                    f"batch_size: {batch_size} makes a batch of {size} examples, which {replicas} "
                    f"replicas cannot share evenly; give a multiple of {replicas}{but}"
                )

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """As the chief: within the context, the other workers follow."""
        self._told(self.steps_done)
        try:
            yield
        finally:
            with contextlib.suppress(ConnectionError):
                self._told()

    def advance(self, steps: int, record: bool) -> Block:
        """As the chief: train `steps` more, together with the other workers."""
        # All workers must run the same loop: TensorFlow matches collectives by iteration.
        self._told(steps, record)
        with _connected():
            return super().advance(steps, record)

    def called(self) -> int:
        """As another worker: wait for the chief, and return the step at which it begins."""
        return self._told()[0]

    def follow(self) -> None:
        """As another worker: train whenever the chief does, until the chief ends."""
        steps, record = self._told()
        while steps:
            with _connected():
                super().advance(steps, bool(record))
            steps, record = self._told()

    def _told(self, steps=0, record=False):
        """The steps and the record that the chief announces, once all workers are here."""
        with _connected():
            said = self._shared(tf.constant([steps, record], tf.int64))
        return self._local(said).numpy().tolist()

    @functools.cached_property
    def _shared(self):
        def share(numbers):
            replica = tf.distribute.get_replica_context()
            of_chief = numbers * int(_number(replica) == 0)
            return replica.all_reduce(tf.distribute.ReduceOp.SUM, of_chief)

        traced = tf.function(lambda numbers: self._strategy.run(share, [numbers]), autograph=False)
        return traced.get_concrete_function(tf.TensorSpec([2], tf.int64))

    def _backpropagate(self, values, inputs, labels, taps):
        replicas = self._strategy.num_replicas_in_sync
        backpropagate = super()._backpropagate

        def share():
            replica = tf.distribute.get_replica_context()
            gradients, loss, accuracy, state, signals = backpropagate(
                self._packing.unpack(),  # As they are on this device.
                tf.split(inputs, replicas)[_number(replica)],
                tf.split(labels, replicas)[_number(replica)],
                taps,
            )
            means = replica.all_reduce(tf.distribute.ReduceOp.MEAN, [*gradients, loss, accuracy])
            return means, state, signals

        means, state, signals = self._strategy.run(share)
        *gradients, loss, accuracy = self._local(means)
        return gradients, loss, accuracy, self._local(state), signals

    def _whole(self, signals):
        def gather(parts):
            return tf.distribute.get_replica_context().all_gather(parts, axis=0)

        return self._local(self._strategy.run(gather, [signals]))

    def _local(self, values):
        """Values that all replicas share, as this process's first replica has them."""
        return tf.nest.map_structure(
            lambda value: self._strategy.experimental_local_results(value)[0], values
        )


@contextlib.contextmanager
def _connected():
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        raise ConnectionError("another worker has gone") from error


def _number(replica):
    return tf.get_static_value(replica.replica_id_in_sync_group)


def follow(scenario: Scenario, folder: Path, dataset: Dataset, trainer: DistributedTrainer) -> Run:
    """Train as a worker that is not the chief. It begins where the chief does, and writes nothing.

    Args:
        scenario: what the chief trains.
        folder: of the run; the chief writes it, and all workers see it.
        dataset: the scenario's.
        trainer: compiled, at step 0.

    Returns:
        The run as the chief has written it.

    Raises:
        UsageError: the folder does not hold what the chief trains.
        RunFailed: the chief stopped before the end.
    """
    with break_told(scenario, trainer), interrupt_at_exit():
        begin = trainer.called()
        if 0 < begin < scenario.iterations:
            Checkpoint(folder, trainer).restore()
        else:
            trainer.steps_done = begin
        run = check_folder(folder, scenario)
        if run is None or trainer.steps_done != begin or run.dataset != dataset.name:
            raise UsageError(
                f"logdir: {folder} does not hold what the chief trains ({dataset.name}, {begin} "
                "steps done); give all workers one folder that they share, and the same data"
            )
        trainer.follow()
    if trainer.steps_done < scenario.iterations:
        raise RunFailed(
            f"run {scenario.name!r}: the chief stopped at step {trainer.steps_done} of "
            f"{scenario.iterations}; the same command, given to all workers, goes on"
        )
    return Run.load(folder)
