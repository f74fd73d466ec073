import hashlib
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
    """An empty cache folder for one test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mnist_vg" / "datasets"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A TFDS directory with small data sets: `tiny_images` has 6 images of 2 x 3 pixels."""
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


def test_a_flipped_bit_in_the_cache_is_detected(cache, data_dir):
    first = load_tiny(data_dir)
    for path in cache.iterdir():
        content = bytearray(path.read_bytes())
        where = content.index(bytes([200] * 6))
        content[where] ^= 1
        path.write_bytes(content)
    np.testing.assert_array_equal(load_tiny(data_dir).train.inputs, first.train.inputs)


def test_the_cache_is_read(cache, data_dir):
    load_tiny(data_dir)
    [train] = [path for path in cache.iterdir() if "train" in path.name]
    marked = np.full((6, 6), 7, np.uint8)
    np.savez(train, inputs=marked, labels=np.zeros(6, np.int32))
    np.testing.assert_array_equal(load_tiny(data_dir).train.inputs, marked)


def test_loading_works_without_a_writable_cache(tmp_path, monkeypatch, data_dir):
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
        ("any_size", "give a set of uint8 images of one size"),
        ("no_test_split", "give a set with a train split and a test or validation split"),
    ],
)
def test_other_data_sets_are_refused_in_one_line(cache, data_dir, name, words):
    with pytest.raises(UsageError) as caught:
        datasets.load(name, data_dir)
    assert str(caught.value).startswith("dataset: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_records_are_refused_in_one_line(cache, tmp_path, data_dir):
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
socket.socket.connect = refuse
if sys.argv.pop() == "no names":
    socket.getaddrinfo = refuse
else:
    known = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 9))
    socket.getaddrinfo = lambda *arguments, **options: [known]
time.sleep = lambda seconds: None  # TFDS waits for minutes between ten tries
from mnist_vg import datasets, errors
try:
    print(len(datasets.load(*sys.argv[1:]).train.labels))
except errors.UsageError as error:
    print(error)
"""


def without_network(folder, *arguments):
    proxies = ("http_proxy", "https_proxy", "all_proxy")
    environment = {key: value for key, value in os.environ.items() if key.lower() not in proxies}
    return subprocess.run(
        [sys.executable, "-c", NO_NETWORK, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env=environment | {"XDG_CACHE_HOME": str(folder / "cache"), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def test_mnist_needs_no_network(tmp_path):
    assert without_network(tmp_path, "no names").stdout.splitlines() == ["60000"]


def test_a_set_that_is_not_here_gets_one_line_without_a_network(tmp_path):
    for _ in range(2):  # TFDS warns about what the first try leaves.
        done = without_network(tmp_path, "fashion_mnist", "nothing_here", "no names")
        [line] = done.stdout.splitlines()
        assert "could not be downloaded (a test reached for the network); connect" in line
        assert done.stderr == ""


def test_a_host_that_does_not_answer_gets_no_line_for_each_try(tmp_path):
    done = without_network(tmp_path, "fashion_mnist", "nothing_here", "no answer")
    assert "could not be downloaded" in done.stdout.splitlines()[-1]
    assert "Retrying" not in done.stderr


def test_a_users_data_set_decides_the_sizes_of_the_network(cache, data_dir, tmp_path):
    scenario = Scenario(dataset="tiny_images", num_layers=2, iterations=5, log_every=2)
    run = train(scenario, tmp_path, data_dir=data_dir)
    assert run.dataset == "tiny_images/3.0.1"
    assert run.results["chance"] == 0.5
    # Batches of 30 from 6 examples: each batch is five epochs.
    assert run.history["step"].tolist() == [0, 2, 4]
    assert run.history["weights"][0, 0, :, 2].sum() == 6 * 10
    assert run.history["weights"][0, 1, :, 2].sum() == 10 * 2


def arrays_of(dataset):
    return [a for split in (dataset.train, dataset.test) for a in (split.inputs, split.labels)]


@pytest.mark.parametrize(
    ("name", "sizes", "inputs", "classes", "ends"),
    [
        ("circles", (1000, 1000), 2, 2, None),
        ("close_circles", (500, 500), 2, 2, (-1, 1)),
        ("digits", (1297, 500), 64, 10, (0, 1)),
    ],
)
def test_generated_sets_have_these_sizes_types_and_ranges(name, sizes, inputs, classes, ends):
    dataset = datasets.load(name)
    assert (dataset.name, dataset.input_size, dataset.label_size) == (name, inputs, classes)
    for split, size in zip((dataset.train, dataset.test), sizes, strict=True):
        assert split.inputs.shape == (size, inputs)
        assert split.labels.shape == (size,)
        assert (split.inputs.dtype, split.labels.dtype) == (np.float32, np.int32)
        assert set(split.labels) == set(range(classes))
    if ends is not None:
        both = np.concatenate([dataset.train.inputs, dataset.test.inputs])
        assert (both.min(), both.max()) == ends
    for one, other in zip(arrays_of(dataset), arrays_of(datasets.load(name)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_circles_are_those_of_the_tutorials_listing():
    from sklearn.datasets import make_circles

    state = np.random.get_state()
    np.random.seed(42)  # As in the tutorial's listing.
    points, labels = make_circles(n_samples=1000, factor=0.5, noise=0.1)
    np.random.set_state(state)
    dataset = datasets.load("circles")
    np.testing.assert_array_equal(dataset.train.inputs, np.float32(points))
    np.testing.assert_array_equal(dataset.train.labels, labels)
    assert dataset.test is dataset.train  # The tutorial validates on what it trains on.
    assert dataset.chance == 0.5


def test_generated_sets_do_not_change_numpys_random_state():
    before = np.random.get_state()[1].copy()
    for name in ("circles", "close_circles", "digits"):
        datasets.load(name)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize(("name", "factor"), [("circles", 0.5), ("close_circles", 0.8)])
def test_the_inner_circle_has_its_radius_and_half_of_the_points(name, factor):
    dataset = datasets.load(name)
    splits = [dataset.train] if name == "circles" else [dataset.train, dataset.test]
    points = np.float64(np.concatenate([split.inputs for split in splits]))
    labels = np.concatenate([split.labels for split in splits])
    np.testing.assert_array_equal(np.bincount(labels), [500, 500])
    if name == "close_circles":
        # Undo the scaling. With radii 1 and 0.8 and noise of standard deviation s, the variance
        # along each axis is (1 + 0.8^2) / 4 + s^2.
        points -= points.mean(axis=0)
        points *= np.sqrt((1 + 0.8**2) / 4 + 0.1**2) / points.std(axis=0)
    radii = np.hypot(*points.T)
    for label, radius in [(0, 1), (1, factor)]:
        # Noise of standard deviation s makes the mean radius larger by s^2 / 2r: this part comes
        # from the noise along the circle. The noise along the radius averages out, with a
        # standard error of s / sqrt(500) = 0.0045.
        expected = radius + 0.1**2 / (2 * radius)
        assert radii[labels == label].mean() == pytest.approx(expected, abs=4 * 0.0045)
        assert radii[labels == label].std() == pytest.approx(0.1, rel=4 / np.sqrt(2 * 500))
        # The points are all around the circle, so their mean is its centre.
        assert np.abs(points[labels == label].mean(axis=0)).max() < 4 * 0.0045 + 1e-9


def test_close_circles_are_those_of_scikit_learn_split_in_half():
    from sklearn.datasets import make_circles

    points, labels = make_circles(n_samples=1000, factor=0.8, noise=0.1, random_state=1)
    least, largest = points.min(axis=0), points.max(axis=0)
    scaled = 2 * (points - least) / (largest - least) - 1
    dataset = datasets.load("close_circles")
    for split, part in [(dataset.train, slice(0, 500)), (dataset.test, slice(500, 1000))]:
        np.testing.assert_allclose(split.inputs, scaled[part], atol=1e-6)
        np.testing.assert_array_equal(split.labels, labels[part])
        # The number of ones in half of 1000 shuffled labels is hypergeometric, with a standard
        # deviation of 7.9.
        assert abs(split.labels.sum() - 250) < 4 * 7.9
    assert not {tuple(p) for p in dataset.train.inputs} & {tuple(p) for p in dataset.test.inputs}
    assert 0.5 <= dataset.chance < 0.6


def test_digits_are_the_1797_of_uci():
    from sklearn.datasets import load_digits

    dataset = datasets.load("digits")
    pixels = 16 * np.concatenate([dataset.train.inputs, dataset.test.inputs])
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    np.testing.assert_array_equal(pixels, load_digits().data)
    np.testing.assert_array_equal(labels, load_digits().target)
    # The counts in the data set's own description.
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    np.testing.assert_array_equal(np.bincount(labels), counts)
    assert not {p.tobytes() for p in dataset.train.inputs} & {
        p.tobytes() for p in dataset.test.inputs
    }


def test_generated_sets_need_no_tensorflow_and_are_the_same_in_every_process():
    names = ["circles", "close_circles", "digits"]
    code = (
        "import hashlib, sys\n"
        "from mnist_vg import datasets\n"
        "for name in sys.argv[1:]:\n"
        "    d = datasets.load(name)\n"
        "    parts = [d.train.inputs, d.train.labels, d.test.inputs, d.test.labels]\n"
        "    print(hashlib.sha256(b''.join(p.tobytes() for p in parts)).hexdigest())\n"
        "print({'tensorflow', 'keras', 'tensorflow_datasets'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *names], capture_output=True, text=True, check=True
    )
    *theirs, imported = done.stdout.splitlines()
    ours = [
        hashlib.sha256(b"".join(a.tobytes() for a in arrays_of(datasets.load(name)))).hexdigest()
        for name in names
    ]
    assert theirs == ours
    assert imported == "set()"
