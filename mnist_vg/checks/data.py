"""Checks of the data: values that are missing, constant, or far from unit scale."""

from collections.abc import Callable

import numpy as np

from mnist_vg.checks.batches import Data
from mnist_vg.checks.findings import Finding
from mnist_vg.checks.look import Signal, Steps

LARGE_INPUTS = 50.0
"""Root mean square from which inputs are far from unit scale. Inputs are best with a mean of 0
and a variance of 1 (LeCun et al. 1998, Efficient BackProp, section 4.3). Images from 0 to 255
have 100 to 200, temperatures in degrees 30, with which networks still learn; set between them on
the public reports in `benchmarks/checks.py`."""

SMALL_INPUTS = 1e-2
"""Root mean square, of the values that are not 0, below which inputs are far from unit scale.
Images that were divided by 255 twice have 0.003; set as `LARGE_INPUTS`."""

SCALE_MATTERS = 0.01
"""Share of the loss that has to change when the inputs get unit scale. Behind a batch
normalization it changes by less than 1e-4."""

_PIXELS = 255


def check_values(data: Data) -> list[Finding]:
    """NaN and infinite values, and inputs that are the same in every example."""
    findings = []
    for name, parts in (data.inputs | data.targets).items():
        numbers = [p for p in parts if np.issubdtype(p.dtype, np.floating)]
        bad = sum(int(p.size - np.isfinite(p).sum()) for p in numbers)
        if bad:
            total = sum(p.size for p in numbers)
            rows = sum(
                int((~np.isfinite(p)).reshape(len(p), -1).any(axis=1).sum()) for p in numbers
            )
            findings.append(
                Finding(
                    "data",
                    None,
                    f"{name} has {bad:,} values of {total:,} that are NaN or infinite, in {rows:,} "
                    "rows",
                    "one of them makes the loss and all weights NaN in a single step",
                    "leave these rows out, or fill the values in (np.nan_to_num, or the mean of "
                    "the column)",
                )
            )
    if data.inputs and all(map(_constant, data.inputs.values())):
        names = ", ".join(data.inputs)
        findings.append(
            Finding(
                "data",
                None,
                f"{names}: every example has the same values",
                "the model cannot tell one example from another, and gives all the same answer",
                "look at how the inputs are made",
            )
        )
    return findings


def _constant(parts):
    rows = sum(len(part) for part in parts)
    if rows < 2 or any(part.shape[1:] != parts[0].shape[1:] for part in parts):
        return False
    return all(bool((part == parts[0][:1]).all()) for part in parts)


def check_scale(steps: Steps, steps_with: Callable[[dict[str, float]], Steps]) -> list[Finding]:
    """Inputs far from unit scale, where they meet the first weights, and where it matters.

    So what a `Rescaling` or `Normalization` layer mends is right, and so is what a batch
    normalization behind the first layer makes up for.

    Args:
        steps: training steps with the inputs as they are.
        steps_with: the same with the inputs of some layers multiplied by a number each.
    """
    found = {path: steps.signals[path] for path in steps.first if _far(steps.signals[path])}
    findings = []
    for path, signal in found.items():
        scaled = steps_with({path: 1 / signal.input_scale}).losses
        if np.abs(scaled - steps.losses).mean() < SCALE_MATTERS * np.abs(steps.losses).mean():
            continue
        pixels = signal.whole == 1 and signal.low >= 0 and 1 < signal.high <= _PIXELS
        findings.append(
            Finding(
                "data",
                path,
                f"its inputs go from {signal.low:.3g} to {signal.high:.3g}, and their root mean "
                f"square is {signal.input_scale:,.3g}"
                + (" (whole numbers up to 255, as in images)" if pixels else ""),
                f"that is {_factor(signal.input_scale)} what initial weights and learning rates "
                "are made for, so the first steps are far too "
                + ("large" if signal.input_scale > 1 else "small"),
                "divide by 255, or begin with keras.layers.Rescaling(1 / 255)"
                if pixels
                else "subtract the mean and divide by the standard deviation, or begin with an "
                "adapted keras.layers.Normalization()",
            )
        )
    return findings


def check_finite(steps: Steps) -> list[Finding]:
    """A loss that is NaN or infinite in the first step, and the layer where it begins."""
    if np.isfinite(steps.losses).all():
        return []
    layers = [path for path, signal in steps.signals.items() if not np.isfinite(signal.scale)]
    return [
        Finding(
            "network",
            layers[0] if layers else None,
            "its outputs are NaN or infinite before any training"
            if layers
            else "the loss is NaN or infinite before any training, and no layer's output is",
            "one step makes all weights NaN",
            "look for a division by 0, the logarithm or root of 0 or less, and weights or inputs "
            "that are too large",
        )
    ]


def _far(signal: Signal):
    if not signal.differentiable or not np.isfinite(signal.input_scale):
        return False
    return signal.input_scale >= LARGE_INPUTS or signal.input_scale <= SMALL_INPUTS


def _factor(scale):
    return f"{scale:,.3g} times" if scale > 1 else f"one {1 / scale:,.0f}th of"
