"""What the networks of a group recorded, as one array per measure."""

from typing import NamedTuple

import numpy as np


class Records(NamedTuple):
    """What the networks of a group recorded.

    Attributes:
        steps: the step of each record, `[records]`.
        measured: an array for each scalar tag, `[records, networks]`, and for each measure of
            layers, `[records, layers, networks]`. A histogram is a dict of such arrays.
        layer_measures: pairs of layer names and the measures that a default record has of these
            layers. The first pair is for all layers, the second, if there is one, for the layers
            with an activation.
    """

    steps: np.ndarray
    measured: dict
    layer_measures: list[tuple[list[str], list[str]]]

    def of(self, network: int) -> dict:
        """The arrays of `measured` for one network, without the axis of the networks."""

        def pick(array):
            return array[:, network] if array.ndim == 2 else array[:, :, network]

        return {name: _map(pick, value) for name, value in self.measured.items()}


def _map(function, value):
    """Apply a function to an array, or to each array of a histogram."""
    if isinstance(value, dict):
        return {name: function(array) for name, array in value.items()}
    return function(value)
