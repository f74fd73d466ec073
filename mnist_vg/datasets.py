"""Loads data sets as arrays: MNIST, generated ones, or image sets of TensorFlow Datasets (TFDS)."""

import contextlib
import io
import logging
import os
import socket
import zlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
import platformdirs

from mnist_vg.errors import UsageError, first_line, nearest
from mnist_vg.runs.paths import write_whole
from mnist_vg.runs.tags import CHANCE_ACCURACY, CHANCE_LOSS

MNIST_DIR = Path(__file__).parent / "data" / "mnist" / "3.0.1"


@dataclass(frozen=True)
class Split:
    """The training or the test examples of a data set.

    Attributes:
        inputs: `[examples, values]`: uint8 pixels, which a network sees divided by 255, or
            float32 values, which it sees unchanged.
        labels: int32 `[examples]`.

    Both may be tensors of the same values.
    """

    inputs: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """A data set for classification.

    Attributes:
        name: the name, with the version if the set has one, such as "mnist/3.0.1".
        train: the training examples.
        test: the test examples.
        label_size: the number of classes.
    """

    name: str
    train: Split
    test: Split
    label_size: int

    @property
    def input_size(self) -> int:
        """The number of values per example; for images, pixels times channels."""
        return self.train.inputs.shape[1]

    @property
    def chance(self) -> float:
        """The test accuracy of always answering the most frequent test label, 0 to 1."""
        return float(np.bincount(self.test.labels).max() / len(self.test.labels))

    @property
    def chance_loss(self) -> float:
        """The training loss of always predicting the training labels' frequencies, in nats."""
        shares = np.unique(self.train.labels, return_counts=True)[1] / len(self.train.labels)
        return float(-np.sum(shares * np.log(shares)))

    @property
    def chance_scalars(self) -> dict[str, float]:
        """`chance` and `chance_loss` with their tags, as a run records them."""
        return {CHANCE_ACCURACY: self.chance, CHANCE_LOSS: self.chance_loss}


def load(name: str = "mnist", data_dir: str | os.PathLike | None = None) -> Dataset:
    """Load a data set.

    `circles`, `close_circles` and `digits` come from scikit-learn. `mnist` without `data_dir` is
    the copy inside this package. TFDS loads any other name, and downloads and prepares what is
    not in `data_dir` yet. Decoded arrays are cached in the user's cache folder. A damaged or
    outdated cache is written again.

    Args:
        name: `circles`, `close_circles`, `digits`, or the name of a TFDS image classification set.
        data_dir: where TFDS keeps prepared data sets; None is TFDS's default folder.

    Raises:
        UsageError: there is no such set, it could not be downloaded, its records are damaged, or
            it is not a classification set of uint8 images of one size.
    """
    if name in _GENERATED:
        return _GENERATED[name]()
    if name == "mnist" and data_dir is None:
        # Without importing TFDS, which takes two seconds: a cached MNIST does not need it.
        return _load(
            "mnist/3.0.1", {"train": "train", "test": "test"}, 10, MNIST_DIR, _bundled_mnist
        )
    builder = _prepared_builder(name, data_dir)
    return _load(
        builder.info.full_name,
        _split_names(builder),
        builder.info.features[_image_and_label(builder)[1]].num_classes,
        Path(builder.data_dir),
        lambda: builder,
    )


def _circles() -> Dataset:
    """Two circles with radii 1 and 0.5; tested on the training split, as in the tutorial."""
    from sklearn.datasets import make_circles

    # The tutorial's listing seeds NumPy with this number.
    points, labels = make_circles(n_samples=1000, factor=0.5, noise=0.1, random_state=42)
    split = Split(points.astype(np.float32), labels.astype(np.int32))
    return Dataset("circles", split, split, 2)


def _close_circles() -> Dataset:
    """Two circles with radii 1 and 0.8, scaled to [-1, 1]; the second half is the test split."""
    from sklearn.datasets import make_circles
    from sklearn.preprocessing import minmax_scale

    points, labels = make_circles(n_samples=1000, factor=0.8, noise=0.1, random_state=1)
    points = minmax_scale(points, feature_range=(-1, 1)).astype(np.float32)
    halves = zip(np.split(points, 2), np.split(labels.astype(np.int32), 2), strict=True)
    return Dataset("close_circles", *(Split(*half) for half in halves), 2)


def _digits() -> Dataset:
    """1,797 digits of 8 x 8 pixels (UCI), scaled to [0, 1]; the last 500 are the test split."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    inputs, labels = (digits.data / 16).astype(np.float32), digits.target.astype(np.int32)
    parts = zip(np.split(inputs, [1297]), np.split(labels, [1297]), strict=True)
    return Dataset("digits", *(Split(*part) for part in parts), 10)


_GENERATED = {"circles": _circles, "close_circles": _close_circles, "digits": _digits}


def _load(full_name, split_names, label_size, prepared_dir, builder):
    # This file has the size of every split, so different data gets a different cache key.
    fingerprint = zlib.crc32((prepared_dir / "dataset_info.json").read_bytes())
    cache = platformdirs.user_cache_path("mnist_vg") / "datasets"
    splits = {}
    for role, split_name in split_names.items():
        key = f"{full_name.replace('/', '-')}-{split_name}-{fingerprint:08x}.npz"
        splits[role] = _cached(cache / key, lambda split=split_name: _decode(builder(), split))
    return Dataset(full_name, splits["train"], splits["test"], label_size)


def _cached(path: Path, decode) -> Split:
    """Load the split from the cache file `path`, or decode it and write that file."""
    try:
        # Reading an array to its end also checks the CRC-32 in the zip file.
        with np.load(path) as arrays:
            return Split(arrays["inputs"], arrays["labels"])
    # A damaged file can raise nearly any exception.
    except Exception:
        split = decode()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = io.BytesIO()
        np.savez(arrays, inputs=split.inputs, labels=split.labels)
        write_whole(path, arrays.getvalue())
    return split


def _decode(builder, split: str) -> Split:
    import tensorflow as tf

    try:
        examples = builder.as_dataset(split=split, batch_size=-1)
        images, labels = (examples[key].numpy() for key in _image_and_label(builder))
    except (tf.errors.OpError, OSError, AssertionError) as error:
        raise UsageError(
            f"dataset: the {split} records of {builder.info.full_name} in {builder.data_dir} are "
            f"damaged ({first_line(error)}); prepare the data set again"
        ) from error
    expected = builder.info.splits[split].num_examples
    if len(images) != expected:
        raise UsageError(
            f"dataset: {builder.data_dir} has {len(images)} {split} examples, but its "
            f"dataset_info.json says {expected}; prepare the data set again"
        )
    return Split(images.reshape(len(images), -1), labels.astype(np.int32))


def _bundled_mnist():
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(MNIST_DIR)


@contextlib.contextmanager
def _without_warnings():
    """Within the context, no line about each try to download, or about what one has left."""
    loggers = [logging.getLogger(name) for name in ("absl", "urllib3")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    yield
    # Not after an error: the other downloads of the set are still trying.
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@_without_warnings()
def _prepared_builder(name, data_dir):
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except tfds.core.registered.DatasetNotFoundError as error:
        names = tfds.list_builders(with_community_datasets=False)
        raise UsageError(
            f"dataset: {name!r} is not known to TensorFlow Datasets; {nearest(name, names)}"
        ) from error
    # A builder may need packages, files or hosts, and raise any kind of error.
    except Exception as error:
        raise UsageError(
            f"dataset: {name!r} cannot be opened ({first_line(error)}); try mnist"
        ) from error
    _check_image_classification(builder, name)
    if not builder.is_prepared():
        try:
            if not _downloads(data_dir).exists():
                _find_hosts(builder)
            builder.download_and_prepare()
        # TFDS has no common class for the errors of a download.
        except Exception as error:
            raise UsageError(
                f"dataset: {name!r} is not in {builder.data_dir} and could not be downloaded "
                f"({first_line(error)}); connect to the network, or give --data-dir a folder "
                "that has it"
            ) from error
    return builder


def _downloads(data_dir):
    """Where TFDS keeps archives, from which it prepares a set without the network."""
    from tensorflow_datasets.core import constants

    return Path(data_dir or constants.DATA_DIR).expanduser() / "downloads"


def _find_hosts(builder):
    """Raise OSError for a host that cannot be found, for which TFDS would look for minutes."""
    if not getproxies():  # A proxy finds the host itself.
        for host in {urlsplit(url).hostname for url in builder.url_infos or ()}:
            socket.getaddrinfo(host, None)


def _check_image_classification(builder, name):
    try:
        image, _ = (builder.info.features[key] for key in _image_and_label(builder))
    except (AttributeError, ValueError):
        raise UsageError(
            f"dataset: {name!r} is not an image classification set; try mnist"
        ) from None
    if None in image.shape or image.np_dtype != np.uint8:
        raise UsageError(
            f"dataset: {name!r} has images of shape {image.shape} and type "
            f"{np.dtype(image.np_dtype)}; give a set of uint8 images of one size, such as mnist"
        )


def _image_and_label(builder) -> tuple[str, str]:
    """The features of an example that are its only image and its only class label.

    Raises:
        ValueError: an example has several of these, or none.
    """
    import tensorflow_datasets as tfds

    features = dict(builder.info.features.items())
    keys = builder.info.supervised_keys or features
    keys = [key for key in keys if isinstance(key, str)]
    [image] = [key for key in keys if isinstance(features.get(key), tfds.features.Image)]
    [label] = [key for key in keys if isinstance(features.get(key), tfds.features.ClassLabel)]
    return image, label


def _split_names(builder) -> dict[str, str]:
    test = next((name for name in ("test", "validation") if name in builder.info.splits), None)
    if test is None or "train" not in builder.info.splits:
        raise UsageError(
            f"dataset: {builder.info.full_name} has the splits {', '.join(builder.info.splits)}; "
            "give a set with a train split and a test or validation split, such as mnist"
        )
    return {"train": "train", "test": test}
