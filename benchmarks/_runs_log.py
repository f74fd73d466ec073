"""Trains cases into a folder, each with a log of its own, and keeps what was announced meanwhile.

A case is a function that builds a model and trains it. It gets a `Log`, and may return what it
reached, in words (see `reached`).
"""

import contextlib
import io
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import _common_tf  # noqa: F401 - imports TensorFlow quietly
import keras

from mnist_vg import GradientLogger, Recorder
from mnist_vg.recording.run_writer import RunWriter


class Log:
    """Where the runs of a case are logged.

    Args:
        folder: of the case; each of its runs is a folder there.
        options: of every `GradientLogger` and `Recorder`.
    """

    def __init__(self, folder: Path, **options):
        self.folder, self.options = folder, options

    def callback(self, name: str = "run", **options) -> GradientLogger:
        """A callback for `fit`, which logs to the run of that name."""
        return GradientLogger(self.folder / name, **(self.options | options))

    def recorder(self, model: keras.Model, name: str = "run", **options) -> Recorder:
        """A recorder for a loop of one's own, which logs to the run of that name."""
        return Recorder(self.folder / name, model, **(self.options | options))


def reached(figure: str, value: float, *, nothing: float, goal: float) -> str:
    """What a healthy case has reached, in words.

    Args:
        figure: what it is, such as "accuracy".
        value: the figure of the trained model.
        nothing: the figure of what knows nothing.
        goal: what the model has to reach to count as healthy, on the far side of `nothing`.

    Raises:
        RuntimeError: the goal is not reached, so the case is not the healthy one that it is to be.
    """
    words = f"{figure} {value:.4g}, knowing nothing {nothing:.4g}"
    if not (value >= goal if goal > nothing else value <= goal):
        raise RuntimeError(f"{words}: the goal of {goal:.4g} is not reached")
    return words


@contextlib.contextmanager
def announcements() -> Iterator[dict[str, list[tuple[int, str]]]]:
    """Collects what is announced while runs train: step and symptom, by the name of the run."""
    announced, record = {}, RunWriter.record

    def collecting(writer, step, *arguments, **options):
        found = record(writer, step, *arguments, **options)
        # Also makes an empty entry, so that a run in which nothing was announced is there.
        told = announced.setdefault(writer.run.folder.name, [])
        told += [(int(step), evidence.symptom) for evidence in found]
        return found

    with mock.patch.object(RunWriter, "record", collecting):
        yield announced


def train(case: Callable[[Log], str | None], folder: Path, **options) -> dict:
    """Train a case, and keep its runs in a folder, instead of those that are there.

    Args:
        case: the function.
        folder: of this case.
        options: of every `GradientLogger` and `Recorder`.

    Returns:
        What it reached, its seconds of CPU, and by run what was announced: step and symptom.
    """
    shutil.rmtree(folder, ignore_errors=True)
    keras.backend.clear_session()
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(7)
    start = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), announcements() as announced:
        figure = case(Log(folder, **options))
    seconds = round(time.process_time() - start, 1)
    return {"reached": figure, "seconds": seconds, "announced": announced}
