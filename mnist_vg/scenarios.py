"""Scenarios: everything that decides a run, checked before anything starts."""

import dataclasses
import difflib
import math
import numbers
import re
from dataclasses import dataclass
from typing import Any

from mnist_vg.errors import UsageError

# The names that Keras knows, kept here so that a typing error is caught without
# importing TensorFlow; a test holds them against Keras' own registries.
ACTIVATIONS = tuple(
    "celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish "
    "hard_tanh leaky_relu linear log_sigmoid log_softmax mish relu relu6 selu sigmoid "
    "silu soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid sparsemax "
    "squareplus swish tanh tanh_shrink threshold".split()
)
KERNEL_INITIALIZERS = tuple(
    "constant glorot_normal glorot_uniform he_normal he_uniform identity lecun_normal "
    "lecun_uniform normal one ones orthogonal random_normal random_uniform "
    "truncated_normal uniform variance_scaling zero zeros".split()
)
OPTIMIZERS = tuple(
    "adadelta adafactor adagrad adam adamax adamw ftrl lion muon nadam rmsprop "
    "schedulefreeadamw sgd".split()
)
NORMALIZATIONS = ("none", "batch", "layer")


def nearest(given: str, allowed) -> str:
    """The hint that closes an error about a name: the nearest ones, else the first 40."""
    near = difflib.get_close_matches(given, allowed, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"choose from {', '.join(list(allowed)[:40])}"


def _name_of(allowed):
    """Accept a name as Keras spells it (`he_normal`, `HeNormal`, `Adam`)."""
    spelled = {name.replace("_", ""): name for name in allowed}

    def check(value):
        key = str(value).replace("_", "").lower()
        if key not in spelled:
            raise ValueError(f"is not one of those known; {nearest(str(value).lower(), allowed)}")
        return spelled[key]

    return check


def _integer(minimum):
    def check(value):
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < minimum:
            raise ValueError(f"must be a whole number of {minimum} or more")
        return int(value)

    return check


def _positive(value):
    if value is None:
        return None
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise ValueError("must be a positive finite number")
    return float(value)


def _flag(value):
    if not isinstance(value, bool):
        raise ValueError("must be True or False")
    return value


def _file_name(value):
    if not isinstance(value, str) or not re.fullmatch(r"\w[\w.+=-]{0,99}", value):
        raise ValueError("must be at most 100 letters, digits and _ . + = -, as it names a folder")
    return value


def _dataset_name(value):
    # A TFDS name may carry a configuration and a version: `emnist/letters:3.1.0`.
    if not isinstance(value, str) or not re.fullmatch(r"\w+(/[\w.+-]+)?(:\d[\d.*]*)?", value):
        raise ValueError("must be the name of a TensorFlow Datasets image set, such as mnist")
    return value


def _setting(default, check, description):
    return dataclasses.field(default=default, metadata={"check": check, "help": description})


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """The recipe of a run. Two equal scenarios give the same numbers, bit for bit.

    Every field is checked when the scenario is made. The defaults are the
    sigmoid network of the tutorial "The Vanishing Gradient Problem" (Great
    Learning; first published by Adventures in Machine Learning, 2018).

    `learning_rate=None` is the optimizer's own default; `global_clipnorm=None`
    does not clip. `name` defaults to the activation's.

    Raises:
        UsageError: a field's value is not allowed; the line names the field, the
            value and what is allowed.
    """

    name: str = dataclasses.field(
        default="", metadata={"check": _file_name, "help": "name of the run and of its folder"}
    )
    dataset: str = _setting("mnist", _dataset_name, "TensorFlow Datasets image set")
    num_layers: int = _setting(6, _integer(1), "dense layers, the one of the logits included")
    hidden_size: int = _setting(10, _integer(1), "units of a hidden layer")
    activation: str = _setting("sigmoid", _name_of(ACTIVATIONS), "activation of the hidden layers")
    kernel_initializer: str = _setting(
        "glorot_uniform", _name_of(KERNEL_INITIALIZERS), "initializer of the kernels"
    )
    normalization: str = _setting(
        "none", _name_of(NORMALIZATIONS), "before each activation: none, batch or layer"
    )
    skip_connections: bool = _setting(False, _flag, "add each hidden layer's input to its output")
    optimizer: str = _setting("adam", _name_of(OPTIMIZERS), "Keras optimizer")
    learning_rate: float | None = _setting(None, _positive, "default: the optimizer's own")
    global_clipnorm: float | None = _setting(
        None, _positive, "clip the norm of all gradients together; default: no clipping"
    )
    iterations: int = _setting(2500, _integer(1), "optimizer updates")
    batch_size: int = _setting(30, _integer(1), "examples an update")
    log_every: int = _setting(200, _integer(1), "updates between two records")
    seed: int = _setting(0, _integer(0), "decides initial weights and batches")
    about: str = dataclasses.field(default="", compare=False)
    """What the scenario is known for and where that is from; not a setting."""

    def __post_init__(self):
        for field in setting_fields():
            value = getattr(self, field.name)
            if field.name == "name" and value == "":
                value = self.activation
            try:
                checked = field.metadata["check"](value)
            except ValueError as error:
                raise UsageError(f"{field.name}: {value!r} {error}") from None
            object.__setattr__(self, field.name, checked)

    def settings(self) -> dict[str, Any]:
        """The settings as plain values, in the order of the fields, `about` left out."""
        return {field.name: getattr(self, field.name) for field in setting_fields()}


def setting_fields() -> list[dataclasses.Field]:
    """The dataclass fields of `Scenario` that decide a run."""
    return [field for field in dataclasses.fields(Scenario) if "check" in field.metadata]


_TUTORIAL = "The seven-layer MNIST network of the tutorial The Vanishing Gradient Problem: "

SUITES: dict[str, tuple[Scenario, ...]] = {
    "tutorial": (
        Scenario(
            activation="sigmoid",
            about=_TUTORIAL + "each sigmoid passes on at most a quarter of the gradient, and "
            "almost nothing reaches layer 1.",
        ),
        Scenario(
            activation="relu",
            about=_TUTORIAL + "ReLU's slope is 1 or 0, so the gradient reaches every layer, "
            "through the units that are on.",
        ),
        Scenario(
            activation="leaky_relu",
            about=_TUTORIAL
            + "a slope of 0.2 for negative inputs keeps every unit's gradient alive.",
        ),
    ),
}
"""Named lists of scenarios."""

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario for suite in SUITES.values() for scenario in suite
}
"""Every named scenario, by its name."""


def find_scenario(name: str) -> Scenario:
    """The named scenario.

    Raises:
        UsageError: no scenario has this name; the line gives the nearest ones.
    """
    if name not in SCENARIOS:
        raise UsageError(f"scenario: {name!r} is not known; {nearest(name, SCENARIOS)}")
    return SCENARIOS[name]
