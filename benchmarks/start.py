"""Where `mnist-vg train` spends its time: three scenarios, from the shell to the prompt.

First the whole process against `import tensorflow` alone, in turn; then one run in
this process, its functions timed. TensorFlow must not be imported before that run.
"""

import contextlib
import functools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from statistics import median
from unittest import mock

from _common import in_turn, ratios, run, spread

from mnist_vg import datasets, driver
from mnist_vg.tensorflow_import import import_tensorflow

TARGET = 2
"""How many times an `import tensorflow` the whole should take, at most."""


def process_seconds(*arguments: str) -> float:
    """How long a Python process takes."""
    start = time.perf_counter()
    nowhere = subprocess.DEVNULL
    subprocess.run([sys.executable, *arguments], check=True, stdout=nowhere, stderr=nowhere)
    return time.perf_counter() - start


def train_seconds(scenarios: Sequence[str]) -> float:
    """How long a process takes that trains these into a fresh folder."""
    with tempfile.TemporaryDirectory() as logdir:
        return process_seconds("-m", "mnist_vg", "train", *scenarios, "--logdir", logdir)


class Stopwatch(contextlib.ExitStack):
    """Adds up seconds by part, apart for the main thread and the other one.

    What it has wrapped is itself again when the context ends.
    """

    def __init__(self):
        super().__init__()
        self.main, self.other = Counter(), Counter()

    @contextlib.contextmanager
    def part(self, name: str):
        """Time what is done inside."""
        here = threading.current_thread() is threading.main_thread()
        seconds = self.main if here else self.other
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds[name] += time.perf_counter() - start

    def wrap(self, name: str, owner, *functions: str) -> None:
        """Time every call of the named functions of a class or module."""
        for function in functions:
            timed = self._timed(name, getattr(owner, function))
            self.enter_context(mock.patch.object(owner, function, timed))

    def _timed(self, name, function):
        @functools.wraps(function)
        def timed(*args, **kwargs):
            with self.part(name):
                return function(*args, **kwargs)

        return timed


def timed_run(scenarios: Sequence[str]) -> tuple[Stopwatch, float]:
    """Train in this process; the stopwatch and the seconds in all."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as logdir, Stopwatch() as watch:
        with watch.part("import TensorFlow"):
            import_tensorflow()
            from mnist_vg.recording.event_log import EventLog
            from mnist_vg.training import programs, session
            from mnist_vg.training.checkpoint import Checkpoint
            from mnist_vg.training.trainer import Trainer
        watch.wrap("wait for the other thread", Future, "result")
        watch.wrap("data", datasets, "load")
        watch.wrap("build", programs, "make_trainer")
        watch.wrap("build", session, "forward_graph")
        watch.wrap("trace and compile", Trainer, "compile")
        watch.wrap("train", Trainer, "advance")
        watch.wrap("evaluate", Trainer, "evaluate")
        watch.wrap("record", EventLog, "record", "describe", "conclude")
        watch.wrap("checkpoint", Checkpoint, "save")
        list(driver.train_all(scenarios, logdir))
        return watch, time.perf_counter() - start


def print_breakdown(watch: Stopwatch, seconds: float) -> None:
    """Print the seconds of every part, those of a preparation first."""
    watch.main["rest"] = seconds - watch.main.total()
    parts = dict.fromkeys([*watch.other, *watch.main])
    print(f"\n{'seconds':26} {'main thread':>12} {'other thread':>13}")
    for part in parts:
        cells = [f"{own[part]:.2f}" if part in own else "" for own in (watch.main, watch.other)]
        print(f"{part:26} {cells[0]:>12} {cells[1]:>13}")
    print(f"{'in all':26} {seconds:12.2f} {watch.other.total():13.2f}")
    print(
        "The main thread's parts add up to the run. The other thread prepares a scenario while\n"
        "the one before it trains, so its seconds overlap with them and slow them down; only the\n"
        "first preparation is waited for in full."
    )


def main(
    rounds: int = 3,
    scenarios: Sequence[str] = ("sigmoid", "relu", "leaky_relu"),
    warm_up: bool = True,
) -> None:
    """Measure and print; the first of all reads files that are in memory from then on."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    ways = {
        "mnist-vg train": lambda: train_seconds(scenarios),
        "import tensorflow": lambda: process_seconds("-c", "import tensorflow"),
    }
    if warm_up:
        in_turn(ways, 1)
    times = in_turn(ways, rounds)
    print(f"Whole processes, {rounds} rounds in turn: median (min–max)\n")
    for name, figures in times.items():
        print(f"{name:18} {spread(figures, '.2f'):>20} s")
    ratio = ratios(*times.values())
    verdict = "met" if median(ratio) <= TARGET else "missed"
    print(f"{'ratio':18} {spread(ratio, '.2f'):>20}    target {TARGET} at most: {verdict}")
    print_breakdown(*timed_run(scenarios))


if __name__ == "__main__":
    small = {"rounds": 1, "scenarios": ["depth-relu-3"], "warm_up": False}
    run(main, __doc__, takes="2 minutes", smoke=small)
