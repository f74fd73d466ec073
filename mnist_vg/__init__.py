"""See in TensorBoard which network cannot learn: vanishing gradients, layer by layer."""

from importlib import import_module

from mnist_vg.driver import train
from mnist_vg.errors import RunFailed, UsageError
from mnist_vg.runs.run import Run
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.scenarios.suites import SCENARIOS, SUITES

__all__ = [
    "SCENARIOS",
    "SUITES",
    "GradientLogger",
    "Model",
    "Recorder",
    "Run",
    "RunFailed",
    "Scenario",
    "UsageError",
    "train",
]

# Importing these is importing TensorFlow, seconds that reading a log need not pay.
_LATER = {
    "GradientLogger": "recording.gradient_logger",
    "Model": "model",
    "Recorder": "recording.recorder",
}


def __getattr__(name):
    if name in _LATER:
        return getattr(import_module(f"mnist_vg.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
