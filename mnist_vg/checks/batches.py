"""From what `fit` takes to the few batches that are looked at."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from mnist_vg.errors import UsageError, first_line

BATCHES = 8
"""Batches that go through the model. A unit that answers to 2% of all examples answers to none of
256 with a probability of 0.6%, so hardly any living unit is taken for dead."""

BATCH_SIZE = 32
"""Examples in a batch of arrays: the default of Keras' `fit`."""

VALUE_BATCHES = 32
"""Batches of a dataset of which the values are looked at: a thousand examples in Keras' default."""

MOST_BYTES = 2**28
"""Size of the arrays in a data set that is copied at most, in bytes; measured, a copy takes six
times as much memory for a moment."""

VALUE_BYTES = 2**27
"""Size of these batches at most, in bytes, beside those that go through the model."""


class Batch(NamedTuple):
    """Inputs, targets and weights of some examples, as a `train_step` gets them."""

    x: Any
    y: Any
    sample_weight: Any


class Data(NamedTuple):
    """What is known of the data.

    Attributes:
        batches: at most `BATCHES`, which go through the model.
        inputs: by name, all values that were looked at: one array a batch, or whole arrays.
        targets: the same for the targets.
        all_targets: the targets of all examples as they were given; None if they are not known.
        looked: what was looked at, in words.
    """

    batches: list[Batch]
    inputs: dict[str, list[np.ndarray]]
    targets: dict[str, list[np.ndarray]]
    all_targets: Any
    looked: str


def look_at_data(x, y=None, sample_weight=None) -> Data:
    """Take a few batches out of what `fit` takes as x, y and sample_weight.

    Of arrays, the batches are spread over all rows, since files are often sorted by label. Of
    anything else they are the first. A `tf.data.Dataset` is copied, so that the order in
    which it shuffles later stays what it was.

    Raises:
        UsageError: there is no example, the numbers of rows differ, or x cannot be read twice.
    """
    if isinstance(x, (tf.data.Dataset, keras.utils.PyDataset)):
        if y is not None or sample_weight is not None:
            raise UsageError(f"y: {type(x).__name__} gives the targets itself; leave y out")
        return _from_batches(x)
    if isinstance(x, Iterator) or not keras.tree.flatten(x):
        raise UsageError(
            f"x: {type(x).__name__} cannot be read twice; give arrays, a tf.data.Dataset or a "
            "keras.utils.PyDataset"
        )
    return _from_arrays(x, y, sample_weight)


def _from_batches(x):
    taken = _copied(x) if isinstance(x, tf.data.Dataset) else _batches_of(x)
    unpacked, size = [], 0
    for batch in itertools.islice(taken, VALUE_BATCHES):
        unpacked.append(Batch(*keras.utils.unpack_x_y_sample_weight(batch)))
        size += sum(part.nbytes for part in _named(unpacked[-1].x, "").values())
        if size > VALUE_BYTES and len(unpacked) >= BATCHES:
            break
    if not unpacked:
        raise UsageError(f"x: this {type(x).__name__} has no batch")
    named = [(_named(batch.x, "x"), _named(batch.y, "y")) for batch in unpacked]
    inputs, targets = ({name: [p[i][name] for p in named] for name in named[0][i]} for i in (0, 1))
    through = unpacked[:BATCHES]
    looked = (
        f"the values of the first {len(unpacked)} batches, and {len(through)} of them through the "
        "model"
    )
    return Data(through, inputs, targets, _joined_rows(unpacked), looked)


def _joined_rows(batches):
    """The targets of all batches, one after the other; None if they are no arrays of one shape."""
    trees = [batch.y for batch in batches]
    try:
        return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *trees)
    except (TypeError, ValueError):  # Ragged or sparse tensors, or sequences of many lengths.
        return None


def _batches_of(dataset):
    numbers = range(dataset.num_batches) if dataset.num_batches else itertools.count()
    return (dataset[number] for number in numbers)


def arrays_behind(dataset: tf.data.Dataset):
    """The arrays that `fit` was given, as they are behind the data set that Keras makes of them.

    Returns:
        Their structure, as a batch has it, without copies; None if there are no such arrays.
    """
    for inner in _behind(dataset):
        tensors = getattr(inner, "_tensors", None)
        if type(inner).__name__ == "_TensorDataset" and tensors and _is_batch_of(inner, dataset):
            return tf.nest.pack_sequence_as(inner.element_spec, [np.asarray(t) for t in tensors])
    return None


def _is_batch_of(whole, dataset):
    try:
        tf.nest.assert_same_structure(whole.element_spec, dataset.element_spec)
    except (TypeError, ValueError):
        return False
    pairs = zip(*map(tf.nest.flatten, (whole.element_spec, dataset.element_spec)), strict=True)
    return all(
        isinstance(one, tf.TensorSpec)
        and one.dtype == other.dtype
        and one.shape[1:] == other.shape[1:]
        for one, other in pairs
    )


def bytes_behind(dataset: tf.data.Dataset) -> int:
    """The size of all arrays that a data set holds. A copy holds them several times."""
    tensors = [t for inner in _behind(dataset) for t in getattr(inner, "_tensors", None) or ()]
    return sum(t.shape.num_elements() * t.dtype.size for t in tensors if t.shape.is_fully_defined())


def _behind(dataset):
    yield dataset
    for inner in dataset._inputs():
        yield from _behind(inner)


def calls_python(dataset: tf.data.Dataset) -> bool:
    """Whether a dataset takes its elements from Python, so that to read it changes something."""
    return any("PyFunc" in node.op for node in _nodes(_graph_of(dataset)))


def _graph_of(dataset):
    graph = tf.raw_ops.DatasetToGraphV2(
        input_dataset=tf.data.experimental.to_variant(dataset), external_state_policy=1
    )
    return tf.compat.v1.GraphDef.FromString(graph.numpy())


def _nodes(graph):
    return [*graph.node, *(node for f in graph.library.function for node in f.node_def)]


def _copied(dataset):
    """The same dataset with a state of its own: shuffling one leaves the other as it is."""
    copy = _graph_of(dataset)
    for node in _nodes(copy):
        if node.op == "ShuffleDatasetV3":  # Its last input is the state that counts epochs.
            node.op = "ShuffleDataset"
            del node.input[4:]
    variant = tf.raw_ops.DatasetFromGraph(graph_def=copy.SerializeToString())
    return tf.data.experimental.from_variant(variant, dataset.element_spec)


def _from_arrays(x, y, sample_weight):
    try:
        whole = Batch(*(_mapped(np.asarray, part) for part in (x, y, sample_weight)))
    except (TypeError, ValueError) as error:
        raise UsageError(f"x: no array ({first_line(error)}); give a tf.data.Dataset") from error
    inputs, targets = _named(whole.x, "x"), _named(whole.y, "y")
    rows = {name: len(part) if part.ndim else 0 for name, part in (inputs | targets).items()}
    if len({*rows.values()}) != 1 or 0 in rows.values():
        raise UsageError(f"x, y: all need the same number of rows, at least 1; they have {rows}")
    [count] = {*rows.values()}
    chosen = np.unique(np.linspace(0, count - 1, min(count, BATCHES * BATCH_SIZE)).astype(int))
    number = -(-len(chosen) // BATCH_SIZE)
    batches = [
        Batch(*(_mapped(lambda part, of=of: _as_fed(part[chosen[of::number]]), p) for p in whole))
        for of in range(number)
    ]
    inputs, targets = ({name: [part] for name, part in of.items()} for of in (inputs, targets))
    looked = f"the values of all {count:,} rows, and {len(chosen)} of them through the model"
    return Data(batches, inputs, targets, whole.y, looked)


def _mapped(function, tree):
    leaf = lambda part: None if part is None else function(part)  # noqa: E731
    return None if tree is None else keras.tree.map_structure(leaf, tree)


def _as_fed(part):
    """As Keras feeds it: float64 becomes the float of the backend."""
    return part.astype(keras.config.floatx()) if part.dtype == np.float64 else part


def _named(tree, name) -> dict[str, np.ndarray]:
    if tree is None:
        return {}
    return {
        name + "".join(f"[{key!r}]" for key in path): np.asarray(part)
        for path, part in keras.tree.flatten_with_path(tree)
        if part is not None and not _is_composite(part)
    }


def _is_composite(part):
    """Whether it is a sparse or ragged tensor, which is no array."""
    return tf.is_tensor(part) and not isinstance(part, tf.Tensor)
