"""Initializers as text: `he_normal`, `random_normal(stddev=1)`."""

import ast
import math
import re

from mnist_vg.errors import nearest

KERNEL_INITIALIZERS = tuple(
    "constant glorot_normal glorot_uniform he_normal he_uniform identity lecun_normal "
    "lecun_uniform normal one ones orthogonal random_normal random_uniform "
    "truncated_normal uniform variance_scaling zero zeros".split()
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


def one_of(allowed):
    """A check that accepts a name as Keras spells it: `he_normal`, `HeNormal`, `Adam`."""
    spelled = {name.replace("_", ""): name for name in allowed}

    def check(value):
        key = str(value).replace("_", "").lower()
        if key not in spelled:
            raise ValueError(f"is not one of those known; {nearest(str(value).lower(), allowed)}")
        return spelled[key]

    check.allowed = tuple(allowed)
    return check


_check_initializer_name = one_of(KERNEL_INITIALIZERS)


def parse_initializer(text: str) -> tuple[str, dict[str, float | str]]:
    """Name and arguments of an initializer such as `he_normal` or `random_normal(stddev=1)`.

    Raises:
        ValueError: Keras does not know the name or an argument, or the value of an
            argument is not allowed. The message says which.
    """
    text = str(text).strip()
    try:
        node = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        name = _check_initializer_name(text.partition("(")[0])
        raise ValueError(f"{_lacking(text)}; {_signature(name)}") from None
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    name = _check_initializer_name(getattr(call.func, "id", text))
    allowed = INITIALIZER_ARGUMENTS.get(name, ())
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if call.args or len(given) < len(call.keywords) or not given.keys() <= set(allowed):
        raise ValueError(f"has wrong arguments; {_signature(name)}")
    # In the order of the signature, so that two spellings are the same setting.
    values = {key: _argument(key, given[key]) for key in allowed if key in given}
    for key, value in values.items():
        if value is None:
            kind = ", ".join(INITIALIZER_WORDS.get(key, ["a finite number"]))
            raise ValueError(f"has a wrong {key}, allowed: {kind}; {_signature(name)}")
    return name, values


def _lacking(text):
    """What is missing in an initializer that is no Python."""
    empty = re.search(r"(\w+)\s*=\s*(?=[,)]|$)", text)
    if empty:
        return f"has no value for {empty[1]}"
    return "has no closing bracket" if text.count("(") > text.count(")") else "cannot be read"


def _argument(key, node):
    """The value of an argument, a word or a finite number; None if it is neither."""
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


def check_initializer(value):
    """A setting's check: returns an initializer in its one spelling."""
    if not isinstance(value, str):
        raise ValueError("must be a name, with arguments if any: random_normal(stddev=1)")
    name, arguments = parse_initializer(value)
    listed = ", ".join(f"{key}={argument!r}" for key, argument in arguments.items())
    return f"{name}({listed})" if arguments else name
