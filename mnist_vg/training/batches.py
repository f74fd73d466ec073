"""Which examples each step takes."""

import functools

import numpy as np


@functools.lru_cache(maxsize=4)
def _shuffle(seed: int, epoch: int, examples: int) -> np.ndarray:
    # The spawn key keeps this stream apart from the layers' draws of the same seed.
    sequence = np.random.SeedSequence(seed, spawn_key=(epoch,))
    return np.random.default_rng(sequence).permutation(examples).astype(np.int32)


def batch_indices(
    seed: int, examples: int, batch_size: int, first: int, last: int, partial: bool = False
) -> np.ndarray:
    """Which examples the steps `first` … `last` take, int32 `[steps, batch_size]`.

    Each epoch is a new shuffle without replacement. Epochs are joined: a batch at an
    epoch's end goes on into the next, so all are full and no example is left out. With
    `partial` an epoch ends with the batch that is left, `examples % batch_size` of
    them, as in Keras' `fit`; what follows them in such a row means nothing.

    A function of its arguments alone: every scenario of one seed sees the same
    batches, and a resumed run those that it would have seen.
    """
    # Steps of an epoch of whole rows, or as if all epochs were one.
    positions = np.arange(first * batch_size, (last + 1) * batch_size)
    length = -(-examples // batch_size) * batch_size if partial else examples
    epochs, offsets = np.divmod(positions, length)
    indices = np.zeros(len(positions), np.int32)
    for epoch in np.unique(epochs):
        here = (epochs == epoch) & (offsets < examples)
        indices[here] = _shuffle(seed, int(epoch), examples)[offsets[here]]
    return indices.reshape(-1, batch_size)
