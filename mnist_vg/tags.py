"""The names under which TensorBoard shows what is recorded."""

LOSS_TRAIN = "loss/train"
ACCURACY_TRAIN = "accuracy/train"
LOSS_TEST = "loss/test"
ACCURACY_TEST = "accuracy/test"
GRADIENT_FLOW = "gradient_flow/log10_first_to_last"
GRADIENT_MEAN_ABS = "gradient_mean_abs"
HISTOGRAMS = ("gradients", "weights")
NONFINITE = ("gradient_nonfinite", "weight_nonfinite")


def layer_tag(group: str, index: int) -> str:
    """The tag of a layer in a group; `index` counts from 0, the name from 1."""
    return f"{group}/layer{index + 1}"
