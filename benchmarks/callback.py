"""`fit` with `GradientLogger` over `fit` without, and over the workaround that it replaces.

The workaround is the callback that people write: a tape of its own on a batch, and
`tf.summary.histogram` of every gradient and weight. Time is that of a training step as
Keras' callbacks see it, logging included: its median over the steps of a fit, the first
ones of which compile and are left out. Memory is the peak of the process over that of
plain training, once everything is compiled.
"""

import contextlib
import functools
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import _common_tf  # noqa: F401 - imports TensorFlow quietly
import keras
import numpy as np
import tensorflow as tf
from _common import in_turn, ratios, run, spread

from mnist_vg import GradientLogger, Model

RNG = np.random.default_rng(0)
EVERY = (200, 10, 1)

NOT_LOGGED = 1.02
"""A step that is not logged over a plain one, at most."""


class Net(NamedTuple):
    """A network and how it is measured.

    Attributes:
        title: what it is, in words.
        make: builds it, without compiling.
        shape: of an input.
        batch: examples a step.
        steps: of a timed fit: enough for a median, few enough for a coffee.
        every: values of the logger's `every`, without and with XLA.
        logged: a logged step over a plain one, at most, without and with XLA.
        memory: whether peaks of memory are compared, too.
    """

    title: str
    make: Callable[[], keras.Model]
    shape: tuple[int, ...]
    batch: int
    steps: int
    every: tuple[tuple[int, ...], tuple[int, ...]] = (EVERY, EVERY)
    logged: tuple[float | None, float | None] = (None, None)
    memory: bool = False


def dense(layers: int, units: int) -> keras.Model:
    """ReLU layers, and one of the logits."""
    hidden = [keras.layers.Dense(units, "relu") for _ in range(layers)]
    return keras.Sequential([keras.Input((784,)), *hidden, keras.layers.Dense(10)])


def mobilenet() -> keras.Model:
    """MobileNetV2."""
    return keras.applications.MobileNetV2(
        (96, 96, 3), weights=None, classes=10, classifier_activation=None
    )


NETS = (
    Net("The tutorial's network, batches of 32.", lambda: Model(seed=0), (784,), 32, steps=400),
    Net(
        "22.6 million parameters, 2,048 units a layer, batches of 128.",
        lambda: dense(6, 2048),
        (784,),
        128,
        steps=24,
        logged=(2.0, 1.3),
        memory=True,
    ),
    Net(
        "MobileNetV2, images of 96 by 96, batches of 8.",
        mobilenet,
        (96, 96, 3),
        8,
        steps=12,
        every=(EVERY, (1,)),  # XLA takes a minute over each of its programs.
    ),
)

WARM_UP = 3
"""Steps at the start of a fit that are not timed."""


class Timer(keras.callbacks.Callback):
    """Stands first and last among the callbacks, and times what is between."""

    def __init__(self):
        super().__init__()
        self.seconds = []
        self.last = keras.callbacks.LambdaCallback(on_train_batch_end=self._end)

    def on_train_batch_begin(self, batch, logs=None):
        """Start."""
        self._start = time.perf_counter()

    def _end(self, batch, logs):
        self.seconds.append(time.perf_counter() - self._start)


class Workaround(keras.callbacks.Callback):
    """A second backward pass and eager summaries, after every step."""

    def __init__(self, folder, inputs, labels):
        super().__init__()
        self._writer = tf.summary.create_file_writer(str(folder))
        self._inputs, self._labels = inputs, labels

    def on_train_batch_end(self, batch, logs=None):
        """Log."""
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            loss = self.model.loss(self._labels, self.model(self._inputs, training=True))
        gradients = tape.gradient(loss, variables)
        with self._writer.as_default(step=batch):
            for variable, gradient in zip(variables, gradients, strict=True):
                tf.summary.histogram(f"gradients/{variable.path}", gradient)
                tf.summary.histogram(f"weights/{variable.path}", variable.value)
        self._writer.flush()


class Bench:
    """A network, and ways to take steps with it."""

    def __init__(self, net: Net, jit_compile: bool, folder: Path):
        self.model, self._batch, self._steps = net.make(), net.batch, net.steps
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile("adam", loss, jit_compile=jit_compile)
        examples = (self._steps + WARM_UP) * self._batch
        self._inputs = RNG.random((examples, *net.shape), dtype=np.float32)
        self._labels = RNG.integers(0, 10, examples)
        self._folder = folder

    def plain(self) -> float:
        """Seconds of a step without a logger."""
        return median(self._fit()[WARM_UP:])

    def logged(self, logger: GradientLogger, every: int) -> list[float | None]:
        """Seconds of a step that is not logged, and of one that is, each None without any."""
        first = int(self.model.optimizer.iterations.numpy())
        timed = list(enumerate(self._fit(logger), first))[WARM_UP:]
        not_logged = [seconds for step, seconds in timed if step % every]
        logged = [seconds for step, seconds in timed if not step % every]
        return [median(seconds) if seconds else None for seconds in (not_logged, logged)]

    def workaround(self) -> float:
        """Seconds of a step with the workaround after it."""
        batch = slice(self._batch)
        folder = tempfile.mkdtemp(dir=self._folder)
        callback = Workaround(folder, self._inputs[batch], self._labels[batch])
        return median(self._fit(callback, steps=3)[1:])

    def peak(self, *callbacks) -> float:
        """Peak memory of some steps, MiB."""
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak back
        self._fit(*callbacks, steps=3)
        [line] = [x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x]
        return int(line.split()[1]) / 1024

    def _fit(self, *callbacks, steps=None):
        timer = Timer()
        examples = self._batch * (steps or self._steps + WARM_UP)
        # The labels are random: what the logger says of the training is true and beside the point.
        with contextlib.redirect_stdout(None):
            self.model.fit(
                self._inputs[:examples],
                self._labels[:examples],
                batch_size=self._batch,
                verbose=0,
                callbacks=[timer, *callbacks, timer.last],
            )
        return timer.seconds


def against(figures: list[float], limit: float | None) -> str:
    """Ratios, and whether they keep to a limit."""
    if limit is None:
        return spread(figures, ".2f")
    verdict = "met" if median(figures) <= limit else "missed"
    return f"{spread(figures, '.2f')}  target {limit} at most: {verdict}"


def measure(net: Net, jit_compile: bool, rounds: int, folder: Path) -> None:
    """Measure one network, and print."""
    bench = Bench(net, jit_compile, folder)
    limits = {"not logged": NOT_LOGGED, "logged": net.logged[jit_compile]}
    ways = {"plain": bench.plain}
    loggers = {
        every: GradientLogger(Path(tempfile.mkdtemp(dir=folder)), every=every)
        for every in net.every[jit_compile]
    }
    ways |= {
        f"every={every}": functools.partial(bench.logged, logger, every)
        for every, logger in loggers.items()
    }
    ways["workaround"] = bench.workaround
    in_turn(ways, 1)  # compiles
    figures = in_turn(ways, rounds)
    plain = figures["plain"]
    xla = "XLA" if jit_compile else "no XLA"
    print(f"\n{net.title} {xla}: a step {spread([1000 * s for s in plain], '.2f')} ms")
    for every in loggers:
        not_logged, logged = zip(*figures[f"every={every}"], strict=True)
        for name, seconds in {"not logged": not_logged, "logged": logged}.items():
            if None not in seconds:
                shown = against(ratios(seconds, plain), limits[name])
                print(f"  every={every:<4} {name:10} {shown}")
    print(f"  workaround            {spread(ratios(figures['workaround'], plain), '.1f')}")
    if net.memory:
        peaks = in_turn({"plain": bench.peak, "logger": lambda: bench.peak(loggers[1])}, rounds)
        extra = [a - b for a, b in zip(peaks["logger"], peaks["plain"], strict=True)]
        largest = max(v.numpy().nbytes for v in bench.model.trainable_variables) / 2**20
        print(f"  extra peak memory {spread(extra, '.0f')} MiB; largest gradient {largest:.0f} MiB")


def main(rounds: int = 3, nets: Sequence[Net] = NETS) -> None:
    """Measure and print."""
    print(f"Steps over plain steps, {rounds} rounds in turn: median (min–max)")
    with tempfile.TemporaryDirectory() as folder:
        for net in nets:
            for jit_compile in (False, True):
                measure(net, jit_compile, rounds, Path(folder))


if __name__ == "__main__":
    tiny = Net("tiny", lambda: dense(1, 8), (784,), 8, steps=1, every=((1,), (1,)), memory=True)
    run(main, __doc__, takes="20 minutes", smoke={"rounds": 1, "nets": [tiny]})
