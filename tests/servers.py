"""TensorBoard on a log folder, in a process of its own."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request

from conftest import COMMAND

TENSORBOARD = [sys.executable, "-m", "tensorboard.main"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(logdir, port=None, program=(*COMMAND, "board"), options=(), python_path=""):
    """Run `mnist-vg board`, or TensorBoard itself; yield its address, and what it has printed.

    Args:
        logdir: the log folder.
        port: of the server; default: a free one.
        program: what to run.
        options: of the program.
        python_path: where it finds further modules.
    """
    paths = filter(None, [str(python_path), os.environ.get("PYTHONPATH")])
    process = subprocess.Popen(
        [*program, "--logdir", str(logdir), "--port", str(port or free_port()), *options],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if found := re.search(r" at (http://localhost:\d+/\S*)", line):
                break
        yield found[1], said
    finally:
        process.terminate()
        process.communicate()


def get(address, route):
    """What the server answers, as bytes."""
    with urllib.request.urlopen(f"{address}data/{route}", timeout=60) as answer:
        return answer.read()


def wait_for_runs(address, count, seconds=60):
    """Wait until TensorBoard has read so many runs, and those that are sound to their end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        runs = json.loads(get(address, "plugin/mnist_vg/runs"))["runs"]
        sound = [run for run in runs if "damage" not in run]
        if len(runs) >= count and all(run["state"] == "finished" for run in sound):
            return
        time.sleep(0.1)
    raise AssertionError(f"TensorBoard has not read {count} runs")
