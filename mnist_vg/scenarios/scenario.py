"""`Scenario`: everything that decides a run, checked before anything starts."""

import dataclasses
import math
import numbers
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mnist_vg.errors import UsageError
from mnist_vg.scenarios.initializers import check_initializer, one_of

# The names that Keras knows. They stand here so that a typing error is caught without
# importing TensorFlow; a test compares them with Keras' own registries.
ACTIVATIONS = tuple(
    "celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish "
    "hard_tanh leaky_relu linear log_sigmoid log_softmax mish relu relu6 selu sigmoid "
    "silu soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid sparsemax "
    "squareplus swish tanh tanh_shrink threshold".split()
)
OPTIMIZERS = tuple(
    "adadelta adafactor adagrad adam adamax adamw ftrl lion muon nadam rmsprop "
    "schedulefreeadamw sgd".split()
)
NORMALIZATIONS = ("none", "batch", "layer")
OUTPUTS = ("softmax", "sigmoid", "sigmoid_twice")
MEASURES = ("default", "full")
WITH_MOMENTUM = ("sgd", "rmsprop")
MIXING_OPTIMIZERS = ("adafactor", "muon")
"""Optimizers whose update of one element depends on the other elements of its variable."""
PARAMETRIC_RELU = "parametric_relu"
"""An activation with trained slopes, one per unit: in Keras a layer, not a function."""


def _optional(check):
    return lambda value: None if value is None else check(value)


def _integer(minimum):
    def check(value):
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < minimum:
            raise ValueError(f"must be a whole number of {minimum} or more")
        if value >= 2**63:
            raise ValueError("must be a whole number below 2**63")
        return int(value)

    return check


def _number(fits, words):
    def check(value):
        try:
            real = isinstance(value, numbers.Real) and not isinstance(value, bool)
            number = float(value) if real else math.nan
        except OverflowError:  # A whole number of more than 308 digits.
            number = math.inf
        if not fits(number):
            raise ValueError(f"must be a {words}")
        return number

    return check


_positive = _number(lambda value: 0 < value < math.inf, "positive finite number")
_momentum = _number(lambda value: 0 <= value < 1, "number from 0 up to, not including, 1")


def _flag(value):
    if not isinstance(value, bool):
        raise ValueError("must be True or False")
    return value


def file_name(value: str) -> str:
    """The name of a run or a sweep, if it can name a folder.

    Raises:
        ValueError: it cannot.
    """
    if not isinstance(value, str) or not re.fullmatch(r"\w[\w.+=-]{0,99}", value):
        raise ValueError("must be 1 to 100 letters, digits and _ . + = -, as it names a folder")
    if len(value.encode()) > 255:
        raise ValueError("must be shorter: in UTF-8, it has more than the 255 bytes of a file name")
    return value


def _dataset_name(value):
    # A TFDS name may carry a configuration and a version: `emnist/letters:3.1.0`.
    if not isinstance(value, str) or not re.fullmatch(r"\w+(/[\w.+-]+)?(:\d[\d.*]*)?", value):
        raise ValueError(
            "must be circles, close_circles, digits or the name of a TensorFlow Datasets image "
            "set, such as mnist"
        )
    return value


def _setting(default, check, description, *, part="run", compiled=True):
    """A field of `Scenario` that decides a run.

    Args:
        default: its value where none is given.
        check: returns the value as the scenario keeps it; raises ValueError on a wrong one.
        description: for `--help`.
        part: whose argument it is: "model", "optimizer" or "run".
        compiled: whether the compiled program depends on it. What decides values of
            variables, or how often the program is called, is no part of it.
    """
    metadata = {"check": check, "help": description, "part": part, "compiled": compiled}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """The recipe of a run. Two equal scenarios give the same numbers, bit for bit.

    Every field is checked when the scenario is made. The defaults are the
    sigmoid network of the tutorial "The Vanishing Gradient Problem" (Great
    Learning; first published by Adventures in Machine Learning, 2018).

    The default of `name` is the activation's name. None stands for: the optimizer's own
    default (`learning_rate`, `momentum`), no clipping (`global_clipnorm`), the same as
    `kernel_initializer` (`output_initializer`), the same as `seed` (`data_seed`). An
    initializer may have arguments: `random_normal(stddev=1)`.

    Raises:
        UsageError: a field's value is not allowed; the line names the field, the
            value and what is allowed.
    """

    name: str = _setting("", file_name, "name of the run and of its folder", compiled=False)
    dataset: str = _setting(
        "mnist",
        _dataset_name,
        "image set of TensorFlow Datasets, or circles, close_circles or digits",
    )
    num_layers: int = _setting(
        6, _integer(1), "number of dense layers, including the one for the logits", part="model"
    )
    hidden_size: int = _setting(10, _integer(1), "units per hidden layer", part="model")
    activation: str = _setting(
        "sigmoid",
        one_of((*ACTIVATIONS, PARAMETRIC_RELU)),
        "activation of the hidden layers: a Keras name, or parametric_relu",
        part="model",
    )
    output: str = _setting(
        "softmax",
        one_of(OUTPUTS),
        "output: softmax, or for two classes sigmoid or sigmoid_twice (two sigmoid units in a row)",
        part="model",
    )
    kernel_initializer: str = _setting(
        "glorot_uniform",
        check_initializer,
        "initializer of the kernels, such as he_normal or random_normal(stddev=1)",
        part="model",
        compiled=False,
    )
    output_initializer: str | None = _setting(
        None,
        _optional(check_initializer),
        "initializer of the output layer's kernels [default: the kernels']",
        part="model",
        compiled=False,
    )
    bias_initializer: str = _setting(
        "zeros", check_initializer, "initializer of the biases", part="model", compiled=False
    )
    shared_initializer: bool = _setting(
        False,
        _flag,
        "draw all layers from one seed, as one shared Keras 3 initializer does",
        part="model",
        compiled=False,
    )
    normalization: str = _setting(
        "none",
        one_of(NORMALIZATIONS),
        "normalization before each activation: none, batch or layer",
        part="model",
    )
    skip_connections: bool = _setting(
        False, _flag, "add each hidden layer's input to its output", part="model"
    )
    optimizer: str = _setting("adam", one_of(OPTIMIZERS), "name of a Keras optimizer")
    learning_rate: float | None = _setting(
        None,
        _optional(_positive),
        "learning rate [default: the optimizer's]",
        part="optimizer",
        compiled=False,
    )
    momentum: float | None = _setting(
        None,
        _optional(_momentum),
        "momentum of sgd or rmsprop [default: the optimizer's]",
        part="optimizer",
    )
    global_clipnorm: float | None = _setting(
        None,
        _optional(_positive),
        "clip the global norm of the gradients to this [default: no clipping]",
        part="optimizer",
    )
    iterations: int = _setting(2500, _integer(1), "number of optimizer updates", compiled=False)
    batch_size: int = _setting(30, _integer(1), "examples per update")
    partial_batches: bool = _setting(
        False, _flag, "end each epoch with a smaller batch; otherwise a batch may span two epochs"
    )
    log_every: int = _setting(200, _integer(1), "updates between two records", compiled=False)
    measures: str = _setting(
        "default", one_of(MEASURES), "what to record: default, or full for many more measures"
    )
    seed: int = _setting(
        0, _integer(0), "seed of initial weights and batches", part="model", compiled=False
    )
    data_seed: int | None = _setting(
        None, _optional(_integer(0)), "seed of the batches [default: the seed]", compiled=False
    )
    about: str = dataclasses.field(default="", compare=False)
    """What the scenario is expected to show; not a setting."""
    source: str = dataclasses.field(default="", compare=False)
    """Where the experiment is from; not a setting."""

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
        if self.momentum is not None and self.optimizer not in WITH_MOMENTUM:
            raise UsageError(
                f"momentum: {self.momentum} was given, but {self.optimizer} has no momentum; "
                f"use {' or '.join(WITH_MOMENTUM)}, or leave it out"
            )
        if self.output == "sigmoid_twice" and self.num_layers < 2:
            raise UsageError("output: 'sigmoid_twice' needs num_layers of 2 or more")

    def with_seed(self, seed: int) -> "Scenario":
        """The same recipe under another seed, named after both."""
        return dataclasses.replace(self, seed=seed, name=f"{self.name}-seed{seed}")

    @property
    def batch_seed(self) -> int:
        """The seed of the batches: scenarios with the same one see the same batches."""
        return self.seed if self.data_seed is None else self.data_seed

    def structure(self) -> tuple:
        """What the compiled program of this scenario alone depends on."""
        fields = [field for field in setting_fields() if field.metadata["compiled"]]
        return tuple(getattr(self, field.name) for field in fields)

    def part(self, name: str) -> dict[str, Any]:
        """The settings that are arguments of the "model", or of the "optimizer"."""
        fields = [field for field in setting_fields() if field.metadata["part"] == name]
        return {field.name: getattr(self, field.name) for field in fields}

    def settings(self) -> dict[str, Any]:
        """The settings as plain values, in the order of the fields, `about` left out."""
        return {field.name: getattr(self, field.name) for field in setting_fields()}


QUICK_END = "-quick"
"""The end of the name of a run that `mnist-vg train --quick` stops early; a seed may follow."""


def is_quick(settings: Mapping[str, Any]) -> bool:
    """Whether a run with these settings is one of `mnist-vg train --quick`."""
    ends = re.search(rf"{QUICK_END}(-seed\d+)?$", str(settings.get("name")))
    return bool(ends) and "iterations" in settings  # Otherwise somebody else's run.


def setting_fields() -> list[dataclasses.Field]:
    """The dataclass fields of `Scenario` that decide a run."""
    return [field for field in dataclasses.fields(Scenario) if "check" in field.metadata]


CHOOSABLE = frozenset(
    "celu elu exponential gelu hard_shrink hard_tanh leaky_relu relu relu6 selu sigmoid "
    "soft_shrink softplus softsign sparse_plus squareplus tanh".split()
)
"""Elementwise activations without variables, of which one compiled program can have several.

Others of that kind would round differently than without a choice: XLA may round a product and the
sum after it only once. TensorFlow takes no gradients of a choice with silu."""


def chooses_activation(scenario: Scenario) -> bool:
    """Whether the compiled program is told the activation, and can have several.

    With a normalization before the activation, or with the gradients of a full record, the choice
    would round differently, too.
    """
    plain = scenario.normalization == "none" and scenario.measures == "default"
    return plain and scenario.activation in CHOOSABLE


def program_key(scenario: Scenario) -> tuple:
    """What scenarios must have in common to share a compiled program."""
    chosen = chooses_activation(scenario)
    any_of_them = dataclasses.replace(scenario, activation="relu") if chosen else scenario
    return chosen, *any_of_them.structure()


GROUP_VALUES = ("iterations", "log_every")
"""Settings outside the structure that are the same for all networks of a group."""


def stackable(scenario: Scenario) -> bool:
    """Whether the network can train side by side with others, as one model.

    An optimizer that mixes the elements of a variable would mix the networks.
    """
    return scenario.optimizer not in MIXING_OPTIMIZERS


def group_key(scenario: Scenario) -> tuple:
    """What networks must have in common to train together, besides their batches."""
    structure = dataclasses.replace(scenario, global_clipnorm=None).structure()
    return *structure, *(getattr(scenario, field) for field in GROUP_VALUES)
