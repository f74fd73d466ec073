"""Batches: which examples each step takes."""

import functools

import numpy as np


@functools.lru_cache(maxsize=4)
def _shuffle(seed: int, epoch: int, examples: int) -> np.ndarray:
    # With the spawn key, this stream differs from the one that draws weights from the seed.
    sequence = np.random.SeedSequence(seed, spawn_key=(epoch,))
    return np.random.default_rng(sequence).permutation(examples).astype(np.int32)


def batch_indices(
    seed: int, examples: int, batch_size: int, first: int, last: int, partial: bool = False
) -> np.ndarray:
    """Which examples the steps `first` … `last` take, int32 `[steps, batch_size]`.

    Every epoch shuffles the examples anew. A batch at the end of an epoch takes its
    remaining examples from the next epoch, so that all batches are full and no example is
    left out. With `partial`, an epoch ends with a smaller batch of
    `examples % batch_size` examples, as in Keras' `fit`; the rest of that row is unused.

    The result depends only on the arguments. So every scenario of one seed sees the same
    batches, and a resumed run sees those that it would have seen.
    """
    positions = np.arange(first * batch_size, (last + 1) * batch_size)
    length = -(-examples // batch_size) * batch_size if partial else examples
    epochs, offsets = np.divmod(positions, length)
    indices = np.zeros(len(positions), np.int32)
    for epoch in np.unique(epochs):
        here = (epochs == epoch) & (offsets < examples)
        indices[here] = _shuffle(seed, int(epoch), examples)[offsets[here]]
    return indices.reshape(-1, batch_size)
