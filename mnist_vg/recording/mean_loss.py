"""`MeanLoss`: the loss of a `fit`, averaged since the last record."""

import keras


class MeanLoss:
    """Averages the loss that Keras computes, without a look at the steps in between.

    Keras adds up the losses of an epoch, each weighted by its batch's size, and their
    weights. The mean since the last record is the quotient of both differences.

    Args:
        tracker: the metric in which Keras does so; without one there is no mean.
    """

    def __init__(self, tracker: keras.metrics.Mean | None):
        self._tracker = tracker
        self._carried = self._seen = (0.0, 0.0)
        self._in_epoch = False

    def begin_epoch(self) -> None:
        """Note that Keras has begun to add up anew."""
        self._seen, self._in_epoch = (0.0, 0.0), True

    def end_epoch(self) -> None:
        """Keep what was added up since the last record."""
        if self._in_epoch:
            self._carried, self._in_epoch = self._since(), False

    def take(self) -> float | None:
        """The mean since the last call; None if Keras has not computed a loss since then."""
        total, weight = self._since()
        self._carried, self._seen = (0.0, 0.0), self._sums()
        return total / weight if weight else None

    def _since(self):
        sums = self._sums()
        # A callback that evaluates the model lets Keras begin anew.
        seen = self._seen if sums[1] >= self._seen[1] else (0.0, 0.0)
        parts = zip(self._carried, sums, seen, strict=True)
        return tuple(carried + now - seen for carried, now, seen in parts)

    def _sums(self):
        if self._tracker is None:
            return 0.0, 0.0
        return float(self._tracker.total.numpy()), float(self._tracker.count.numpy())
