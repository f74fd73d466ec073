"""`TF_CONFIG`: which processes train together, and which one this is."""

import json
import os
import re

from mnist_vg.errors import UsageError

STRATEGIES = ("mirrored", "multiworker")
"""Ways to train on several devices: on this machine, or on several machines."""

EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)


def leads(strategy: str | None) -> bool:
    """Whether this process writes the run: it is the only one, or the chief of several.

    The chief is the task of type `chief`, or worker 0 if there is no such task, as in
    `tf.distribute.MultiWorkerMirroredStrategy`.

    Args:
        strategy: one of `STRATEGIES`, or None for one device.

    Raises:
        UsageError: there is no such strategy, or the environment variable `TF_CONFIG`
            does not tell who the workers are.
    """
    if strategy is not None and strategy not in STRATEGIES:
        raise UsageError(f"strategy: {strategy!r} is not one of {', '.join(STRATEGIES)}")
    if strategy != "multiworker":
        return True
    given = os.environ.get("TF_CONFIG", "")
    if not given:
        raise UsageError(f"TF_CONFIG: not set; multiworker reads from it who trains: {EXAMPLE}")
    try:
        cluster, task, index = _parse(given)
    except ValueError as error:
        shown = given if len(given) <= 100 else f"{given[:100]}…"
        raise UsageError(f"TF_CONFIG: {shown} {error}; an example: {EXAMPLE}") from error
    return index == 0 and (task == "chief" or "chief" not in cluster)


def _parse(text):
    """The cluster, and type and index of this process's task in it."""
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        job, index = task["type"], task["index"]
        addresses = [address for job in cluster.values() for address in job]
        among = index in range(len(cluster[job]))
    except (ValueError, TypeError, LookupError, AttributeError):
        raise ValueError("is not JSON that tells the cluster, and a task in it") from None
    if "worker" not in cluster or not set(cluster) <= {"chief", "worker"}:
        raise ValueError("must have a cluster of workers, and of a chief at most")
    if not all(re.fullmatch(r"\S+:\d+", str(address)) for address in addresses):
        raise ValueError("must have addresses of the form host:port")
    if len(set(addresses)) < len(addresses):
        raise ValueError("has an address twice")
    if len(cluster.get("chief", [None])) != 1:
        raise ValueError("must have one chief, or none")
    if not among:
        raise ValueError(f"has no {job} {index!r} in its cluster")
    return cluster, job, index
