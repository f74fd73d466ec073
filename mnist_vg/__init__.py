"""See in TensorBoard which network cannot learn: vanishing gradients, layer by layer."""

from mnist_vg.driver import train
from mnist_vg.errors import RunFailed, UsageError
from mnist_vg.runs import Run
from mnist_vg.scenarios import SCENARIOS, SUITES, Scenario

__all__ = ["SCENARIOS", "SUITES", "Model", "Run", "RunFailed", "Scenario", "UsageError", "train"]


def __getattr__(name):
    # Importing the model is importing TensorFlow, seconds that reading a log need not pay.
    if name == "Model":
        from mnist_vg.model import Model

        return Model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
