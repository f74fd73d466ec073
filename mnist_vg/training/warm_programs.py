"""`WarmPrograms`: compiled programs that are kept for scenarios to come."""

import os
from collections import OrderedDict
from collections.abc import Generator, Iterable

from mnist_vg.datasets import Dataset
from mnist_vg.scenarios.scenario import Scenario, program_key
from mnist_vg.training.programs import make_program, restart
from mnist_vg.training.trainer import Trainer


class WarmPrograms:
    """Keeps the programs that were used last.

    Args:
        most: so many programs are kept.
        data_dir: where TFDS keeps prepared data sets; its own default with None.

    Attributes:
        compiled: how many programs have been compiled so far. XLA never gives all of a
            program's memory mappings back.
    """

    def __init__(self, most: int, data_dir: str | os.PathLike | None = None):
        self.compiled = 0
        self._data_dir = data_dir
        self._most = most
        self._kept: OrderedDict[tuple, tuple[Dataset, Trainer]] = OrderedDict()

    def trainers(self, scenarios: Iterable[Scenario]) -> Generator[tuple[Dataset, Trainer]]:
        """Data set and trainer of each scenario in turn; see `trainer`."""
        for scenario in scenarios:
            yield self.trainer(scenario)

    def trainer(self, scenario: Scenario) -> tuple[Dataset, Trainer]:
        """Data set and trainer of a scenario, compiled and at step 0.

        A trainer may be used until the next one is asked for.

        Raises:
            UsageError: the data set cannot be loaded, or the scenario makes no network for it.
        """
        key = scenario.activation, program_key(scenario)
        if key in self._kept:
            restart(scenario, *self._kept[key])
            self._kept.move_to_end(key)
        else:
            self._kept[key] = make_program(scenario, self._data_dir)
            self.compiled += 1
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return self._kept[key]
