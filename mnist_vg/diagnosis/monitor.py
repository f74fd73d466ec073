"""A run watched record by record, while it trains."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mnist_vg.diagnosis.diagnosis import Diagnosis, find_symptoms
from mnist_vg.diagnosis.measurements import measurements_of
from mnist_vg.diagnosis.symptom import Evidence


class Monitor:
    """Watches a run record by record, and reports each symptom once.

    Args:
        history: what the run has recorded already, if it is resumed.

    Attributes:
        measurements: of all records so far.
        newest: of the newest record; it has no row if that has no gradients.
        found: the faults and remarks in them, as `find_symptoms` returns them.
    """

    def __init__(self, history: Mapping | None = None):
        self.measurements = measurements_of(history or {"step": np.zeros(0, np.int64)})
        self.newest = self.measurements.until(0)
        self.found: tuple[list[Evidence], list[Evidence]] = [], []
        self._announced: dict[str, Evidence] = {}
        for number in range(1, len(self.measurements.step) + 1):
            self._find(self.measurements.until(number))

    def record(
        self, step: int, scalars: Mapping[str, float], tables: Sequence[tuple[Sequence, Mapping]]
    ) -> list[Evidence]:
        """The symptoms that a new record makes certain.

        Args:
            step: of the record.
            scalars: tag to value.
            tables: names of layers with their measures, as `event_log.as_recorded` returns them.
        """
        history = {"step": np.array([step])} | {tag: [value] for tag, value in scalars.items()}
        for (layers, measures), name in zip(tables, ("layers", "activation_layers"), strict=False):
            history[name] = layers
            history |= {measure: [values] for measure, values in measures.items()}
        self.newest = measurements_of(history)
        self.measurements = self.measurements.then(self.newest)
        return self._find(self.measurements)

    def passed(self, diagnosis: Diagnosis) -> list[Evidence]:
        """The announced symptoms that a diagnosis lacks, each until where it was seen last."""
        found = {evidence.symptom for evidence in (*diagnosis.evidence, *diagnosis.remarks)}
        return [evidence for name, evidence in self._announced.items() if name not in found]

    def _find(self, measurements):
        """The symptoms that have not been told yet."""
        self.found = find_symptoms(measurements, finished=False)
        faults, remarks = self.found
        new = [evidence for evidence in faults if evidence.symptom not in self._announced]
        self._announced |= {evidence.symptom: evidence for evidence in new}
        for evidence in (*faults, *remarks):
            if evidence.symptom in self._announced:
                seen = int(measurements.step[-1]) if evidence.until is None else evidence.until
                self._announced[evidence.symptom] = replace(evidence, until=seen)
        return new
