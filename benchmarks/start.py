"""Where `mnist-vg train` spends its time: three scenarios, from the shell to the prompt.

First whole processes, in turn: the command, with its first scenario or two as well; `import
tensorflow` alone; and a script that trains the same networks in JAX, without records or test
scores. Then the command's parts, each run in a process of its own.
"""

import contextlib
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from statistics import median

import _peers
from _common import in_turn, ratios, run, spread
from _stopwatch import Stopwatch

from mnist_vg import datasets
from mnist_vg.cli import cli
from mnist_vg.tensorflow_import import import_tensorflow

TUTORIAL = ("sigmoid", "relu", "leaky_relu")
STEPS = 2500
"""Of each of them."""

TARGET = 1.6
"""How many times an `import tensorflow` the whole should take, at most."""
ONE_MORE = 0.7
"""Seconds that a second scenario should add, at most, if it differs only in its activation."""

IMPORT, JAX = "import tensorflow", "a JAX script"


def process_seconds(*command: str) -> float:
    """How long a process takes."""
    start = time.perf_counter()
    nowhere = subprocess.DEVNULL
    subprocess.run(command, check=True, stdout=nowhere, stderr=nowhere)
    return time.perf_counter() - start


def train_seconds(scenarios: Sequence[str]) -> float:
    """How long a process takes that trains these into a fresh folder."""
    with tempfile.TemporaryDirectory() as logdir:
        command = sys.executable, "-m", "mnist_vg", "train"
        return process_seconds(*command, *scenarios, "--logdir", logdir)


def training(scenarios: Sequence[str]) -> str:
    """The name of the process that trains these."""
    return f"train {' '.join(scenarios)}"


def processes(scenarios: Sequence[str], folder: Path) -> dict[str, Callable[[], float]]:
    """What is compared, by name; JAX reads its work from the folder."""
    ways: dict[str, Callable[[], float]] = {
        training(some): lambda some=some: train_seconds(some)
        for some in (scenarios, scenarios[:1], scenarios[:2])
    }
    ways[IMPORT] = lambda: process_seconds(sys.executable, "-c", "import tensorflow")
    jax = _peers.jax_script()
    if jax:
        _peers.write_work(folder, datasets.load().train, STEPS)
        ways[JAX] = lambda: process_seconds(*jax, str(folder), *TUTORIAL)
    return ways


def compare_processes(scenarios: Sequence[str], rounds: int, warm_up: bool) -> None:
    """Print the seconds of whole processes."""
    with tempfile.TemporaryDirectory() as folder:
        ways = processes(scenarios, Path(folder))
        if warm_up:
            in_turn(ways, 1)  # Reads files that are in memory from then on.
        times = in_turn(ways, rounds)
    print(f"Whole processes, {rounds} rounds in turn: median (min–max)\n")
    for name, figures in times.items():
        print(f"{name:32} {spread(figures, '.2f'):>20} s")
    whole, one, two = (times[training(s)] for s in (scenarios, scenarios[:1], scenarios[:2]))
    print()
    for name in (IMPORT, JAX):
        if name in times:
            over = ratios(whole, times[name])
            words = f"  {target(over, TARGET)}" if name == IMPORT else ""
            print(f"{f'all over {name}':32} {spread(over, '.2f'):>20}  {words}")
    more = [second - first for first, second in zip(one, two, strict=True)]
    print(f"{'one more scenario':32} {spread(more, '.2f'):>20} s  {target(more, ONE_MORE)}")


def target(figures: list[float], most: float) -> str:
    """The target, and whether the figures keep to it."""
    return f"target {most} at most: {'met' if median(figures) <= most else 'missed'}"


def wrap_parts(watch: Stopwatch, started: float) -> None:
    """Time the parts of a training, of which importing is one."""
    import_tensorflow()
    import tensorflow as tf

    from mnist_vg.recording import run_writer
    from mnist_vg.training import programs, session
    from mnist_vg.training.checkpoint import Checkpoint
    from mnist_vg.training.trainer import Trainer

    watch.main["import"] = time.time() - started
    writing = "__init__", "record", "note", "mark", "read_back", "conclude", "close"
    watch.wrap("data", datasets, "load")
    watch.wrap("build", programs, "make_trainer")
    watch.wrap("build", session, "forward_graph")
    watch.wrap("trace", type(tf.function(print)), "get_concrete_function")
    watch.wrap("XLA", Trainer, "compile")  # What of it is not tracing.
    watch.wrap("wait for another thread", Future, "result")
    watch.wrap("train", Trainer, "advance")
    watch.wrap("test", Trainer, "evaluate")
    watch.wrap("log", run_writer.RunWriter, *writing)
    watch.wrap("log", Checkpoint, "restore", "save")
    watch.wrap("picture", run_writer, "profile_picture")


def timed_parts(scenarios: Sequence[str], started: float) -> tuple[Counter, Counter]:
    """Train in this process, which began at `started`: seconds of the main thread, and others."""
    with tempfile.TemporaryDirectory() as logdir, Stopwatch() as watch:
        wrap_parts(watch, started)
        with contextlib.redirect_stdout(None):
            cli.main(["train", *scenarios, "--logdir", logdir], standalone_mode=False)
        watch.main["rest"] = time.time() - started - watch.main.total()
        return watch.main, watch.others


def parts_apart(scenarios: Sequence[str]) -> tuple[Counter, Counter]:
    """The same in a process of its own, which imports TensorFlow anew."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(timed_parts, scenarios, time.time()).result()


def compare_parts(scenarios: Sequence[str], rounds: int) -> None:
    """Print the seconds of the command's parts."""
    threads = list(zip(*(parts_apart(scenarios) for _ in range(rounds)), strict=True))
    parts = dict.fromkeys(part for runs in threads for seconds in runs for part in seconds)
    print(f"\n{'seconds':26} {'main thread':>20} {'other threads':>20}")
    for part in parts:
        print_row(part, [[seconds[part] for seconds in runs] for runs in threads])
    print_row("in all", [[seconds.total() for seconds in runs] for runs in threads])
    print(
        "The main thread's parts add up to the run, up to the table on the screen. The others\n"
        "work at the same time, and slow it down."
    )


def print_row(name: str, figures: Sequence[list[float]]) -> None:
    """Print the seconds of each thread, if it spent any."""
    cells = [spread(own, ".2f") if any(own) else "" for own in figures]
    print(f"{name:26} {cells[0]:>20} {cells[1]:>20}")


def main(rounds: int = 3, scenarios: Sequence[str] = TUTORIAL, warm_up: bool = True) -> None:
    """Measure and print."""
    compare_processes(scenarios, rounds, warm_up)
    compare_parts(scenarios, rounds)


if __name__ == "__main__":
    small = {"rounds": 1, "scenarios": ["depth-relu-3"], "warm_up": False}
    run(main, __doc__, takes="4 minutes", smoke=small)
