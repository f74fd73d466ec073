"""`fit` with `GradientLogger` over `fit` without, for four kinds of network.

Time is that of a training step as Keras' callbacks see it, logging included: its median over
the steps of a fit, the first ones of which are left out. The first step, in which TensorFlow
traces and XLA compiles, is printed beside it. Memory is the peak of a process over that of a
process that trains without a logger. Both have recorded a tiny network before, so that no
library is counted.
"""

import contextlib
import functools
import subprocess
import sys
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

from mnist_vg import GradientLogger

L = keras.layers
EVERY = 4
"""Steps from one record to the next. The others show what a step that is not recorded costs."""
WARM_UP = 2 * EVERY
"""Steps at the start of a fit that are not timed."""
MEASURES = ("default", "full")
NOT_RECORDED = 1.02
"""A step that is not recorded over a plain one, at most."""
RECORDED = (2.0, 1.3)
"""A recorded step over a plain one, at most, without and with XLA."""


class Net(NamedTuple):
    """A network and what it reads.

    Attributes:
        title: what it is, in words.
        make: builds it, without compiling.
        batch: makes the inputs of a step from a random generator; examples come first.
        steps: of a timed fit, a multiple of `EVERY`.
        ways: whether it is compiled with XLA, in turn.
    """

    title: str
    make: Callable[[], keras.Model]
    batch: Callable[[np.random.Generator], np.ndarray]
    steps: int = 5 * EVERY
    ways: tuple[bool, ...] = (False, True)


def transformer() -> keras.Model:
    """Four encoder layers of 256 units (Vaswani et al. 2017), 8 heads, words of a small table."""
    words = keras.Input((None,), dtype="int32")
    x = L.Embedding(1000, 256)(words)
    for _ in range(4):
        x = L.LayerNormalization()(x + L.MultiHeadAttention(8, 32)(x, x))
        x = L.LayerNormalization()(x + L.Dense(256)(L.Dense(1024, "relu")(x)))
    return keras.Model(words, L.Dense(10)(L.GlobalAveragePooling1D()(x)))


def convnet() -> keras.Model:
    """Six convolutions with batch normalization, for images of 32 by 32."""
    layers = [keras.Input((32, 32, 3))]
    for filters in (32, 64, 128):
        for _ in range(2):
            layers += [L.Conv2D(filters, 3, padding="same"), L.BatchNormalization(), L.ReLU()]
        layers.append(L.MaxPooling2D())
    return keras.Sequential([*layers, L.GlobalAveragePooling2D(), L.Dense(10)])


def embedding(rows: int = 10**6) -> keras.Model:
    """A table of a million rows, 64 wide."""
    layers = [L.Embedding(rows, 64), L.GlobalAveragePooling1D(), L.Dense(64, "relu")]
    return keras.Sequential([keras.Input((16,), dtype="int32"), *layers, L.Dense(10)])


def text() -> keras.Model:
    """A convolution over words."""
    layers = [L.Embedding(1000, 64), L.Conv1D(64, 3, padding="same", activation="relu")]
    layers += [L.GlobalMaxPooling1D(), L.Dense(64, "relu"), L.Dense(10)]
    return keras.Sequential([keras.Input((None,), dtype="int32"), *layers])


def of_many_lengths(rng: np.random.Generator) -> np.ndarray:
    """Thirty-two texts of 20 to 200 words, all of one batch of the same length."""
    return rng.integers(0, 1000, (32, rng.integers(20, 201)))


NETS = (
    Net(
        "Transformer, 3.4 million weights, 16 texts of 64 words",
        transformer,
        lambda rng: rng.integers(0, 1000, (16, 64)),
    ),
    Net(
        "Convnet, 32 images of 32 by 32",
        convnet,
        lambda rng: rng.random((32, 32, 32, 3), np.float32),
    ),
    Net(
        "Embedding of 244 MiB, 128 examples of 16 words",
        embedding,
        lambda rng: rng.integers(0, 10**6, (128, 16)),
    ),
    # XLA compiles the whole step for each length, with and without a logger.
    Net("Text of many lengths", text, of_many_lengths, steps=20 * EVERY, ways=(False,)),
)
TINY = Net("tiny", lambda: embedding(10), lambda rng: rng.integers(0, 10, (8, 16)), EVERY)


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


class Bench:
    """A network, and fits of it."""

    def __init__(self, net: Net, jit_compile: bool):
        self.model = net.make()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile("adam", loss, jit_compile=jit_compile)
        rng = np.random.default_rng(0)
        batches = [net.batch(rng) for _ in range(net.steps + WARM_UP)]
        self._data = [(inputs, rng.integers(0, 10, len(inputs))) for inputs in batches]

    def fit(self, *callbacks) -> list[float]:
        """Seconds of each step."""
        inputs, labels = (
            tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in self._data[0]
        )
        if self.model.input_shape[1] is None:
            inputs = tf.TensorSpec([None, None], inputs.dtype)
        data = tf.data.Dataset.from_generator(
            lambda: iter(self._data), output_signature=(inputs, labels)
        ).repeat()
        timer = Timer()
        # The labels are random: what the logger says of the training is true and beside the point.
        with contextlib.redirect_stdout(None):
            self.model.fit(
                data,
                steps_per_epoch=len(self._data),
                shuffle=False,
                verbose=0,
                callbacks=[timer, *callbacks, timer.last],
            )
        return timer.seconds

    def plain(self) -> tuple[float, float]:
        """Seconds of the first step, and of a later one."""
        first, *seconds = self.fit()
        return first, median(seconds[WARM_UP - 1 :])

    def logged(self, logger: GradientLogger) -> tuple[float, float, float]:
        """Seconds of the first step, of one that is not recorded, and of one that is."""
        seconds = self.fit(logger)
        timed = list(enumerate(seconds))[WARM_UP:]
        by_kind = [[s for step, s in timed if bool(step % EVERY) is kind] for kind in (True, False)]
        return seconds[0], *map(median, by_kind)


def peak(title: str, jit_compile: bool, measures: str, folder: str) -> float:
    """Peak memory of this process in some steps over that before them, MiB."""

    def high_water():
        [line] = [x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x]
        return int(line.split()[1]) / 1024

    def logger(measures):
        return GradientLogger(tempfile.mkdtemp(dir=folder), every=1, measures=measures)

    Bench(TINY, jit_compile).fit(logger("full"))
    before = high_water()
    [net] = [net for net in (*NETS, TINY) if net.title == title]
    Bench(net._replace(steps=2), jit_compile).fit(*[logger(measures)] if measures else [])
    return high_water() - before


def peak_apart(*arguments) -> float:
    """The same in a process of its own: TensorFlow keeps memory that it has had."""
    code = f"import callback; print(callback.peak(*{arguments!r}))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    return float(done.stdout.split()[-1])


def against(figures: list[float], limit: float) -> str:
    """Ratios, and whether they keep to a limit."""
    verdict = "met" if median(figures) <= limit else "missed"
    return f"{spread(figures, '.2f')}  target {limit} at most: {verdict}"


def measure(net: Net, jit_compile: bool, rounds: int, folder: str, peak_of: Callable) -> None:
    """Measure one network, and print."""
    bench = Bench(net, jit_compile)
    ways: dict[str, Callable] = {"plain": bench.plain}
    for measures in MEASURES:
        logger = GradientLogger(tempfile.mkdtemp(dir=folder), every=EVERY, measures=measures)
        ways[measures] = functools.partial(bench.logged, logger)
    first = {way: seconds for way, [[seconds, *_]] in in_turn(ways, 1).items()}
    figures = in_turn(ways, rounds)
    plain = [seconds for _, seconds in figures["plain"]]
    xla = "XLA" if jit_compile else "no XLA"
    print(f"\n{net.title}, {xla}: a step {spread([1000 * s for s in plain], '.1f')} ms")
    for measures in MEASURES:
        _, not_recorded, recorded = zip(*figures[measures], strict=True)
        shown = against(ratios(not_recorded, plain), NOT_RECORDED)
        print(f"  {measures:8} not recorded  {shown}")
        shown = against(ratios(recorded, plain), RECORDED[jit_compile])
        print(f"  {measures:8} recorded      {shown}")
    shown = ", ".join(f"{way} {seconds:.1f} s" for way, seconds in first.items())
    print(f"  first step    {shown}, once each")
    peaks = {way: peak_of(net.title, jit_compile, way, folder) for way in ("", *MEASURES)}
    extra = ", ".join(f"{way} {peaks[way] - peaks['']:.0f} MiB" for way in MEASURES)
    largest = max(v.numpy().nbytes for v in bench.model.trainable_variables) / 2**20
    print(f"  extra memory  {extra}, once each; the largest gradient: {largest:.0f} MiB")


def main(rounds: int = 3, nets: Sequence[Net] = NETS, peak_of: Callable = peak_apart) -> None:
    """Measure and print."""
    print(f"Steps over plain steps, {rounds} rounds in turn: median (min–max)")
    with tempfile.TemporaryDirectory() as folder:
        for net in nets:
            for jit_compile in net.ways:
                measure(net, jit_compile, rounds, folder, peak_of)


if __name__ == "__main__":
    smoke = {"rounds": 1, "nets": [TINY._replace(ways=(False,))], "peak_of": peak}
    run(main, __doc__, takes="20 minutes", smoke=smoke)
