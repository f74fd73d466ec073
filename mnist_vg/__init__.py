"""See in TensorBoard which network cannot learn: vanishing gradients, layer by layer."""

import lazy_loader

from mnist_vg.driver import train
from mnist_vg.errors import RunFailed, UsageError
from mnist_vg.runs.run import Run
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.scenarios.suites import SCENARIOS, SUITES

# Importing these imports TensorFlow, which takes seconds that reading a log need not pay.
__getattr__, *_ = lazy_loader.attach(
    __name__, submod_attrs={"model": ["Model"], "recording": ["GradientLogger", "Recorder"]}
)

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
