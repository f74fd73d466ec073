"""The first step of a `fit` with `GradientLogger`: how often it is traced, and what it makes."""

import keras
import numpy as np
import pytest

from mnist_vg import GradientLogger

K = keras.layers
RNG = np.random.default_rng(0)
INPUTS, TARGETS = RNG.random((8, 4), np.float32), RNG.random((8, 3), np.float32)


class Counting(K.Layer):
    """Counts how often it is called, which is once a trace."""

    def call(self, inputs):
        self.calls = getattr(self, "calls", 0) + 1
        return inputs


def sequential():
    return keras.Sequential([keras.Input((4,)), Counting(), K.Dense(3)])


def two_outputs():
    inputs = keras.Input((4,))
    counted = Counting()(inputs)
    return keras.Model(inputs, {name: K.Dense(3, name=name)(counted) for name in ("p", "q")})


def listed_outputs():
    """Keras brings labels in a dict into the order of the outputs."""
    model = two_outputs()
    return keras.Model(model.inputs, [model.output["p"], model.output["q"]])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.counting, self.dense = Counting(), K.Dense(3)

    def call(self, inputs):
        return self.dense(self.counting(inputs))


BOTH = {"p": TARGETS, "q": TARGETS}
optimizers = keras.optimizers
CASES = {
    "sequential": (sequential, TARGETS, optimizers.Adam, {}),
    "metrics": (sequential, TARGETS, optimizers.Adam, {"metrics": ["mae", "accuracy"]}),
    "two outputs": (two_outputs, BOTH, optimizers.Adam, {"metrics": {"p": ["mae"], "q": ["mse"]}}),
    "listed outputs": (listed_outputs, BOTH, optimizers.Adam, {}),
    "subclassed": (Subclassed, TARGETS, optimizers.RMSprop, {}),
    "accumulated": (
        sequential,
        TARGETS,
        lambda: optimizers.SGD(momentum=0.9, gradient_accumulation_steps=2),
        {},
    ),
    "nadam": (sequential, TARGETS, optimizers.Nadam, {}),
    "schedule-free": (sequential, TARGETS, optimizers.ScheduleFreeAdamW, {}),
    "scaled": (sequential, TARGETS, lambda: optimizers.LossScaleOptimizer(optimizers.Adam()), {}),
    "several optimizers": (
        sequential,
        TARGETS,
        lambda: optimizers.MultiOptimizer(
            optimizers.OptimizerMap(optimizers.Adam(), {"bias": optimizers.SGD(momentum=0.9)})
        ),
        {},
    ),
}


def trained(make, targets, optimizer, options, *callbacks):
    """How often the model was traced, all that it holds after `fit`, and what `fit` returned."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    model = make()
    model(INPUTS[:1])
    [counting] = [layer for layer in model.layers if isinstance(layer, Counting)]
    counting.calls = 0
    model.compile(optimizer(), "mse", jit_compile=False, **options)
    history = model.fit(INPUTS, targets, 4, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
    metrics = [variable for metric in model.metrics for variable in metric.variables]
    variables = [*model.variables, *model.optimizer.variables, *metrics]
    state = [(variable.path, variable.numpy().tolist()) for variable in variables]
    return counting.calls, state, history.history


@pytest.mark.parametrize("case", CASES)
def test_the_logger_traces_the_step_as_often_as_keras_alone(tmp_path, case):
    traces, state, history = trained(*CASES[case])
    logger = GradientLogger(tmp_path, every=2, check=False)
    logged_traces, logged_state, logged_history = trained(*CASES[case], logger)
    assert logged_state == state
    assert logged_history == history
    # Some optimizers make their variables in the first step. With loss scaling, Keras' own function
    # is never called.
    more = {"several optimizers": 1, "schedule-free": 1, "scaled": -1, "listed outputs": 1}
    assert logged_traces == traces + more.get(case, 0)
