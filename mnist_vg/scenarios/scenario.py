"""Scenarios: everything that decides a run, checked before anything starts."""

import ast
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
INITIALIZER_ARGUMENTS = {
    "constant": ("value",),
    "identity": ("gain",),
    "normal": ("mean", "stddev"),
    "orthogonal": ("gain",),
    "random_normal": ("mean", "stddev"),
    "random_uniform": ("minval", "maxval"),
    "truncated_normal": ("mean", "stddev"),
    "uniform": ("minval", "maxval"),
    "variance_scaling": ("scale", "mode", "distribution"),
}
INITIALIZER_WORDS = {
    "mode": ("fan_in", "fan_out", "fan_avg"),
    "distribution": ("truncated_normal", "untruncated_normal", "uniform"),
}
NORMALIZATIONS = ("none", "batch", "layer")
OUTPUTS = ("softmax", "sigmoid", "sigmoid_twice")
MEASURES = ("default", "full")
WITH_MOMENTUM = ("sgd", "rmsprop")
MIXING_OPTIMIZERS = ("adafactor", "muon")
"""Those whose update of an element depends on others: on where it stands."""
PARAMETRIC_RELU = "parametric_relu"
"""An activation with a slope of its own to train for each unit, so no Keras function."""


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


_check_initializer_name = _name_of(KERNEL_INITIALIZERS)


def parse_initializer(text: str) -> tuple[str, dict[str, float | str]]:
    """Name and arguments of an initializer: `he_normal`, `random_normal(stddev=1)`.

    Raises:
        ValueError: Keras does not know the name or an argument, or one is no plain
            value; the message tells which.
    """
    text = str(text).strip()
    try:
        node = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        node = ast.Name(text)
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    name = _check_initializer_name(getattr(call.func, "id", text))
    allowed = INITIALIZER_ARGUMENTS.get(name, ())
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if call.args or len(given) < len(call.keywords) or not given.keys() <= set(allowed):
        raise ValueError(f"has wrong arguments; {_signature(name)}")
    # In the order of the signature, so that two spellings are one setting.
    values = {key: _argument(key, given[key]) for key in allowed if key in given}
    for key, value in values.items():
        if value is None:
            kind = ", ".join(INITIALIZER_WORDS.get(key, ["a finite number"]))
            raise ValueError(f"has a wrong {key}, allowed: {kind}; {_signature(name)}")
    return name, values


def _argument(key, node):
    """The word or the finite number of an argument; None where it is neither."""
    try:
        value = ast.literal_eval(node)
        if key in INITIALIZER_WORDS:
            return value if value in INITIALIZER_WORDS[key] else None
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return float(value) if number and math.isfinite(value) else None
    except (ValueError, TypeError, OverflowError, MemoryError, RecursionError):
        return None


def _signature(name):
    allowed = INITIALIZER_ARGUMENTS.get(name)
    return f"{name} takes {', '.join(f'{a}=…' for a in allowed) if allowed else 'none'}"


def _initializer(value):
    if not isinstance(value, str):
        raise ValueError("must be a name, with arguments if any: random_normal(stddev=1)")
    name, arguments = parse_initializer(value)
    listed = ", ".join(f"{key}={argument!r}" for key, argument in arguments.items())
    return f"{name}({listed})" if arguments else name


def _optional(check):
    return lambda value: None if value is None else check(value)


def _integer(minimum):
    def check(value):
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < minimum:
            raise ValueError(f"must be a whole number of {minimum} or more")
        return int(value)

    return check


def _number(fits, words):
    def check(value):
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not number or not fits(value):
            raise ValueError(f"must be a {words}")
        return float(value)

    return check


_positive = _number(lambda value: 0 < value < math.inf, "positive finite number")
_momentum = _number(lambda value: 0 <= value < 1, "number from 0 up to, not including, 1")


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
        raise ValueError(
            "must be circles, close_circles, digits or the name of a TensorFlow Datasets image "
            "set, such as mnist"
        )
    return value


def _setting(default, check, description):
    return dataclasses.field(default=default, metadata={"check": check, "help": description})


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """The recipe of a run. Two equal scenarios give the same numbers, bit for bit.

    Every field is checked when the scenario is made. The defaults are the
    sigmoid network of the tutorial "The Vanishing Gradient Problem" (Great
    Learning; first published by Adventures in Machine Learning, 2018).

    `learning_rate=None` and `momentum=None` are the optimizer's own default;
    `data_seed=None` is `seed`;
    `global_clipnorm=None` does not clip; `output_initializer=None` is
    `kernel_initializer`. `name` defaults to the activation's. An initializer may have
    arguments: `random_normal(stddev=1)`.

    Raises:
        UsageError: a field's value is not allowed; the line names the field, the
            value and what is allowed.
    """

    name: str = dataclasses.field(
        default="", metadata={"check": _file_name, "help": "name of the run and of its folder"}
    )
    dataset: str = _setting(
        "mnist", _dataset_name, "TensorFlow Datasets image set, or circles, close_circles, digits"
    )
    num_layers: int = _setting(6, _integer(1), "dense layers, the one of the logits included")
    hidden_size: int = _setting(10, _integer(1), "units of a hidden layer")
    activation: str = _setting(
        "sigmoid",
        _name_of((*ACTIVATIONS, PARAMETRIC_RELU)),
        "activation of the hidden layers, by Keras' name, or parametric_relu",
    )
    output: str = _setting(
        "softmax",
        _name_of(OUTPUTS),
        "softmax; for two classes also sigmoid, or sigmoid_twice, one more unit before it",
    )
    kernel_initializer: str = _setting(
        "glorot_uniform", _initializer, "initializer of the kernels; random_normal(stddev=1)"
    )
    output_initializer: str | None = _setting(
        None, _optional(_initializer), "initializer of the output's kernels; default: the others'"
    )
    bias_initializer: str = _setting("zeros", _initializer, "initializer of the biases")
    shared_initializer: bool = _setting(
        False, _flag, "one draw for all layers, as from one shared Keras 3 initializer"
    )
    normalization: str = _setting(
        "none", _name_of(NORMALIZATIONS), "before each activation: none, batch or layer"
    )
    skip_connections: bool = _setting(False, _flag, "add each hidden layer's input to its output")
    optimizer: str = _setting("adam", _name_of(OPTIMIZERS), "Keras optimizer")
    learning_rate: float | None = _setting(
        None, _optional(_positive), "default: the optimizer's own"
    )
    momentum: float | None = _setting(
        None, _optional(_momentum), "of sgd or rmsprop; default: the optimizer's own"
    )
    global_clipnorm: float | None = _setting(
        None, _optional(_positive), "clip the norm of all gradients together; default: no clipping"
    )
    iterations: int = _setting(2500, _integer(1), "optimizer updates")
    batch_size: int = _setting(30, _integer(1), "examples an update")
    partial_batches: bool = _setting(
        False, _flag, "end an epoch with the batch that is left, not go on into the next epoch"
    )
    log_every: int = _setting(200, _integer(1), "updates between two records")
    measures: str = _setting(
        "default", _name_of(MEASURES), "what is recorded: default, or full for much more"
    )
    seed: int = _setting(0, _integer(0), "decides initial weights and batches")
    data_seed: int | None = _setting(
        None, _optional(_integer(0)), "decides the batches; default: the seed does"
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
                f"momentum: {self.momentum} is nothing that {self.optimizer} has; "
                f"use {' or '.join(WITH_MOMENTUM)}, or leave it out"
            )
        if self.output == "sigmoid_twice" and self.num_layers < 2:
            raise UsageError("output: 'sigmoid_twice' needs num_layers of 2 or more")

    def with_seed(self, seed: int) -> "Scenario":
        """The same recipe under another seed, named after both."""
        return dataclasses.replace(self, seed=seed, name=f"{self.name}-seed{seed}")

    @property
    def batch_seed(self) -> int:
        """What decides the batches: scenarios that share it see the same ones."""
        return self.seed if self.data_seed is None else self.data_seed

    def structure(self) -> tuple:
        """What the compiled program depends on: equal ones train in one program."""
        return tuple(v for key, v in self.settings().items() if key not in _VALUES_ONLY)

    def settings(self) -> dict[str, Any]:
        """The settings as plain values, in the order of the fields, `about` left out."""
        return {field.name: getattr(self, field.name) for field in setting_fields()}


_VALUES_ONLY = (
    "name",
    "kernel_initializer",
    "output_initializer",
    "bias_initializer",
    "shared_initializer",
    "learning_rate",
    "iterations",
    "log_every",
    "seed",
    "data_seed",
)
"""Settings that decide values of variables, or how often the program is called."""


def setting_fields() -> list[dataclasses.Field]:
    """The dataclass fields of `Scenario` that decide a run."""
    return [field for field in dataclasses.fields(Scenario) if "check" in field.metadata]
