"""When recurrent layers learn what comes early, by the gradient through time before training.

Ten words tell the class. Behind them come steps of padding, which no mask hides, or other words.
The second table has a series, and recurrent weights that are a multiple of an orthogonal matrix.
The thresholds of `check` and of the diagnosis lie between what learned and what did not.
"""

from collections.abc import Callable, Sequence

import _common_tf  # noqa: F401 - imports TensorFlow quietly
import keras
import numpy as np
from _common import run
from keras import layers as L

from mnist_vg.checks.batches import look_at_data
from mnist_vg.checks.look import Look, Time

ROWS, WORDS, UNITS = 1024, 10, 16


def orthogonal(gain: float) -> keras.initializers.Orthogonal:
    """A multiple of an orthogonal matrix."""
    return keras.initializers.Orthogonal(gain)


LAYERS: dict[str, Callable[[], keras.layers.RNN]] = {
    "LSTM": lambda: L.LSTM(UNITS),
    "GRU": lambda: L.GRU(UNITS),
    "SimpleRNN": lambda: L.SimpleRNN(UNITS),
}


def words(steps: int, padding: bool) -> tuple[np.ndarray, np.ndarray]:
    """Words of which three in four are of the example's class, with steps behind them."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 2, ROWS)
    right = rng.random((ROWS, WORDS)) < 0.75
    told = np.where(right, classes[:, None], 1 - classes[:, None])
    told = 1 + 10 * told + rng.integers(0, 10, told.shape)
    behind = np.zeros((ROWS, steps), int) if padding else rng.integers(1, 21, (ROWS, steps))
    return np.concatenate([told, behind], axis=1), classes.astype(np.float32)


def series(steps: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Noise, with the sign of the sum of its last five steps as the class."""
    x = np.random.default_rng(0).normal(size=(ROWS, steps, 4)).astype(np.float32)
    return x, (x[:, -5:, 0].sum(axis=1) > 0).astype(np.float32)


def learned(layers: Sequence[L.Layer], x, y, epochs: int) -> tuple[Time, float]:
    """What a check measures of the recurrent layer, and the accuracy after the last epoch."""
    inputs = keras.Input(x.shape[1:], dtype=x.dtype.name)
    model = keras.Sequential([inputs, *layers, L.Dense(1, "sigmoid")])
    optimizer = keras.optimizers.Adam(3e-3)
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"], jit_compile=False)
    data = look_at_data(x, y, None)
    look = Look(model, data.batches, data.all_targets)
    look.build()
    [time] = look.steps().times.values()
    history = model.fit(x, y, batch_size=32, epochs=epochs, verbose=0).history
    return time, history["accuracy"][-1]


def main(
    names: Sequence[str] = tuple(LAYERS),
    lengths: Sequence[int] = (20, 50, 100),
    gains: Sequence[float] = (1, 1.5, 2, 3),
    epochs: int = 16,
) -> None:
    """Measure, train and print."""
    print(
        "| Layer | Steps behind the words | log10 of the gradient, first step to last | "
        "before the padding to last | Accuracy | with words instead of padding |"
    )
    print("|---|---|---|---|---|---|")
    for name in names:
        for steps in lengths:
            row = []
            for padding in (True, False):
                keras.backend.clear_session()
                keras.utils.set_random_seed(1)
                embedding = L.Embedding(21, 8)
                row.append(learned([embedding, LAYERS[name]()], *words(steps, padding), epochs))
            (time, accuracy), (_, other) = row
            print(
                f"| {name} | {steps} | {time.first_to_last:.1f} | {time.before_tail:.1f} | "
                f"{accuracy:.2f} | {other:.2f} |",
                flush=True,
            )
    print("\n| Recurrent weights | log10 of the gradient, first step to last | Accuracy |")
    print("|---|---|---|")
    for gain in gains:
        keras.backend.clear_session()
        keras.utils.set_random_seed(1)
        layer = L.SimpleRNN(32, recurrent_initializer=orthogonal(gain))
        time, accuracy = learned([layer], *series(), epochs)
        print(f"| {gain} · orthogonal | {time.first_to_last:.1f} | {accuracy:.2f} |", flush=True)


if __name__ == "__main__":
    smoke = {"names": ["GRU"], "lengths": [5], "gains": [1], "epochs": 1}
    run(main, __doc__, takes="10 minutes", smoke=smoke)
