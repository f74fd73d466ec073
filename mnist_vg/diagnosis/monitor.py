"""A run watched record by record, while it trains."""

from collections.abc import Mapping, Sequence

import numpy as np

from mnist_vg.diagnosis.diagnosis import find_evidence
from mnist_vg.diagnosis.measurements import measurements_of
from mnist_vg.diagnosis.symptom import Evidence
from mnist_vg.runs.events import buckets


class Monitor:
    """Watches a run record by record, and reports each symptom once.

    Args:
        history: what the run has recorded already, if it is resumed.
    """

    def __init__(self, history: Mapping | None = None):
        self._measurements = measurements_of(history) if history else None
        self._told: set[str] = set()
        records = len(self._measurements.step) if history else 0
        for number in range(1, records + 1):
            self._find(self._measurements.until(number))

    def record(
        self, step: int, scalars: Mapping[str, float], tables: Sequence[tuple[Sequence, Mapping]]
    ) -> list[Evidence]:
        """The symptoms that a new record makes certain.

        Args:
            step: of the record.
            scalars: tag to value.
            tables: names of layers with their measures, as `EventLog.record` takes them.
        """
        history = {"step": np.array([step])} | {tag: [value] for tag, value in scalars.items()}
        for (layers, measures), name in zip(tables, ("layers", "activation_layers"), strict=False):
            history[name] = layers
            for group, measured in measures.items():
                histogram = isinstance(measured, Mapping)
                history[group] = [buckets(**measured) if histogram else measured]
        newest = measurements_of(history)
        self._measurements = self._measurements.then(newest) if self._measurements else newest
        return self._find(self._measurements)

    def _find(self, measurements):
        """The symptoms that have not been told yet."""
        found = find_evidence(measurements, finished=False)
        new = [evidence for evidence in found if evidence.symptom not in self._told]
        self._told |= {evidence.symptom for evidence in new}
        return new
