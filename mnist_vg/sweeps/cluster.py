"""A sweep's groups as tasks of a Ray cluster (https://docs.ray.io), an optional package."""

import contextlib
import functools
import itertools
import os
import socket
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from mnist_vg.errors import RunFailed, UsageError, first_line
from mnist_vg.sweeps.workers import PROGRAMS, Datasets, Jobs, Outcomes, single_threaded
from mnist_vg.training.interrupts import sigterm_kept

AHEAD = 1000
"""Tasks that Ray has at a time: more than the cluster has cores, and few to look through."""

RETRIES = 3
"""How often a group goes to another worker after the death of its own, or of the node."""

STORE_BYTES = 2**28
"""Shared memory of a local Ray, for data sets and for results on their way; more spills to disk."""

ANSWER_SECONDS = 5.0
"""How long a cluster's address may take to answer."""


@contextlib.contextmanager
def on_ray(cluster: str, workers: int) -> Iterator[Callable[[Jobs, Datasets], Outcomes]]:
    """Join a Ray cluster, or start one; within, what trains jobs on it, as they are done.

    Each group is a task of one core, and each node gets the data sets once. At the end a
    local Ray is shut down, and another is left.

    Args:
        cluster: "local" starts a Ray on this machine, which nobody else can reach; "auto"
            joins the one that this machine is a node of, "ray://HOST:PORT" any other.
        workers: processes of a local Ray.

    Raises:
        UsageError: Ray is not installed, or there is no such cluster; or a group's own.
        RunFailed: a group killed several workers, or the cluster was lost.
    """
    ray = _import_ray(cluster)
    _connect(ray, cluster, workers)
    try:
        yield functools.partial(_outcomes, ray)
    finally:
        ray.shutdown()


def _import_ray(cluster):
    # Ray prints a paragraph about each worker that dies, whatever `ray.init` is told.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    if cluster == "local":
        # Its servers then listen on the loopback interface alone, as they do on macOS.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError:
        raise UsageError(
            f"cluster: {cluster!r} needs Ray; pip install 'mnist_vg[cluster]', or leave it out "
            "to train on this machine's cores"
        ) from None
    return ray


def _connect(ray, cluster, workers):
    settings = {"log_to_driver": False, "logging_level": "ERROR"}
    if cluster == "local":
        settings |= {"num_cpus": max(1, workers), "object_store_memory": STORE_BYTES}
        settings |= {"include_dashboard": False}
    else:
        _check_answer(_noted_address() if cluster == "auto" else cluster)
    try:
        with sigterm_kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(cluster, **settings)
    # Each of Ray's layers has its own: versions that differ, a token that is missing.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise UsageError(
            f"cluster: {cluster!r} cannot be used ({reason}); a Ray that asks for a token is "
            "joined with RAY_AUTH_MODE=token in the environment"
        ) from error


def _noted_address():
    """Where `ray.init("auto")` looks, as its docstring tells, as `ray://HOST:PORT`."""
    note = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir()), "ray", "ray_current_cluster")
    noted = note.read_text().strip() if note.exists() else ""
    address = os.environ.get("RAY_ADDRESS") or noted
    if not address:
        raise UsageError(
            "cluster: this machine belongs to no Ray that 'auto' could join; start one (ray "
            "start --head), or train with local"
        )
    return address if "://" in address else f"ray://{address}"


def _check_answer(cluster):
    """Refuse within seconds: Ray would try for minutes to reach one that has crashed."""
    try:
        address = urlsplit(cluster)
        host, port = address.hostname, address.port
    except ValueError:
        host = None
    if not host or not port or address.scheme != "ray":
        raise UsageError(f"cluster: {cluster!r} is not local, auto or ray://HOST:PORT")
    try:
        socket.create_connection((host, port), ANSWER_SECONDS).close()
    except OSError as error:
        raise UsageError(
            f"cluster: nobody answers at {host}:{port} ({error}); start a Ray there (its port "
            "for ray:// is 10001 unless it was given another), or train with local"
        ) from error


def _outcomes(ray, jobs, datasets):
    train = ray.remote(num_cpus=1, max_calls=PROGRAMS, max_retries=RETRIES)(_train)
    stored = {name: ray.put(dataset) for name, dataset in datasets.items()}
    numbers, waiting = iter(jobs), {}
    try:
        while True:
            for number in itertools.islice(numbers, AHEAD - len(waiting)):
                waiting[train.remote(jobs[number], stored[jobs[number].dataset])] = number
            if not waiting:
                return
            [done], _ = ray.wait(list(waiting))
            yield waiting.pop(done), ray.get(done)
    except (ray.exceptions.RayError, ConnectionError) as error:
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, (UsageError, RunFailed)):
            raise cause from None
        raise RunFailed(
            f"the cluster could not train a group ({first_line(cause)}); groups that are done are "
            "kept, and the same command goes on"
        ) from error


def _train(job, dataset):
    single_threaded()
    return job.train(dataset)
