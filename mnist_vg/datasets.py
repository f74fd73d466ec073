"""A name to arrays: MNIST, which ships with the package, any TFDS image set, or circles."""

import contextlib
import io
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs

from mnist_vg.errors import UsageError, first_line, nearest
from mnist_vg.runs.paths import write_whole
from mnist_vg.runs.tags import CHANCE_ACCURACY, CHANCE_LOSS

MNIST_DIR = Path(__file__).parent / "data" / "mnist" / "3.0.1"


@dataclass(frozen=True)
class Split:
    """Examples: `inputs` `[examples, values]`, `labels` int32 `[examples]`.

    Inputs are pixels, uint8, which a network sees divided by 255, or float32 as they are.
    """

    inputs: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """A classification set, decoded; `name` includes the version, where it has one."""

    name: str
    train: Split
    test: Split
    label_size: int

    @property
    def input_size(self) -> int:
        """Values of an example: pixels of an image, channels included."""
        return self.train.inputs.shape[1]

    @property
    def chance(self) -> float:
        """Test accuracy of always answering the most frequent test label."""
        return float(np.bincount(self.test.labels).max() / len(self.test.labels))

    @property
    def chance_loss(self) -> float:
        """Cross-entropy of always answering with the training labels' frequencies, in nats."""
        shares = np.unique(self.train.labels, return_counts=True)[1] / len(self.train.labels)
        return float(-np.sum(shares * np.log(shares)))

    @property
    def chance_scalars(self) -> dict[str, float]:
        """What chance scores, by tag, as a run records it."""
        return {CHANCE_ACCURACY: self.chance, CHANCE_LOSS: self.chance_loss}


def load(name: str = "mnist", data_dir: str | os.PathLike | None = None) -> Dataset:
    """Load a data set's training and test split.

    `circles`, `close_circles` and `digits` are made by scikit-learn. `mnist` without a
    `data_dir` is the copy inside the package. Any other set is
    looked for in the TFDS directory `data_dir` (default: TFDS's own), and TFDS
    downloads and prepares what is not there. Decoded arrays are kept in the
    user's cache folder; a cache that is damaged, stale or cannot be written costs
    the seconds of decoding again and nothing else.

    Raises:
        UsageError: no such set, not an 8-bit image classification set of one
            image size, damaged records, or it could not be downloaded.
    """
    if name in _GENERATED:
        return _GENERATED[name]()
    if name == "mnist" and data_dir is None:
        # TFDS takes two seconds to import, which a cached MNIST does not need.
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
    """Two circles, the inner half as wide; no test split, so it is tested on the same."""
    from sklearn.datasets import make_circles

    # The seed that the tutorial's whole listing gives to NumPy.
    points, labels = make_circles(n_samples=1000, factor=0.5, noise=0.1, random_state=42)
    split = Split(points.astype(np.float32), labels.astype(np.int32))
    return Dataset("circles", split, split, 2)


def _close_circles() -> Dataset:
    """Two circles, the inner 0.8 as wide, scaled to [-1, 1]; half to train, half to test."""
    from sklearn.datasets import make_circles
    from sklearn.preprocessing import minmax_scale

    points, labels = make_circles(n_samples=1000, factor=0.8, noise=0.1, random_state=1)
    points = minmax_scale(points, feature_range=(-1, 1)).astype(np.float32)
    halves = zip(np.split(points, 2), np.split(labels.astype(np.int32), 2), strict=True)
    return Dataset("close_circles", *(Split(*half) for half in halves), 2)


def _digits() -> Dataset:
    """1,797 digits of 8 x 8 pixels (UCI), scaled to [0, 1]; the last 500 to test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    inputs, labels = (digits.data / 16).astype(np.float32), digits.target.astype(np.int32)
    parts = zip(np.split(inputs, [1297]), np.split(labels, [1297]), strict=True)
    return Dataset("digits", *(Split(*part) for part in parts), 10)


_GENERATED = {"circles": _circles, "close_circles": _close_circles, "digits": _digits}


def _load(full_name, split_names, label_size, prepared_dir, builder):
    # TFDS records every split's size there, so other data has another key.
    fingerprint = zlib.crc32((prepared_dir / "dataset_info.json").read_bytes())
    cache = platformdirs.user_cache_path("mnist_vg") / "datasets"
    splits = {}
    for role, split_name in split_names.items():
        key = f"{full_name.replace('/', '-')}-{split_name}-{fingerprint:08x}.npz"
        splits[role] = _cached(cache / key, lambda split=split_name: _decode(builder(), split))
    return Dataset(full_name, splits["train"], splits["test"], label_size)


def _cached(path: Path, decode) -> Split:
    """The split kept at `path`, or else what `decode` makes, which is then kept."""
    try:
        # Reading a member to its end checks the CRC-32 that zip keeps of it.
        with np.load(path) as arrays:
            return Split(arrays["inputs"], arrays["labels"])
    # A file with a flipped bit fails in whatever way the bit decides.
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
            f"damaged; prepare them again ({first_line(error)})"
        ) from error
    expected = builder.info.splits[split].num_examples
    if len(images) != expected:
        raise UsageError(
            f"dataset: {builder.data_dir} holds {len(images)} {split} examples where its "
            f"dataset_info.json says {expected}; prepare it again"
        )
    return Split(images.reshape(len(images), -1), labels.astype(np.int32))


def _bundled_mnist():
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(MNIST_DIR)


def _prepared_builder(name, data_dir):
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except tfds.core.registered.DatasetNotFoundError as error:
        names = tfds.list_builders(with_community_datasets=False)
        raise UsageError(
            f"dataset: {name!r} is not known to TensorFlow Datasets; {nearest(name, names)}"
        ) from error
    # Each builder's module brings its own needs and errors: packages, files, hosts.
    except Exception as error:
        raise UsageError(f"dataset: {name!r} cannot be opened ({first_line(error)})") from error
    _check_image_classification(builder, name)
    if not builder.is_prepared():
        try:
            builder.download_and_prepare()
        # Downloads fail in as many ways as there are hosts; TFDS has no common class.
        except Exception as error:
            raise UsageError(
                f"dataset: {name!r} is not in {builder.data_dir} and could not be downloaded "
                f"({first_line(error)}); give --data-dir a folder where it is prepared, or "
                "a network"
            ) from error
    return builder


def _check_image_classification(builder, name):
    try:
        image, _ = (builder.info.features[key] for key in _image_and_label(builder))
    except (AttributeError, ValueError):
        raise UsageError(
            f"dataset: {name!r} is not an image classification set; try mnist"
        ) from None
    if None in image.shape or image.np_dtype != np.uint8:
        raise UsageError(
            f"dataset: {name!r} has images of shape {image.shape} and type {image.np_dtype}; "
            "one size and uint8 are needed"
        )


def _image_and_label(builder) -> tuple[str, str]:
    """The names of the one image and the one class label of an example."""
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
            "train and test (or validation) are needed"
        )
    return {"train": "train", "test": test}
