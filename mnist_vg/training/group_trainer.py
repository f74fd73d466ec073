"""`GroupTrainer`: networks of one structure, trained together."""

import dataclasses
import functools
import inspect
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from mnist_vg.datasets import Dataset
from mnist_vg.model import layer_initializers
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.training.build import make_optimizer
from mnist_vg.training.group_measures import GroupMeasures
from mnist_vg.training.packing import Packing
from mnist_vg.training.stacked_model import StackedModel
from mnist_vg.training.trainer import Trainer

EVALUATION_VALUES = 2**19
"""Values of a hidden layer that are scored at once: 2 MiB, which may fit a core's cache."""


class GroupTrainer(Trainer):
    """Trains the networks of a group side by side, as one `StackedModel`.

    They share the batches. Each has its own initial values, learning rate and clipping norm.
    Where a `Trainer` returns a number, it returns one per network.

    Args:
        scenarios: the networks', with one `group_key`.
        dataset: the scenarios'.
        histograms: whether a record has histograms.

    Raises:
        ValueError: the scenarios make no network for the data set.
    """

    def __init__(self, scenarios: Sequence[Scenario], dataset: Dataset, histograms: bool = False):
        first, replicas = scenarios[0], len(scenarios)
        self._networks = (replicas,)
        self._clips = _clip(scenarios)
        self._histograms = histograms
        self._evaluation_batch = max(1, EVALUATION_VALUES // (replicas * first.hidden_size))
        self._rates, self._clipnorms = (tf.Variable(tf.zeros([replicas, 1])) for _ in range(2))
        model = StackedModel(first, dataset, replicas)
        super().__init__(
            model,
            self._make_optimizer(first),
            dataset.train,
            first.batch_size,
            first.batch_seed,
            partial_batches=first.partial_batches,
        )
        self._fresh = model.get_weights()
        self.begin(scenarios)

    def begin(self, scenarios: Sequence[Scenario]) -> None:
        """Begin with as many other scenarios of the same `group_key`, without compiling.

        Raises:
            ValueError: one of them clips gradients, and none of those before did.
        """
        if _clip(scenarios) and not self._clips:
            raise ValueError("global_clipnorm: the compiled program clips nothing")
        self.model.set_weights(self._fresh)
        self.model.set_draws([draws(scenario) for scenario in scenarios])
        self._rates.assign([[learning_rate(scenario)] for scenario in scenarios])
        self._clipnorms.assign([[scenario.global_clipnorm or np.inf] for scenario in scenarios])
        self._begin(self._make_optimizer(scenarios[0]), scenarios[0].batch_seed)

    def _make_optimizer(self, scenario):
        own = dataclasses.replace(scenario, learning_rate=None, global_clipnorm=None)
        optimizer = make_optimizer(own)
        optimizer.learning_rate = lambda: self._rates
        return optimizer

    def _pack(self, variables, first_kernel):
        return Packing(variables, None, True, *self._networks)

    def _make_measures(self):
        return GroupMeasures(
            self.model,
            self._packing,
            self._batch_sizes,
            replicas=self._networks[0],
            histograms=self._histograms,
        )

    def _judge(self, logits, labels):
        labels = tf.broadcast_to(labels, [*self._networks, tf.shape(labels)[0]])
        return super()._judge(tf.transpose(logits, [1, 0, 2]), labels)

    # Two programs, one that catches what is measured and one that does not. In one program, the
    # loop would keep a copy of all gradients and values, and double the time of a step.
    @functools.cached_property
    def _compiled_blocks(self):
        blocks = {r: functools.partial(self._block, record=r) for r in (False, True)}
        return {r: self._traced_block(block) for r, block in blocks.items()}

    def trace(self) -> None:
        """Trace both blocks."""
        _ = self._compiled_blocks

    def compile(self) -> None:
        """Compile both blocks."""
        for record in self._compiled_blocks:
            super()._run(0, -1, record)

    def _call_block(self, record, *arguments):
        return self._compiled_blocks[record](*arguments)

    def _run(self, first, last, record):
        if record and first < last:
            super()._run(first, last - 1, False)
            first = last
        return super()._run(first, last, record)

    def _apply(self, gradients):
        if self._clips:
            squares = tf.add_n([_sum_by_replica(tf.square(gradient)) for gradient in gradients])
            norms, most = tf.sqrt(squares), tf.convert_to_tensor(self._clipnorms)
            # As in Keras, a norm that is not finite gives NaN. A network that does not clip
            # keeps its gradients.
            factor = tf.minimum(1.0, most / norms) + (norms - norms)
            factor = tf.where(tf.math.is_inf(most), 1.0, factor)
            gradients = [factor * gradient for gradient in gradients]
        super()._apply(gradients)

    def _signals(self, tape, loss, logits, taps):
        [outputs] = super()._signals(tape, loss, logits, taps)
        deep = self.model.deep
        return [[deep.outputs_before(), *outputs] if deep else outputs]


def _clip(scenarios):
    return any(scenario.global_clipnorm is not None for scenario in scenarios)


def _sum_by_replica(values):
    """Sums `[replicas, 1]` of values `[..., replicas, values]`."""
    sums = tf.reduce_sum(values, axis=-1, keepdims=True)
    return sums if sums.shape.rank == 2 else tf.reduce_sum(sums, axis=0)


def draws(scenario: Scenario) -> list[tuple]:
    """The initializers of a scenario's kernels and biases, layer by layer."""
    names = inspect.signature(layer_initializers).parameters
    return layer_initializers(**{name: getattr(scenario, name) for name in names})


def learning_rate(scenario: Scenario) -> float:
    """A scenario's learning rate, or its optimizer's default."""
    return float(make_optimizer(scenario).learning_rate)
