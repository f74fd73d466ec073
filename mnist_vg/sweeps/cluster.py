"""Trains a sweep's groups on a Ray cluster (https://docs.ray.io); Ray is an optional package."""

import contextlib
import functools
import itertools
import os
import socket
import tempfile
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from mnist_vg.errors import RunFailed, UsageError, first_line
from mnist_vg.sweeps.workers import (
    GROUPS_PER_PROCESS,
    Advanced,
    Datasets,
    Jobs,
    Outcomes,
    single_threaded,
)
from mnist_vg.training.interrupts import sigterm_kept

MAX_PENDING = 1000
"""Tasks that are handed to Ray at a time: more than a cluster has cores."""

RETRIES = 3
"""How often a group is started again after its worker or its node has died."""

STORE_BYTES = 2**28
"""Shared memory of a local Ray, for data sets and results; what does not fit spills to disk."""

ANSWER_SECONDS = 5.0
"""How long a cluster's address may take to answer."""


@contextlib.contextmanager
def on_ray(cluster: str, workers: int) -> Iterator[Callable[[Jobs, Datasets, Advanced], Outcomes]]:
    """Join or start a Ray cluster, and yield a function that trains jobs on it.

    The function yields each outcome as soon as it is there; how far a group is meanwhile, it
    does not tell. Each group is a task with one core, and each node fetches the data sets once.
    At the end, a local Ray is shut down, and any other cluster is left running.

    Args:
        cluster: "local" starts a Ray on this machine, which no other machine can reach. "auto"
            joins the cluster that this machine is a node of, and "ray://HOST:PORT" any other.
        workers: processes of a local Ray.

    Raises:
        UsageError: Ray is not installed, or the cluster cannot be reached. The function raises
            it when a group does.
        RunFailed: raised by the function, when a group killed its workers repeatedly, or the
            connection was lost.
    """
    with connected(cluster, workers) as ray:
        yield functools.partial(_outcomes, ray)


@contextlib.contextmanager
def connected(cluster: str, workers: int) -> Iterator[types.ModuleType]:
    """Join or start a Ray cluster, and yield the package `ray`; arguments are those of `on_ray`.

    At the end, a local Ray is shut down, and any other cluster is left running.

    Raises:
        UsageError: Ray is not installed, or the cluster cannot be reached.
    """
    ray = _import_ray(cluster)
    _connect(ray, cluster, workers)
    try:
        yield ray
    finally:
        ray.shutdown()


def check_cluster(cluster: str) -> None:
    """Check that a cluster can be used.

    Raises:
        UsageError: as `connected`.
    """
    if cluster == "local":  # What would start it takes seconds, and nobody has chosen an address.
        _import_ray(cluster)
    else:
        with connected(cluster, 0):
            pass


def _import_ray(cluster):
    # Otherwise Ray prints a paragraph about each worker that dies; no `ray.init` option stops it.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    if cluster == "local":
        # Makes Ray's servers listen on the loopback interface only, as they do on macOS.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError:
        raise UsageError(
            f"cluster: {cluster!r} needs Ray; run pip install 'mnist_vg[cluster]', or leave out "
            "cluster to train on this machine's cores"
        ) from None
    return ray


def _connect(ray, cluster, workers):
    settings = {"log_to_driver": False, "logging_level": "ERROR"}
    if cluster == "local":
        settings |= {"num_cpus": max(1, workers), "object_store_memory": STORE_BYTES}
        settings |= {"include_dashboard": False}
    else:
        _check_answer(_current_address() if cluster == "auto" else cluster)
    try:
        with sigterm_kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(cluster, **settings)
    # Ray raises many kinds of errors here: for other versions, a missing token, and more.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise UsageError(
            f"cluster: {cluster!r} cannot be used ({reason}); if it asks for a token, set "
            "RAY_AUTH_MODE=token in the environment"
        ) from error


def _current_address():
    """The address, as `ray://HOST:PORT`, that `ray.init("auto")` finds: see its docstring."""
    file = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir()), "ray", "ray_current_cluster")
    noted = file.read_text().strip() if file.exists() else ""
    address = os.environ.get("RAY_ADDRESS") or noted
    if not address:
        raise UsageError(
            "cluster: 'auto' found no Ray cluster on this machine; start one with ray start "
            "--head, or use local"
        )
    return address if "://" in address else f"ray://{address}"


def _check_answer(cluster):
    """Refuse an address that does not answer: Ray itself would try for minutes."""
    try:
        address = urlsplit(cluster)
        host, port = address.hostname, address.port
    except ValueError:
        host = None
    if not host or not port or address.scheme != "ray":
        raise UsageError(f"cluster: {cluster!r} is not one of local, auto or ray://HOST:PORT")
    try:
        socket.create_connection((host, port), ANSWER_SECONDS).close()
    except OSError as error:
        raise UsageError(
            f"cluster: no answer from {host}:{port} ({error}); start Ray there (ray:// uses port "
            "10001 by default), or use local"
        ) from error


def _outcomes(ray, jobs, datasets, advanced):
    train = ray.remote(num_cpus=1, max_calls=GROUPS_PER_PROCESS, max_retries=RETRIES)(_train)
    stored = {name: ray.put(dataset) for name, dataset in datasets.items()}
    numbers, pending = iter(jobs), {}
    try:
        while True:
            for number in itertools.islice(numbers, MAX_PENDING - len(pending)):
                pending[train.remote(jobs[number], stored[jobs[number].dataset])] = number
            if not pending:
                return
            [done], _ = ray.wait(list(pending))
            yield pending.pop(done), ray.get(done)
    except (ray.exceptions.RayError, ConnectionError) as error:
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, (UsageError, RunFailed)):
            raise cause from None
        raise RunFailed(
            f"the cluster could not train a group ({first_line(cause)}); run the same command to "
            "train the groups that are left"
        ) from error


def _train(job, dataset):
    single_threaded()
    return job.train(dataset)
