"""What to try: what a network does not have already, and what does not contradict itself."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mnist_vg.diagnosis.symptom import Evidence

_RECTIFIERS = {
    *("relu", "relu6", "re_lu", "leaky_relu", "leaky_re_lu", "p_re_lu", "parametric_relu"),
    *("elu", "selu", "celu", "gelu", "silu", "swish", "hard_silu", "mish", "softplus", "glu"),
}
_LEAKY = _RECTIFIERS - {"relu", "relu6", "re_lu"}
_HEADS = {"softmax", "log_softmax", "linear"}

_OPPOSITES = (
    {"a lower learning rate", "a higher learning rate"},
    {"smaller initial weights", "larger initial weights"},
)


def fitting(evidence: Sequence[Evidence], settings: Mapping[str, Any]) -> list[Evidence]:
    """Evidence with the advice that fits the network.

    Left out are what the network has already, and what is the opposite of an advice before it.

    Args:
        evidence: causes first.
        settings: of the run: `activation` or `activations`, `normalization`,
            `skip_connections`, and `clipping` or `global_clipnorm`, as far as they are known.
    """
    ruled_out, result = set(_followed(settings)), []
    for each in evidence:
        advice = tuple(option for option in each.advice if option not in ruled_out)
        for pair in _OPPOSITES:
            for option in pair.intersection(advice):
                ruled_out |= pair - {option}
        result.append(dataclasses.replace(each, advice=advice))
    return result


def _followed(settings):
    """Advice that the network follows already."""
    names = str(settings.get("activations", settings.get("activation", ""))).split(", ")
    hidden = {name for name in names if name} - _HEADS
    if hidden and hidden <= _RECTIFIERS:
        yield from ("an activation such as relu", "an activation without ends")
    if hidden and hidden <= _LEAKY:
        yield "leaky_relu"
    if settings.get("normalization", "none") not in ("none", False):
        yield "a normalization"
    if settings.get("skip_connections"):
        yield "skip connections"
    if settings.get("clipping") or settings.get("global_clipnorm"):
        yield "gradient clipping"
