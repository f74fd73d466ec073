"""Where `mnist-vg train` spends its time: three scenarios, from the shell to the prompt.

First the whole process against `import tensorflow` alone, in turn; then one run in
this process, its functions timed. TensorFlow must not be imported before that run.
"""

import argparse
import contextlib
import functools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import Future
from statistics import median

from _common import in_turn, ratios, spread

from mnist_vg import SUITES, datasets, driver

TARGET = 2
"""How many times an `import tensorflow` the whole should take, at most."""


def process_seconds(*arguments: str) -> float:
    """How long a Python process takes."""
    start = time.perf_counter()
    nowhere = subprocess.DEVNULL
    subprocess.run([sys.executable, *arguments], check=True, stdout=nowhere, stderr=nowhere)
    return time.perf_counter() - start


def train_seconds() -> float:
    """How long a process takes that trains the tutorial's three into a fresh folder."""
    with tempfile.TemporaryDirectory() as logdir:
        return process_seconds("-m", "mnist_vg", "train", "--logdir", logdir)


class Stopwatch:
    """Adds up seconds by part, apart for the main thread and the other one."""

    def __init__(self):
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
            setattr(owner, function, self._timed(name, getattr(owner, function)))

    def _timed(self, name, function):
        @functools.wraps(function)
        def timed(*args, **kwargs):
            with self.part(name):
                return function(*args, **kwargs)

        return timed


def timed_run() -> tuple[Stopwatch, float]:
    """Train the tutorial's three in this process; the stopwatch and the seconds in all."""
    watch = Stopwatch()
    start = time.perf_counter()
    with watch.part("import TensorFlow"):
        driver.import_tensorflow()
        from mnist_vg import model
        from mnist_vg.recording import event_log as summaries
        from mnist_vg.training import trainer as training
    watch.wrap("wait for the other thread", Future, "result")
    watch.wrap("data", datasets, "load")
    watch.wrap("build", model.Model, "forward_graph")
    watch.wrap("build", model, "Model")
    watch.wrap("build", training.Trainer, "__init__")
    watch.wrap("trace and compile", training.Trainer, "compile")
    watch.wrap("train", training.Trainer, "advance")
    watch.wrap("evaluate", training.Trainer, "evaluate")
    watch.wrap("record", summaries.EventLog, "record", "describe", "conclude")
    watch.wrap("checkpoint", training.Checkpoint, "save")
    with tempfile.TemporaryDirectory() as logdir:
        list(driver.train_all(SUITES["tutorial"], logdir))
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds that are timed [3]")
    rounds = parser.parse_args().rounds
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    ways = {
        "mnist-vg train": train_seconds,
        "import tensorflow": lambda: process_seconds("-c", "import tensorflow"),
    }
    in_turn(ways, 1)  # the first one reads files that are in memory from then on
    times = in_turn(ways, rounds)
    print(f"Whole processes, {rounds} rounds in turn: median (min–max)\n")
    for name, figures in times.items():
        print(f"{name:18} {spread(figures, '.2f'):>20} s")
    ratio = ratios(*times.values())
    verdict = "met" if median(ratio) <= TARGET else "missed"
    print(f"{'ratio':18} {spread(ratio, '.2f'):>20}    target {TARGET} at most: {verdict}")
    print_breakdown(*timed_run())


if __name__ == "__main__":
    main()
