"""What the networks of a group have recorded, side by side."""

from typing import NamedTuple

import numpy as np


class Records(NamedTuple):
    """What the networks of a group have recorded.

    `measured` has arrays by tag or group of tags, `[records, networks]` or, of a group of
    tags, `[records, layers, networks]`, and dicts of such for histograms; `tables` are names
    of layers with the groups that a default record has of them: of all layers, and, where there
    are any, of those with an activation.
    """

    steps: np.ndarray
    measured: dict
    tables: list[tuple[list[str], list[str]]]

    def of(self, network: int) -> dict:
        """One network's part of `measured`."""

        def pick(part):
            return part[:, network] if part.ndim == 2 else part[:, :, network]

        return {name: _each(pick, part) for name, part in self.measured.items()}


def _each(function, part):
    """The function of an array, or of each array of a histogram."""
    if isinstance(part, dict):
        return {name: function(array) for name, array in part.items()}
    return function(part)
