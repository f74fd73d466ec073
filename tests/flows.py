"""A log folder for the tab "Gradient flow": small runs of each kind, sound and damaged."""

import dataclasses
import os
import shutil

import keras
import numpy as np
import tensorflow as tf
from conftest import without_xla

from mnist_vg import GradientLogger, Recorder, Scenario, train
from mnist_vg.runs.events import event_files, whole_records
from mnist_vg.runs.run import RUN_FILE

ODD_NAME = 'mine/50% of "ä" & <b>?#=\\'
"""A run's name with all that HTML, addresses and patterns have a use for."""

SOUND = ["exploding", "relu-seed0", "relu-seed1", "sigmoid", "my_fit", ODD_NAME]
DAMAGED = ["cut", "flipped", "unreadable"]
FOREIGN = "by_others"

MARKED = [[1e-3, 0, np.nan, 1e-6], [np.inf, 1, 1e-2, np.nan], [None] * 4, [1e-8, 1e-7, 0, 2]]
"""Gradients of the run with the odd name: a row a layer, a column a record."""


def write_flows(folder):
    """Fill a log folder."""
    scenario = Scenario(
        dataset="circles", activation="relu", num_layers=4, iterations=300, log_every=25
    )
    with without_xla():
        for name, changes in {
            "exploding": {"optimizer": "sgd", "learning_rate": 1e30},
            "relu-seed0": {},
            "relu-seed1": {"seed": 1},
            "sigmoid": {"activation": "sigmoid", "num_layers": 10},
        }.items():
            train(dataclasses.replace(scenario, name=name, **changes), folder)
    fit(folder / "my_fit")
    with Recorder(folder / ODD_NAME) as recorder:
        record(recorder, MARKED)
    with tf.summary.create_file_writer(str(folder / FOREIGN)).as_default():
        tf.summary.scalar("loss", 1.0, step=0)
    damage(folder)


def fit(folder):
    """A fit of somebody's own model with long names, and with all measures."""
    names = [f"encoder_block_{n}_projection" for n in range(1, 8)]
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(4, "tanh", name=name) for name in names]
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(1, name="head")])
    model.compile("adam", "mse", jit_compile=False)
    logger = GradientLogger(folder, every=2, measures="full")
    inputs = np.random.default_rng(0).normal(size=(80, 3))
    model.fit(inputs, inputs[:, :1], batch_size=8, verbose=0, callbacks=[logger])


def record(recorder, gradients, first=0):
    """Record gradients of layers with one weight each.

    Args:
        recorder: of the run.
        gradients: `[layers, records]`; None for a layer that gets none.
        first: the step of the first of these records.
    """
    variables = [tf.Variable([[0.5]], name=f"layer{n + 1}/kernel") for n in range(len(gradients))]
    for step, column in enumerate(zip(*gradients, strict=True), first):
        given = [None if value is None else tf.constant([[value]], tf.float32) for value in column]
        recorder.record(step, given, variables, loss=1.0)


def damage(folder):
    """Add copies of a finished run that were damaged long ago."""
    for name in DAMAGED:
        shutil.copytree(folder / "relu-seed0", folder / name)
    [cut] = event_files(folder / "cut")
    os.truncate(cut, cut.stat().st_size // 2)
    [flipped] = event_files(folder / "flipped")
    _, middle = whole_records(flipped, 0, flipped.stat().st_size // 2)
    content = bytearray(flipped.read_bytes())
    content[middle : middle + 8] = bytes(255 - byte for byte in content[middle : middle + 8])
    flipped.write_bytes(content)
    (folder / "unreadable" / RUN_FILE).write_text('{"status": "fin')
    for name in DAMAGED:
        os.utime(folder / name / RUN_FILE, (0, 0))
