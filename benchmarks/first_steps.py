"""The first two steps of a `fit` with `GradientLogger` and without, in processes of their own.

In these two steps Keras traces its training step, and the logger checks data and model, and
compiles its measures. Each process has imported TensorFlow before, and starts no other `fit`.
"""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import _common_tf  # noqa: F401 - imports TensorFlow quietly
import keras
import numpy as np
from _common import in_turn, ratios, run, spread

from mnist_vg import GradientLogger

L = keras.layers
IMAGE, BATCH, CLASSES = (32, 32, 3), 16, 10
WAYS = {"plain": None, "check=False": {"check": False}, "logger": {}}
"""How `fit` is called: the arguments of the logger, if there is one."""


class Net(NamedTuple):
    """A network for small images.

    Attributes:
        title: what it is, in words.
        make: builds it, without compiling.
        jit_compile: whether XLA compiles its steps.
    """

    title: str
    make: Callable[[], keras.Model]
    jit_compile: bool = False


def vision_transformer(blocks: int = 8) -> keras.Model:
    """Blocks of 64 units and 4 heads on patches of 4 by 4 (Dosovitskiy et al. 2021)."""
    images = keras.Input(IMAGE)
    x = L.Reshape((64, 64))(L.Conv2D(64, 4, 4)(images))
    x = x + L.Embedding(64, 64)(keras.ops.arange(64))
    for _ in range(blocks):
        normal = L.LayerNormalization()(x)
        x = x + L.MultiHeadAttention(4, 16)(normal, normal)
        x = x + L.Dense(64)(L.Dense(128, "gelu")(L.LayerNormalization()(x)))
    x = L.GlobalAveragePooling1D()(L.LayerNormalization()(x))
    return keras.Model(images, L.Dense(CLASSES, "softmax")(x))


def application(kind: Callable, **options) -> keras.Model:
    """A network of Keras', with random weights."""
    return kind(input_shape=IMAGE, weights=None, classes=CLASSES, **options)


NETS = (
    Net("vision Transformer of 8 blocks", vision_transformer),
    Net("the same with XLA", vision_transformer, jit_compile=True),
    Net("MobileNetV2, alpha=0.35", lambda: application(keras.applications.MobileNetV2, alpha=0.35)),
    Net("EfficientNetB0", lambda: application(keras.applications.EfficientNetB0)),
)
TINY = Net("vision Transformer without a block", lambda: vision_transformer(0))


def seconds(title: str, way: str) -> tuple[float, float]:
    """What the first two steps of a network take, in seconds: of the clock, of all cores."""
    [net] = [net for net in (*NETS, TINY) if net.title == title]
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4 * BATCH, *IMAGE)).astype(np.float32)
    model = net.make()
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=net.jit_compile)
    begun, ended = [], []

    def now():
        return np.array([time.perf_counter(), time.process_time()])

    first = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: begun.append(now())
    )
    last = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ended.append(now())
    )
    options = WAYS[way]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None):
        logger = [] if options is None else [GradientLogger(folder, every=1000, **options)]
        model.fit(
            images,
            rng.integers(0, CLASSES, len(images)),
            batch_size=BATCH,
            steps_per_epoch=2,
            verbose=0,
            callbacks=[first, *logger, last],
        )
    wall, cores = ended[1] - begun[0]
    return float(wall), float(cores)


def seconds_apart(title: str, way: str) -> tuple[float, float]:
    """The same in a process of its own."""
    code = f"import first_steps; print(*first_steps.seconds({title!r}, {way!r}))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    *_, wall, cores = done.stdout.split()
    return float(wall), float(cores)


def main(
    rounds: int = 3,
    networks: int = 3,
    nets: Sequence[Net] = NETS,
    seconds_of: Callable = seconds_apart,
) -> None:
    """Measure and print; `--networks 4` adds EfficientNetB0."""
    print(f"The first two steps of a fit, {rounds} rounds in turn: median (min–max)")
    for net in nets[:networks]:
        ways = {way: lambda net=net, way=way: seconds_of(net.title, way) for way in WAYS}
        figures = in_turn(ways, rounds)
        print(f"\n{net.title}")
        for number, clock in enumerate(("seconds", "seconds of all cores")):
            taken = {way: [figure[number] for figure in figures[way]] for way in WAYS}
            for way in WAYS:
                over = spread(ratios(taken[way], taken["plain"]), ".2f")
                shown = f"{spread(taken[way], '.1f')} {clock}, {over} times plain"
                print(f"  {way:12} {shown}", flush=True)


if __name__ == "__main__":
    smoke = {"rounds": 1, "nets": [TINY], "seconds_of": seconds}
    run(main, __doc__, takes="8 minutes", smoke=smoke)
