"""Healthy trainings of real architectures: each learns what there is to learn.

Each case builds a model, trains it on data made from a seed, and says what it has reached.
"""

import _common_tf  # noqa: F401 - imports TensorFlow quietly
import keras
import numpy as np
from _runs_log import Log, reached
from keras import layers as L

HEALTHY = {}
"""Every case, by its name."""


def healthy(case):
    """Make a function a case."""
    HEALTHY[case.__name__] = case
    return case


@healthy
def dense_classifier(log: Log) -> str:
    """Three Gaussian blobs; they hardly overlap."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 600)
    x = (2 * np.eye(3)[y] + rng.normal(size=(600, 3)) / 2).astype(np.float32)
    model = keras.Sequential([keras.Input((3,)), L.Dense(16, "relu"), L.Dense(3, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=20, verbose=0, callbacks=[log.callback()])
    return reached("accuracy", model.evaluate(x, y, verbose=0)[1], nothing=1 / 3, goal=0.9)
