"""The names under which TensorBoard shows what is recorded."""

LOSS_TRAIN = "loss/train"
ACCURACY_TRAIN = "accuracy/train"
LOSS_TEST = "loss/test"
ACCURACY_TEST = "accuracy/test"
GRADIENT_FLOW = "gradient_flow/log10_first_to_last"
SKIPPED_STEPS = "skipped_steps"
GRADIENT_MEAN_ABS = "gradient_mean_abs"
UPDATE_RATIO = "update_ratio"
ACTIVATION_MEAN = "activation_mean"
NONFINITE = ("gradient_nonfinite", "weight_nonfinite")
HISTOGRAMS = ("gradients", "weights", "activations")
LAYER_GROUPS = (
    GRADIENT_MEAN_ABS,
    *NONFINITE,
    "gradient_norm",
    "gradient_std",
    "gradient_zeros",
    "gradient_nonfinite_share",
    "gradient_clipped_mean_abs",
    "gradient_clipped_norm",
    "weight_norm",
    "weight_std",
    UPDATE_RATIO,
    ACTIVATION_MEAN,
    "activation_std",
    "activation_dead",
    "activation_saturated",
    *HISTOGRAMS,
)
"""What stands before the first slash of a tag that ends in a layer's name."""


def layer_tag(group: str, layer: str) -> str:
    """The tag of a layer in a group."""
    return f"{group}/{layer}"
