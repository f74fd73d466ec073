"""Tags: the names under which TensorBoard shows what is recorded."""

LOSS_TRAIN = "loss/train"
LOSS_TRAIN_MEAN = "loss/train_mean"
LOSS_VALIDATION = "val_loss"
LOSS_DATA = "loss/data"
LOSS_SAME_ANSWER = "loss/same_answer"
EXAMPLE_WEIGHT = "examples/weight"
STOPPED = "stopped_early"
LEARNING_RATE = "learning_rate"
MOVING_AVERAGE = "moving_average/of_start"
OUTPUT_SPREAD = "outputs/spread"
NONFINITE_BATCH = ("nonfinite/inputs", "nonfinite/targets", "nonfinite/outputs")
ACCURACY_TRAIN = "accuracy/train"
LOSS_TEST = "loss/test"
ACCURACY_TEST = "accuracy/test"
CHANCE_ACCURACY = "chance/accuracy"
CHANCE_LOSS = "chance/loss"
GRADIENT_FLOW = "gradient_flow/log10_first_to_last"
SYMPTOM_COUNT = "symptoms/found"
SKIPPED_STEPS = "skipped_steps"
GRADIENT_MEAN_ABS = "gradient_mean_abs"
GRADIENT_LOG10 = "gradient_mean_abs_log10"
"""log10 of the former, for TensorBoard: its log axis is linear below 1. `Run` does not read it."""
LAYER_STATE = "layer_state"
UPDATE_RATIO = "update_ratio"
GRADIENT_THROUGH_TIME = "gradient_through_time"
RELATIVE_SENSITIVITY = "relative_sensitivity"
"""By how many percent the loss changes, at most, if a layer's weights change by one percent.

The relative condition number, see `diagnosis.measurements`."""
# TensorBoard opens the first two groups of tags by name. These names come late, so that
# `gradient_flow` stays among the first two.
GRADIENT_PROFILE = "gradient_profile"
UNITS_DEAD = "units_dead"
UNITS_SATURATED = "units_saturated"
GRADIENT_NONFINITE = "gradient_nonfinite"
WEIGHT_NONFINITE = "weight_nonfinite"
NONFINITE = (GRADIENT_NONFINITE, WEIGHT_NONFINITE)
ACTIVATION_INPUTS = "activation_inputs"
ACTIVATION_SLOPE = "activation_slope"
ACTIVATION_GRADIENT = "activation_gradient_rms"
BACKPROPAGATED = "backpropagated_rms"
GRADIENTS = "gradients"
WEIGHTS = "weights"
ACTIVATIONS = "activations"
HISTOGRAMS = (GRADIENTS, WEIGHTS, ACTIVATIONS, ACTIVATION_INPUTS)
LAYER_MEASURES = (
    GRADIENT_MEAN_ABS,
    *NONFINITE,
    "gradient_mean",
    "gradient_std",
    "gradient_norm",
    "gradient_zeros",
    "gradient_nonfinite_share",
    "gradient_clipped_mean_abs",
    "gradient_clipped_norm",
    "weight_mean",
    "weight_std",
    "weight_norm",
    UPDATE_RATIO,
    GRADIENT_THROUGH_TIME,
    RELATIVE_SENSITIVITY,
    BACKPROPAGATED,
    "activation_mean",
    "activation_std",
    UNITS_DEAD,
    UNITS_SATURATED,
    ACTIVATION_SLOPE,
    ACTIVATION_GRADIENT,
    LAYER_STATE,
    *HISTOGRAMS,
)
"""Every measure of a layer: its tag is the measure, a slash and the layer's name."""

TABLE_MEASURES = (
    GRADIENT_MEAN_ABS,
    "gradient_norm",
    "weight_norm",
    UPDATE_RATIO,
    *NONFINITE,
    UNITS_DEAD,
    UNITS_SATURATED,
)
"""Those that a sweep's table has a column of: a number a layer."""

KERNELS = "kernels"
"""The whole kernels of tiny layers, which TensorBoard does not show."""
DECISION_AXIS = "decision/axis"
DECISION_POINTS = "decision/points"
DECISION_PROBABILITY = "decision/probability"
RUN_FACTS = "mnist_vg/run"
"""What the tab "Gradient flow" must know of the run, as JSON; see `diagnosis.facts`."""


def layer_tag(measure: str, layer: str) -> str:
    """The tag of a layer's measure."""
    return f"{measure}/{layer}"
