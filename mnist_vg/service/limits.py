"""`Limits`: how much a service takes on."""

from dataclasses import dataclass, field

from mnist_vg.errors import UsageError
from mnist_vg.scenarios.scenario import Scenario


def _limit(default, help):
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a service takes on, so that one request cannot keep it from all others.

    What each limit is of stands in its field's metadata, under "help".
    """

    waiting: int = _limit(1000, "Jobs that may wait")
    ended: int = _limit(1000, "Jobs that are remembered after their end; their runs stay")
    iterations: int = _limit(1_000_000, "Steps of a network")
    hidden_size: int = _limit(1000, "Units of a hidden layer")
    num_layers: int = _limit(200, "Layers of a network")
    batch_size: int = _limit(10_000, "Examples of a step")
    seeds: int = _limit(10, "Seeds of each change that a cure tries")
    networks: int = _limit(1000, "Networks of a sweep")
    body: int = _limit(65_536, "Bytes of a request")
    watchers: int = _limit(200, "Clients that wait for events at the same time")

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
