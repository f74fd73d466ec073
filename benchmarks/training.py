"""Steps a second of the tutorial's work: with records, and without them.

The work is that of the tutorial's sigmoid network: seven layers, Adam, 2,500 steps of
30 examples, and a record every 200 of them. A record is the loss, the accuracy, and
of each of the six kernels the mean absolute gradient and the histograms of gradient
and weights. The usual ways of TensorFlow write it, too. A JAX script and a loop in C
do nothing but the steps; their first losses are those of our own trainer, or this ends.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import _common_tf
import _peers
import keras
import numpy as np
import tensorflow as tf
from _common import in_turn, ratios, run, spread

from mnist_vg import datasets
from mnist_vg.datasets import Dataset, Split
from mnist_vg.model import Model
from mnist_vg.recording.event_log import EventLog
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.training.blocks import run_blocks
from mnist_vg.training.build import make_trainer
from mnist_vg.training.objective import scaled_inputs

BATCH, LOG_EVERY = 30, 200
SHUFFLE_BUFFER = 10_000

OURS = "mnist_vg"
TARGETS = {"TF1 session": 6, "tf.function": 14, "Keras fit": 25}
"""How many times the steps a second of the other ways ours should make, at least."""
PLAIN = "mnist_vg, no records"

Way = Callable[[Path], None]
"""Trains some steps more and logs into the folder; on return all is written."""


def this_package(dataset: Dataset, steps: int) -> dict[str, Way]:
    """`Trainer` and `run_blocks`, with `EventLog` and without.

    There is no test split, as no other way scores it.
    """
    scenario = Scenario(batch_size=BATCH, log_every=LOG_EVERY)
    trainer = make_trainer(scenario, dataset)
    trainer.compile()

    def train(folder):
        log = EventLog(folder)
        for block in run_blocks(trainer, trainer.steps_done + steps, LOG_EVERY):
            if block.tables is not None:
                scalars = {"loss/train": block.loss, "accuracy/train": block.accuracy}
                log.record(block.step, scalars, block.tables)
        log.close()

    def train_plain(folder):
        for _ in run_blocks(trainer, trainer.steps_done + steps, sys.maxsize):
            pass

    return {OURS: train, PLAIN: train_plain}


def plain_tf_function(examples: Split, steps: int) -> Way:
    """A compiled step called from a Python loop, records through eager `tf.summary`."""
    model, optimizer = Model(seed=0), keras.optimizers.Adam()
    kernels = [layer.kernel for layer in model.dense_layers]
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = loss_of(labels, logits)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        accuracy = tf.reduce_mean(keras.metrics.sparse_categorical_accuracy(labels, logits))
        # The kernels are every second variable: each is followed by its bias.
        return {"loss": loss, "accuracy": accuracy}, gradients[::2]

    batches = _batches(examples)

    def train(folder):
        with tf.summary.create_file_writer(str(folder)).as_default() as writer:
            for number, (images, labels) in enumerate(batches.take(steps)):
                scalars, gradients = step(images, labels)
                if number % LOG_EVERY == 0:
                    _common_tf.write_eagerly(number, scalars, gradients, kernels)
            writer.close()

    return train


def keras_fit(examples: Split, steps: int) -> Way:
    """`fit` with the `TensorBoard` callback, which knows of no gradients.

    All steps are one epoch, as the end of one costs Keras time; so the histograms of
    the weights are written once.
    """
    model = Model(seed=0)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss_of, metrics=["accuracy"])
    batches = _batches(examples)

    def train(folder):
        board = keras.callbacks.TensorBoard(folder, histogram_freq=1, update_freq=LOG_EVERY)
        # The pipeline has shuffled already; without a word Keras warns of it.
        model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[board])

    return train


def tf1_session(examples: Split, steps: int) -> Way:
    """The tutorial's own way: a graph, a session, and a second run for each summary."""
    tf1 = tf.compat.v1
    with tf1.Graph().as_default() as graph:
        images = tf1.placeholder(tf.float32, [None, 784])
        labels = tf1.placeholder(tf.int32, [None])
        logits, kernels = _tf1_network(images)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        right = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), labels)
        loss, accuracy = tf.reduce_mean(losses), tf.reduce_mean(tf.cast(right, tf.float32))
        optimizer = tf1.train.AdamOptimizer()
        pairs = optimizer.compute_gradients(loss)
        update = optimizer.apply_gradients(pairs)
        gradient_of = {variable.name: gradient for gradient, variable in pairs}
        _tf1_summaries(loss, accuracy, [gradient_of[kernel.name] for kernel in kernels], kernels)
        merged = tf1.summary.merge_all()
        session = tf1.Session(graph=graph)
        session.run(tf1.global_variables_initializer())
    batches = _numpy_batches(_pixels(examples), examples.labels)

    def train(folder):
        # TensorFlow 2 makes a `FileWriter` only where a graph is the default one.
        with graph.as_default(), tf1.summary.FileWriter(str(folder), graph) as writer:
            for step in range(steps):
                feed = dict(zip((images, labels), next(batches), strict=True))
                session.run([loss, update, accuracy], feed)
                if step % LOG_EVERY == 0:
                    writer.add_summary(session.run(merged, feed), step)

    return train


def _tf1_network(images):
    hidden, kernels = images, []
    for number in range(1, 7):
        # Variables of TensorFlow 1's own kind, which it had as its default.
        with tf.compat.v1.variable_scope(f"layer{number}", use_resource=False):
            glorot = tf.compat.v1.glorot_uniform_initializer()
            kernel = tf.compat.v1.get_variable("kernel", [hidden.shape[1], 10], initializer=glorot)
            zeros = tf.compat.v1.zeros_initializer()
            bias = tf.compat.v1.get_variable("bias", [10], initializer=zeros)
            sums = tf.matmul(hidden, kernel) + bias
            hidden = tf.sigmoid(sums)
            kernels.append(kernel)
    return sums, kernels


def _tf1_summaries(loss, accuracy, gradients, kernels):
    summary = tf.compat.v1.summary
    summary.scalar("loss", loss)
    summary.scalar("accuracy", accuracy)
    for number, (gradient, kernel) in enumerate(zip(gradients, kernels, strict=True), start=1):
        summary.scalar(f"gradient_mean_abs/layer{number}", tf.reduce_mean(tf.abs(gradient)))
        summary.histogram(f"gradients/layer{number}", gradient)
        summary.histogram(f"weights/layer{number}", kernel)


def _pixels(examples):
    # Scaled once, ahead of the timing, which favours the other ways: ours does it each step.
    return scaled_inputs(tf.constant(examples.inputs)).numpy()


def _batches(examples) -> tf.data.Dataset:
    dataset = tf.data.Dataset.from_tensor_slices((_pixels(examples), examples.labels))
    return dataset.shuffle(SHUFFLE_BUFFER).repeat().batch(BATCH).prefetch(tf.data.AUTOTUNE)


def _numpy_batches(images, labels) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(0)
    while True:
        order = random.permutation(len(labels))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            yield images[chosen], labels[chosen]


def seconds(train: Way) -> float:
    """How long one round takes, in a folder that is fresh."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        train(Path(folder))
        return time.perf_counter() - start


def peers(dataset: Dataset, steps: int, folder: Path) -> dict[str, Callable[[], float]]:
    """The steps a second of those that this machine has; they read their work from the folder.

    Raises:
        AssertionError: the first losses of one differ from ours by more than rounding.
    """
    weights = _peers.write_work(folder, dataset.train, steps)
    commands = {"JAX, no records": _peers.jax_script(), "C loop, no records": _peers.c_loop(folder)}
    ways = {}
    for name, command in commands.items():
        if command:
            told = _peers.train(command, folder, "sigmoid")
            _peers.check(told["first_losses"], "sigmoid", weights, dataset)
            ways[name] = lambda c=command: _peers.train(c, folder, "sigmoid")["steps_per_second"]
    return ways


def print_speeds(speeds: dict[str, list[float]]) -> None:
    """Print the table; whoever writes no records is compared with ours without them."""
    print(f"{'':20} {'steps/s':>24} {'ours over it':>20} {'target, at least':>17}")
    for name, figures in speeds.items():
        ours = speeds[OURS if name in TARGETS else PLAIN]
        ahead = ratios(ours, figures)
        cells = "" if name in (OURS, PLAIN) else f"{spread(ahead, '.2f'):>20}"
        if name in TARGETS:
            verdict = "met" if median(ahead) >= TARGETS[name] else "missed"
            cells += f" {TARGETS[name]:>17}  {verdict}"
        print(f"{name:20} {spread(figures):>24} {cells}".rstrip())


def main(rounds: int = 3, steps: int = 2500) -> None:
    """Measure and print."""
    dataset = datasets.load()
    ways = {
        **this_package(dataset, steps),
        "tf.function": plain_tf_function(dataset.train, steps),
        "Keras fit": keras_fit(dataset.train, steps),
        "TF1 session": tf1_session(dataset.train, steps),
    }
    timed = {name: lambda way=way: steps / seconds(way) for name, way in ways.items()}
    with tempfile.TemporaryDirectory() as folder:
        timed |= peers(dataset, steps, Path(folder))
        in_turn(timed, 1)  # warms every way up: what it traces and compiles is not timed
        speeds = in_turn(timed, rounds)
    print(f"{steps:,} steps, {rounds} rounds in turn: median (min–max)\n")
    print_speeds(speeds)


if __name__ == "__main__":
    run(main, __doc__, takes="2 minutes", smoke={"rounds": 1, "steps": 2})
