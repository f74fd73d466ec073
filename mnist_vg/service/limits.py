"""`Limits`: how much a service takes on."""

from dataclasses import dataclass

from mnist_vg.errors import UsageError
from mnist_vg.scenarios.scenario import Scenario


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a service takes on, so that one request cannot keep it from all others.

    Attributes:
        waiting: jobs in the queue.
        ended: jobs that are remembered after their end; what they have trained stays.
        iterations: steps of a network.
        hidden_size: units of a hidden layer.
        num_layers: layers of a network.
        batch_size: examples of a step.
        seeds: of each change that a cure tries.
        networks: of a sweep.
        body: bytes of a request.
        watchers: clients that wait for events at the same time.
    """

    waiting: int = 1000
    ended: int = 1000
    iterations: int = 1_000_000
    hidden_size: int = 1000
    num_layers: int = 200
    batch_size: int = 10_000
    seeds: int = 10
    networks: int = 1000
    body: int = 65_536
    watchers: int = 200

    def check(self, scenario: Scenario) -> None:
        """Check that a scenario is not too large.

        Raises:
            UsageError: it is; the line names the setting and the option of `mnist-vg serve`.
        """
        for name in ("iterations", "hidden_size", "num_layers", "batch_size"):
            self.check_number(name, getattr(scenario, name))

    def check_number(self, name: str, given: int) -> None:
        """Check that a number is not larger than its limit.

        Raises:
            UsageError: it is.
        """
        most = getattr(self, name)
        if given > most:
            option = f"--most-{name.replace('_', '-')}"
            raise UsageError(
                f"{name}: {given} is more than this service takes; give at most {most}, or "
                f"start it with {option}"
            )
