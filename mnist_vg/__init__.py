"""See in TensorBoard which network cannot learn: vanishing gradients, layer by layer."""

import lazy_loader

# Imported on first use: TensorFlow takes seconds, which reading a log need not pay, and what the
# command line imports comes after it has prepared for Ctrl-C.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checks": ["check"],
        "diagnosis.diagnosis": ["diagnose"],
        "driver": ["train"],
        "errors": ["RunFailed", "UsageError"],
        "model": ["Model"],
        "recording": ["GradientLogger", "Recorder"],
        "runs.run": ["Run"],
        "scenarios.scenario": ["Scenario"],
        "scenarios.suites": ["SCENARIOS", "SUITES"],
        "service.client": ["connect"],
    },
)
