"""`fit` with `GradientLogger` over `fit` without, and over the workaround that it replaces.

The workaround is the callback that people write: a tape of its own on a batch, and
`tf.summary.histogram` of every gradient and weight. Time is that of a training step as
Keras' callbacks see it, logging included: its median over the steps of a fit, the first
ones of which compile and are left out. Memory is the peak of the process over that of
plain training, once everything is compiled.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import _common_tf  # noqa: F401 - imports TensorFlow quietly
import keras
import numpy as np
import tensorflow as tf
from _common import in_turn, ratios, spread

from mnist_vg import GradientLogger, Model

RNG = np.random.default_rng(0)
WARM_UP = 3
"""Steps at the start of a fit that are not timed."""


def seven_layers():
    """The tutorial's network, batches of 32."""
    return Model(seed=0), (784,), 32, 10


def wide():
    """22.6 million parameters, 2,048 units a layer, batches of 128."""
    hidden = [keras.layers.Dense(2048, "relu") for _ in range(6)]
    model = keras.Sequential([keras.Input((784,)), *hidden, keras.layers.Dense(10)])
    return model, (784,), 128, 10


def mobilenet():
    """MobileNetV2, images of 96 by 96, batches of 8."""
    model = keras.applications.MobileNetV2(
        (96, 96, 3), weights=None, classes=10, classifier_activation=None
    )
    return model, (96, 96, 3), 8, 10


NETS = {"seven layers": seven_layers, "wide": wide, "MobileNetV2": mobilenet}
STEPS = {"seven layers": 400, "wide": 24, "MobileNetV2": 12}
"""Steps of a timed fit: enough for a median, few enough for a coffee."""

EVERY = (200, 10, 1)

NOT_LOGGED = 1.02
"""A step that is not logged over a plain one, at most."""

WIDE_LOGGED = {"XLA": 1.3, "no XLA": 2.0}
"""A logged step of the wide network over a plain one, at most."""


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

    def __init__(self, net: str, jit_compile: bool, folder: Path):
        self.model, shape, self._batch, classes = NETS[net]()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile("adam", loss, jit_compile=jit_compile)
        self._steps = STEPS[net]
        examples = (self._steps + WARM_UP) * self._batch
        self._inputs = RNG.random((examples, *shape), dtype=np.float32)
        self._labels = RNG.integers(0, classes, examples)
        self._folder = folder

    def plain(self) -> float:
        """Seconds of a step without a logger."""
        return median(self._fit()[WARM_UP:])

    def logger(self, every: int):
        """A way that gives `(seconds of a step not logged, of one logged)`."""
        logger = GradientLogger(Path(tempfile.mkdtemp(dir=self._folder)), every=every)

        def way():
            first = int(self.model.optimizer.iterations.numpy())
            timed = list(enumerate(self._fit(logger), first))[WARM_UP:]
            not_logged = [seconds for step, seconds in timed if step % every]
            logged = [seconds for step, seconds in timed if not step % every]
            return [median(seconds) if seconds else None for seconds in (not_logged, logged)]

        return way

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


def measure(net: str, jit_compile: bool, rounds: int, folder: Path) -> None:
    """Measure one network, and print."""
    bench = Bench(net, jit_compile, folder)
    # XLA takes a minute over each of MobileNetV2's programs.
    often = (1,) if net == "MobileNetV2" and jit_compile else EVERY
    ways = {"plain": bench.plain}
    ways |= {f"every={every}": bench.logger(every) for every in often}
    ways["workaround"] = bench.workaround
    in_turn(ways, 1)  # compiles
    figures = in_turn(ways, rounds)
    plain = figures["plain"]
    xla = "XLA" if jit_compile else "no XLA"
    print(f"\n{NETS[net].__doc__} {xla}: a step {spread([1000 * s for s in plain], '.2f')} ms")
    for every in often:
        not_logged, logged = zip(*figures[f"every={every}"], strict=True)
        limits = {"not logged": NOT_LOGGED, "logged": WIDE_LOGGED[xla] if net == "wide" else None}
        for name, seconds in {"not logged": not_logged, "logged": logged}.items():
            if None not in seconds:
                shown = against(ratios(seconds, plain), limits.get(name))
                print(f"  every={every:<4} {name:10} {shown}")
    print(f"  workaround            {spread(ratios(figures['workaround'], plain), '.1f')}")
    if net == "wide":
        logger = GradientLogger(Path(tempfile.mkdtemp(dir=folder)), every=1)
        bench.peak(logger)  # compiles
        peaks = in_turn({"plain": bench.peak, "logger": lambda: bench.peak(logger)}, rounds)
        extra = [a - b for a, b in zip(peaks["logger"], peaks["plain"], strict=True)]
        largest = max(v.numpy().nbytes for v in bench.model.trainable_variables) / 2**20
        print(f"  extra peak memory {spread(extra, '.0f')} MiB; largest gradient {largest:.0f} MiB")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds that are timed [3]")
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    arguments = parser.parse_args()
    print(f"Steps over plain steps, {arguments.rounds} rounds in turn: median (min–max)")
    with tempfile.TemporaryDirectory() as folder:
        for net in arguments.nets:
            for jit_compile in (False, True):
                measure(net, jit_compile, arguments.rounds, Path(folder))


if __name__ == "__main__":
    main()
