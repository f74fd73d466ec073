import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from mnist_vg import Scenario, UsageError, datasets, train

TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mnist_vg" / "datasets"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A user's TFDS directory, prepared by TFDS itself: 6 tiny images under a known name."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("tensorflow_datasets")

    numbers = np.arange(6)
    examples = tf.data.Dataset.from_tensor_slices(
        {
            "image": np.uint8(40 * numbers)[:, None, None, None] * np.ones((1, 2, 3, 1), np.uint8),
            "label": numbers % 2,
        }
    )

    def prepare(name, shape=(2, 3, 1), splits=("train", "test")):
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="3.0.1",
            data_dir=folder,
            split_datasets=dict.fromkeys(splits, examples),
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=shape),
                    "label": tfds.features.ClassLabel(num_classes=2),
                }
            ),
        )

    prepare("tiny_images")
    prepare("any_size", shape=(None, None, 1))
    prepare("no_test_split", splits=("train",))
    return folder


def test_mnist_is_all_of_mnist(mnist):
    assert mnist.name == "mnist/3.0.1"
    assert (mnist.input_size, mnist.label_size) == (784, 10)
    assert mnist.train.inputs.dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(mnist.train.labels), TRAIN_COUNTS)
    np.testing.assert_array_equal(np.bincount(mnist.test.labels), TEST_COUNTS)
    assert mnist.chance == 0.1135
    # The published mean and standard deviation of MNIST's training pixels.
    assert mnist.train.inputs.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert mnist.train.inputs.std() / 255 == pytest.approx(0.3081, abs=5e-5)


def test_the_cache_is_rebuilt_when_damaged(cache, data_dir):
    first = load_tiny(data_dir)
    kept = sorted(cache.iterdir())
    assert [path.suffix for path in kept] == [".npz", ".npz"]
    for damage in (lambda b: b[:50], lambda b: b"", lambda b: b[:-60] + b"x" * 60):
        for path in kept:
            path.write_bytes(damage(path.read_bytes()))
        again = load_tiny(data_dir)
        np.testing.assert_array_equal(again.train.inputs, first.train.inputs)
        np.testing.assert_array_equal(again.test.labels, first.test.labels)
    assert sorted(cache.iterdir()) == kept


def test_a_bit_that_flipped_in_the_cache_is_seen(cache, data_dir):
    first = load_tiny(data_dir)
    for path in cache.iterdir():
        content = bytearray(path.read_bytes())
        where = content.index(bytes([200] * 6))
        content[where] ^= 1
        path.write_bytes(content)
    np.testing.assert_array_equal(load_tiny(data_dir).train.inputs, first.train.inputs)


def test_the_cache_is_what_is_read(cache, data_dir):
    load_tiny(data_dir)
    [train] = [path for path in cache.iterdir() if "train" in path.name]
    marked = np.full((6, 6), 7, np.uint8)
    np.savez(train, inputs=marked, labels=np.zeros(6, np.int32))
    np.testing.assert_array_equal(load_tiny(data_dir).train.inputs, marked)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch, data_dir):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(load_tiny(data_dir).train.labels) == 6


def load_tiny(data_dir):
    return datasets.load("tiny_images", data_dir)


def test_any_prepared_image_set_is_read(cache, data_dir):
    tiny = load_tiny(data_dir)
    assert tiny.name == "tiny_images/3.0.1"
    assert (tiny.input_size, tiny.label_size, tiny.chance) == (6, 2, 0.5)
    np.testing.assert_array_equal(np.sort(tiny.train.inputs[:, 0]), [0, 40, 80, 120, 160, 200])
    assert [image[0] // 40 % 2 for image in tiny.test.inputs] == tiny.test.labels.tolist()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mnits", "did you mean"),
        ("imdb_reviews", "not an image classification set"),
        ("any_size", "one size and uint8 are needed"),
        ("no_test_split", "train and test (or validation) are needed"),
    ],
)
def test_what_is_no_image_set_gets_one_line(cache, data_dir, name, words):
    with pytest.raises(UsageError) as caught:
        datasets.load(name, data_dir)
    assert str(caught.value).startswith("dataset: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_records_that_are_damaged_get_one_line(cache, tmp_path, data_dir):
    copy = tmp_path / "copy"
    shutil.copytree(data_dir, copy)
    [records] = (copy / "tiny_images").rglob("*train.*0*")
    records.write_bytes(records.read_bytes()[:-20])
    with pytest.raises(UsageError, match="damaged") as caught:
        datasets.load("tiny_images", copy)
    assert "\n" not in str(caught.value)


NO_NETWORK = """
import socket, sys, time
def refuse(*arguments, **options):
    raise OSError("a test reached for the network")
socket.socket.connect = socket.getaddrinfo = refuse
time.sleep = lambda seconds: None  # TFDS waits for minutes between ten tries
from mnist_vg import datasets, errors
try:
    print(len(datasets.load(*sys.argv[1:]).train.labels))
except errors.UsageError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [([], "60000"), (["fashion_mnist", "nothing_here"], "could not be downloaded")],
)
def test_no_network_is_needed_for_mnist_and_said_for_others(tmp_path, arguments, printed):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", NO_NETWORK, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment,
    )
    assert printed in done.stdout.splitlines()[-1]


def test_a_set_of_ones_own_decides_the_networks_sizes(cache, data_dir, tmp_path):
    scenario = Scenario(dataset="tiny_images", num_layers=2, iterations=5, log_every=2)
    run = train(scenario, tmp_path, data_dir=data_dir)
    assert run.dataset == "tiny_images/3.0.1"
    assert run.results["chance"] == 0.5
    # Batches of 30 from 6 examples: each batch is five epochs.
    assert run.history["step"].tolist() == [0, 2, 4]
    assert run.history["weights"][0, 0, :, 2].sum() == 6 * 10
    assert run.history["weights"][0, 1, :, 2].sum() == 10 * 2
