"""Runs that other programs recorded for TensorBoard."""

import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import assert_refused, call_command, run_command
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from mnist_vg import UsageError, diagnose
from mnist_vg.diagnosis.diagnosis import NO_GRADIENTS, NOTHING_RECORDED, diagnose_runs
from mnist_vg.diagnosis.measurements import measurements_of
from mnist_vg.runs.finding import load
from mnist_vg.runs.foreign import ForeignRun, _scalar_of, _variable_of


@pytest.fixture(scope="module")
def keras_run(tmp_path_factory):
    """What Keras' callback writes, the `History` of the fit, and the model."""
    folder = tmp_path_factory.mktemp("runs") / "my_fit"
    keras.utils.set_random_seed(0)
    inputs = np.random.default_rng(0).normal(size=(48, 4)).astype(np.float32)
    labels = (inputs.sum(axis=1) > 0).astype(int)
    hidden = keras.layers.Dense(3, "relu", name="dense")
    model = keras.Sequential([hidden, keras.layers.Dense(2, "softmax", name="dense_1")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    board = keras.callbacks.TensorBoard(folder, histogram_freq=1, update_freq=1)
    told = model.fit(*(inputs, labels, 8, 3), validation_split=0.5, verbose=0, callbacks=[board])
    return folder, told.history, model


def test_keras_losses_and_metrics_are_read_by_epoch(keras_run):
    folder, told, _ = keras_run
    history = load(folder).history
    assert list(history["step"]) == [0, 1, 2]
    ours = {"loss": "loss/train_mean"}
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert history[ours.get(name, name)] == pytest.approx(told[name], rel=1e-6)
    assert "loss/train" not in history  # Its steps are batches.


def test_keras_histograms_are_read_by_layer(keras_run):
    folder, _, model = keras_run
    history = load(folder).history
    assert list(history["layers"]) == ["dense", "dense_1"]
    assert history["weights"].shape == (3, 2, 30, 3)
    for layer, buckets in zip(model.layers, history["weights"][-1], strict=True):
        assert buckets[0, 0] == pytest.approx(layer.kernel.numpy().min())
        assert buckets[-1, 1] == pytest.approx(layer.kernel.numpy().max())
        assert buckets[:, 2].sum() == layer.kernel.shape[0] * layer.kernel.shape[1]


def test_a_folder_of_keras_is_one_run_and_says_what_it_lacks(keras_run, capsys):
    folder = keras_run[0]
    assert list(diagnose_runs(folder.parent)) == list(diagnose_runs(folder)) == ["my_fit"]
    diagnosis = diagnose(folder)
    assert len(diagnosis.measurements.loss) == 3
    assert diagnosis.verdict == NO_GRADIENTS
    assert {"no gradient", "vanishing gradients", "non-finite values"} <= diagnosis.lacks.keys()
    assert "overfitting" not in diagnosis.lacks
    assert call_command("diagnose", folder) == 3
    assert (
        "my_fit: not recorded by mnist_vg; found: accuracy, loss/train_mean, val_accuracy, "
        "val_loss, weights of 2 layers (" in capsys.readouterr().out
    )


def test_other_programs_runs_are_read_without_tensorflow(keras_run):
    code = (
        "import sys; sys.argv[0] = 'mnist-vg'\n"
        "from mnist_vg.cli import cli\n"
        f"code = cli.main(['diagnose', {str(keras_run[0])!r}, '--json'], standalone_mode=False)\n"
        "assert code == 3\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    [told] = json.loads(done.stdout)
    assert (told["run"], told["finished"], told["judged"]) == ("my_fit", True, False)


class Writer:
    """Writes as PyTorch's `SummaryWriter` does, through the same classes of TensorBoard."""

    def __init__(self, folder):
        self._file = EventFileWriter(str(folder))

    def add_scalar(self, tag, value, step):
        self._add(Summary.Value(tag=tag, simple_value=value), step)

    def add_histogram(self, tag, values, step):
        counts, edges = np.histogram(values, bins=40)
        told = HistogramProto(min=values.min(), max=values.max(), num=values.size)
        told.bucket_limit.extend([edges[0], *edges[1:]])
        told.bucket.extend([0, *counts])
        self._add(Summary.Value(tag=tag, histo=told), step)

    def _add(self, value, step):
        self._file.add_event(Event(step=step, summary=Summary(value=[value])))

    def close(self):
        self._file.close()


def written(folder, steps, scalars, histograms=None):
    """A run with scalars `tag: values` and histograms `tag: values`, one for each step."""
    writer = Writer(folder)
    for number, step in enumerate(steps):
        for tag, values in scalars.items():
            writer.add_scalar(tag, float(values[number]), step)
        for tag, values in (histograms or {}).items():
            writer.add_histogram(tag, values[number], step)
    writer.close()
    return folder


def test_lightnings_names_are_ours(tmp_path):
    folder = tmp_path / "lightning_logs" / "version_0"
    halved = [2.0, 1.0, 0.5]
    scalars = {"train_loss_step": halved, "train_loss_epoch": [3.0, 2.0, 1.0], "epoch": [0, 1, 2]}
    scalars |= {"val_loss": [4.0, 3.0, 2.0], "train_acc": [0.2, 0.3, 0.4], "lr-Adam": [1e-3] * 3}
    written(folder, [49, 99, 149], scalars | {"hp_metric": [-1.0] * 3})
    [run] = [load(folder)]
    assert isinstance(run, ForeignRun)
    assert set(run.history) == {"step", "loss/train", "loss/train_mean", "val_loss", "accuracy"}
    assert list(run.history["step"]) == [49, 99, 149]
    assert list(run.history["loss/train"]) == halved
    [(name, diagnosis)] = diagnose_runs(tmp_path / "lightning_logs").items()
    assert (name, diagnosis.verdict) == ("version_0", NO_GRADIENTS)


def of_torch(folder, gradient, losses=(2.3, 2.3, 2.29)):
    """Two layers of PyTorch whose first one has small gradients."""
    rng = np.random.default_rng(0)
    scale = {"fc1": gradient, "fc2": 0.1}
    histograms = {}
    for layer in scale:
        histograms[f"{layer}.weight"] = rng.normal(size=(3, 500))
        histograms[f"{layer}.weight.grad"] = scale[layer] * rng.normal(size=(3, 500))
        histograms[f"{layer}.bias"] = histograms[f"{layer}.bias.grad"] = np.zeros((3, 8))
    scalars = {"Loss/train": losses, "Loss/val": losses, "Accuracy/train": [0.1] * 3}
    return written(folder, [0, 10, 20], scalars, histograms), histograms


def test_gradients_of_a_summary_writer_are_judged_as_ours(tmp_path):
    sick, histograms = of_torch(tmp_path / "sick", 1e-7)
    history = load(sick).history
    assert list(history["layers"]) == ["fc1", "fc2"]
    assert history["gradient_mean_abs"] == pytest.approx(
        np.stack([np.abs(histograms[f"fc{n}.weight.grad"]).mean(axis=1) for n in (1, 2)], axis=1),
        rel=0.03,
    )
    expected = (
        np.linalg.norm(histograms["fc1.weight"], axis=1)
        * np.linalg.norm(histograms["fc1.weight.grad"], axis=1)
        / np.array([2.3, 2.3, 2.29])
    )
    measured = measurements_of(history)
    assert measured.condition[:, 0] == pytest.approx(expected, rel=0.05)
    healthy, _ = of_torch(tmp_path / "healthy", 0.1)
    told = diagnose(tmp_path)
    assert [(e.symptom, e.layer, e.step) for e in told["sick"].evidence] == [
        ("vanishing gradients", "fc1", 0)
    ]
    assert told["healthy"].evidence == []
    assert "exploding gradients" not in told["healthy"].lacks
    assert call_command("diagnose", tmp_path, "--against", healthy) == 1


@pytest.mark.parametrize(
    ("tag", "split", "ours"),
    [
        ("epoch_loss", "train", "loss/train_mean"),
        ("epoch_loss", "validation", "val_loss"),
        ("epoch_accuracy", "validation", "val_accuracy"),
        ("epoch_learning_rate", "train", None),
        ("batch_loss", "train", "loss/train"),
        ("batch_accuracy", "train", None),
        ("loss", "train", "loss/train_mean"),
        ("train/loss", "train", "loss/train_mean"),
        ("eval/loss", "train", "val_loss"),
        ("Loss/valid", "train", "val_loss"),
        ("Loss/test", "train", "test_loss"),
        ("val_acc", "train", "val_accuracy"),
        ("train_f1_epoch", "train", "f1"),
        ("train/learning_rate", "train", None),
        ("train/epoch", "train", None),
        ("lr", "train", None),
    ],
)
def test_the_scalars_of_other_programs_have_our_names(tag, split, ours):
    assert _scalar_of(tag, split) == ours


@pytest.mark.parametrize(
    ("tag", "ours"),
    [
        ("dense/kernel/histogram", ("weights", "dense", "kernel")),
        ("model/block/dense_1/bias/histogram", ("weights", "model/block/dense_1", "bias")),
        ("layers.0.weight", ("weights", "layers.0", "weight")),
        ("layers.0.weight.grad", ("gradients", "layers.0", "weight")),
        ("fc1.weight_grad", ("gradients", "fc1", "weight")),
        ("gradients/fc1.weight", ("gradients", "fc1", "weight")),
        ("fc1/gradients", ("gradients", "fc1", "")),
        ("weights/fc1", ("weights", "fc1", "")),
        ("weights/fc1.bias", ("weights", "fc1", "bias")),
        ("graded/fc1.weight", ("weights", "graded/fc1", "weight")),
        ("activations/relu1", None),
        ("gradients", None),
    ],
)
def test_the_histograms_of_other_programs_have_our_names(tag, ours):
    assert _variable_of(tag) == ours


def test_the_kernel_stands_for_a_layer_and_the_order_is_that_of_the_file(tmp_path):
    values = np.linspace(-1, 1, 50)
    tags = ["net/norm/beta/histogram", "net/dense/bias/histogram", "net/dense/kernel/histogram"]
    histograms = {tag: [(1 + number) * values] for number, tag in enumerate(tags)}
    history = load(written(tmp_path, [0], {"loss": [1.0]}, histograms)).history
    assert list(history["layers"]) == ["norm", "dense"]
    assert list(history["weights"][0, :, -1, 1]) == [1.0, 3.0]


def test_histograms_may_have_any_number_of_buckets(tmp_path):
    writer = Writer(tmp_path)
    for step, values in enumerate([np.array([0.5, 0.5]), np.linspace(-1, 1, 99), np.zeros(3)]):
        writer.add_histogram("fc.weight.grad", values, step)
    writer.close()
    means = load(tmp_path).history["gradient_mean_abs"][:, 0]
    assert means == pytest.approx([0.5, 0.505, 0], abs=0.02)


@pytest.mark.parametrize("last", [0.1, np.nan, np.inf])
def test_a_loss_alone_makes_no_run_healthy(tmp_path, last):
    folder = written(tmp_path / "run", range(4), {"train_loss": [2.0, 0.5, 0.5, last]})
    assert diagnose(folder).verdict == NO_GRADIENTS
    assert call_command("diagnose", tmp_path) == 3


def test_overfitting_shows_without_gradients(tmp_path):
    losses = np.linspace(2, 0.1, 30)
    scalars = {"train_loss": losses, "val_loss": np.where(losses > 1, losses, 2.5 - losses)}
    [evidence] = diagnose(written(tmp_path, range(30), scalars)).evidence
    assert evidence.symptom == "overfitting"
    assert call_command("diagnose", tmp_path) == 1


def test_our_own_runs_come_first(logdir, tmp_path):
    shutil.copytree(logdir / "relu", tmp_path / "relu")
    folder = written(tmp_path / "relu" / "train", [0, 1], {"epoch_loss": [1.0, 2.0]})
    assert list(diagnose_runs(tmp_path)) == ["relu"]
    assert list(diagnose(tmp_path)) == ["relu"]
    assert diagnose(folder).verdict == NO_GRADIENTS


def test_a_folder_without_event_files_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "log.csv").write_text("step,loss\n")
    (tmp_path / "events.out.tfevents.1.mnist_vg").write_bytes(b"")  # Ours, but no run.
    assert_refused(run_command("diagnose", tmp_path), f"logdir: {tmp_path} holds no run")
    with pytest.raises(UsageError, match="holds no run"):
        diagnose(tmp_path)
    (tmp_path / "events.out.tfevents.2").write_bytes(b"no event file at all")
    assert diagnose(tmp_path).verdict == NOTHING_RECORDED
