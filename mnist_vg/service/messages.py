"""What a service and its workers say to each other."""

from typing import Any, NamedTuple


class Place(NamedTuple):
    """Where and how a worker trains.

    Attributes:
        logdir: the log folder, in which each job gets a folder of its name.
        data_dir: where TFDS keeps prepared data sets.
        checkpoint_seconds: time between two checkpoints of a run.
        threads: of TensorFlow, and processes of a sweep.
        cluster: the Ray cluster of a sweep; None is this machine.
    """

    logdir: str
    data_dir: str | None
    checkpoint_seconds: float
    threads: int
    cluster: str | None = None


class Task(NamedTuple):
    """What a worker is given: number, request and name of the job, see `queue.Job`."""

    number: int
    request: dict[str, Any]
    name: str


class Ready(NamedTuple):
    """The worker waits for a task; `worn` if a fresh one should take its place."""

    worn: bool


class Progress(NamedTuple):
    """How far a run is.

    Attributes:
        number: of the job.
        share: of its steps that are done, 0 to 1.
        alone: whether the job is this run, and no more.
        run: the name of the run in training.
        step: of the newest block's end, counted from 0.
        loss: of that step's batch.
        accuracy: of that step's batch.
        symptoms: lines of those that became certain since the last message.
        layers: names, the one nearest the input first.
        records: since the last message, each a step with the mean absolute gradient of each layer.
    """

    number: int
    share: float
    alone: bool
    run: str
    step: int
    loss: float
    accuracy: float
    symptoms: list[str]
    layers: list[str]
    records: list[tuple[int, list[float]]]


class SweepProgress(NamedTuple):
    """How far a sweep is.

    Attributes:
        number: of the job.
        share: of the work that is done, 0 to 1.
        networks: how many have been trained.
        of: how many there are.
    """

    number: int
    share: float
    networks: int
    of: int


class Ended(NamedTuple):
    """How a task ended.

    Attributes:
        number: of the job.
        state: "finished", "stopped" or "failed".
        reason: why it failed, or what came out.
        outcome: of a cure that has a recommendation: the names of the run `before` and of the run
            `after`, under the same seed, and the median test accuracies
            `accuracy_before` and `accuracy_after` of all seeds, 0 to 1.
    """

    number: int
    state: str
    reason: str
    outcome: dict[str, Any]
