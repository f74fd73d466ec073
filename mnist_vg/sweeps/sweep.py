"""`Sweep`: a grid of scenarios, made from the settings that are varied."""

import contextlib
import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mnist_vg.errors import UsageError, nearest
from mnist_vg.scenarios.scenario import Scenario, file_name, setting_fields

MAX_NETWORKS = 100_000
"""Most networks in a sweep. These take days; more are probably a typing error."""

MAX_RANGE = 1_000
"""Most numbers in a range."""

MAX_VALUES = 10_000
"""Most values of a setting. With several ranges in an initializer, there may be any number."""

# Bounded, and not from within a number: a text of digits is looked through once.
_NUMBER = r"(?<![\w.])[-+]?(?:\d{1,20}\.?\d{0,20}|\.\d{1,20})(?:[eE][-+]?\d{1,3})?(?![\d.])"
_RANGE = re.compile(rf"({_NUMBER}):({_NUMBER}):({_NUMBER})")
_SHORT_RANGE = re.compile(rf"{_NUMBER}:{_NUMBER}")


def parse_axes(texts: Iterable[str]) -> dict[str, tuple]:
    """The fields and values of several texts; see `parse_axis`.

    Raises:
        UsageError: a field is given twice, or `parse_axis` refuses a text.
    """
    axes: dict[str, tuple] = {}
    for field, values in map(parse_axis, texts):
        if field in axes:
            raise UsageError(f"vary: {field} is given twice; give all of its values together")
        axes[field] = values
    return axes


def parse_axis(text: str) -> tuple[str, tuple]:
    """Parse a field and its values, such as `activation=tanh,relu` or `num_layers=2:50:4`.

    `first:last:step` is a range that includes both ends, and may replace any number, as in
    `kernel_initializer=random_normal(stddev=0.1:0.5:0.1)`. A comma in parentheses does not
    separate values. `none` is None.

    Returns:
        The field's name and its values.

    Raises:
        UsageError: the field cannot be varied, or a value is not allowed.
    """
    name, equals, listed = text.partition("=")
    name = name.strip().replace("-", "_")
    field = _field(name)
    if not equals:
        raise UsageError(f"vary: {text!r} is not field=values, such as num_layers=2:50:4")
    words = (word for item in _split(listed) for word in _expanded(name, item))
    found = list(itertools.islice(words, MAX_VALUES + 1))
    if len(found) > MAX_VALUES:
        raise UsageError(f"vary: {name} has more than {MAX_VALUES:,} values; give fewer")
    return name, _checked(field, [_value(field, word) for word in found])


def check_axes(axes: Mapping[str, Iterable]) -> dict[str, tuple]:
    """The fields and their values, checked and normalized as `Scenario` does it.

    Raises:
        UsageError: a field cannot be varied, or a value is not allowed.
    """
    return {name: _checked(_field(name), values) for name, values in axes.items()}


def _field(name):
    """The setting with this name, if it can be varied."""
    fields = {field.name: field for field in setting_fields() if field.name not in NOT_VARIED}
    if name in fields:
        return fields[name]
    if name in NOT_VARIED:
        raise UsageError(f"vary: {name} cannot be varied: {NOT_VARIED[name]}")
    raise UsageError(f"vary: {name!r} is not a setting; {nearest(name, fields)}")


NOT_VARIED = {
    "name": "networks are named after the values that are varied",
    "seed": "give the number of seeds with --seeds",
    "data_seed": "all networks of a sweep see the same batches",
    "measures": "a sweep's table has the same columns for all networks",
}
"""Settings that a sweep cannot vary, and why."""


def _checked(field, values):
    """The values of a field, checked and normalized."""
    checked = []
    for value in values:
        try:
            checked.append(field.metadata["check"](value))
        except ValueError as error:
            raise UsageError(f"vary: {field.name}: {value} {error}") from None
    if not checked or len(set(checked)) < len(checked):
        raise UsageError(
            f"vary: {field.name} has no value, or one value twice; give each value once"
        )
    return tuple(checked)


def _split(listed):
    """Split at commas, except for commas in parentheses."""
    return [item.strip() for item in re.split(r",(?![^(]*\))", listed)]


def _expanded(name, item):
    """Replace the ranges of an item by their numbers: `f(a=1:3:1)` gives `f(a=1)`, `f(a=2)`, …."""
    # Texts, and between them the three numbers of each range.
    texts, *numbers = (_RANGE.split(item)[n::4] for n in range(4))
    if short := next(filter(None, map(_SHORT_RANGE.search, texts)), None):
        raise UsageError(
            f"vary: {name} {short.group()!r} has no step; give first:last:step, such as 2:50:4"
        )
    ranges = [_numbers(name, *ends) for ends in zip(*numbers, strict=True)]
    for chosen in itertools.product(*ranges):
        yield "".join(word for pair in zip(texts, [*chosen, ""], strict=True) for word in pair)


def _numbers(name, first, last, step):
    """The numbers of a range, which is decimal, so that 0.1:0.3:0.1 ends with 0.3."""
    start, end, by = map(Decimal, (first, last, step))
    try:
        steps = (end - start) / by
    except ArithmeticError:  # A step of 0.
        steps = -1
    if not 0 <= steps < MAX_RANGE:
        raise UsageError(
            f"vary: {name} '{first}:{last}:{step}' is not a range of 1 to {MAX_RANGE:,} numbers; "
            "give first:last:step, such as 2:50:4"
        )
    return [format((start + n * by).normalize(), "f") for n in range(int(steps) + 1)]


def _value(field, word):
    """The word as the field's type, or unchanged if that fails, for the field's check to refuse."""
    optional = "None" in str(field.type)
    if optional and word.lower() == "none":
        return None
    if field.type is bool:
        return {"true": True, "false": False}.get(word.lower(), word)
    for kind in (int, float):
        if kind.__name__ in str(field.type):
            with contextlib.suppress(ValueError):
                return kind(word)
    return word


@dataclass(frozen=True)
class Sweep:
    """A grid of networks: each combination of the varied settings, with each seed.

    Attributes:
        name: the name of the sweep and of its folder.
        base: the settings that are not varied. Its `seed` is the first seed, and its
            `batch_seed` decides the batches of all networks. `measures` is always "default".
        axes: the varied fields and their values.
        seeds: the number of seeds for each combination.
        scenarios: the networks' scenarios, in the order of the grid; made from the others.

    Raises:
        UsageError: a field cannot be varied, a value or a combination of values is not allowed,
            or there are more than `MAX_NETWORKS` networks.
    """

    name: str
    base: Scenario
    axes: Mapping[str, tuple]
    seeds: int = 1
    scenarios: tuple[Scenario, ...] = dataclasses.field(init=False)

    def __post_init__(self):
        if not isinstance(self.seeds, int) or isinstance(self.seeds, bool) or self.seeds < 1:
            raise UsageError(f"seeds: {self.seeds!r} must be a whole number, 1 or more")
        try:
            file_name(self.name)  # In a scenario, an empty one stands for the activation.
        except ValueError as error:
            raise UsageError(f"name: {self.name!r} {error}") from None
        axes = check_axes(self.axes)
        count = math.prod(map(len, axes.values())) * self.seeds
        if count > MAX_NETWORKS:
            raise UsageError(
                f"vary: {count:,} networks are too many; give fewer values or seeds, for at most "
                f"{MAX_NETWORKS:,}"
            )
        base = dataclasses.replace(self.base, name=self.name, measures="default")
        object.__setattr__(self, "axes", axes)
        object.__setattr__(self, "base", base)
        object.__setattr__(self, "scenarios", tuple(self._scenarios(count)))

    def _scenarios(self, count):
        digits = len(str(count - 1))
        own = {"data_seed": self.base.batch_seed, "about": "", "source": ""}
        seeds = range(self.base.seed, self.base.seed + self.seeds)
        grid = itertools.product(*self.axes.values(), seeds)
        for number, (*values, seed) in enumerate(grid):
            varied = dict(zip(self.axes, values, strict=True))
            name = "-".join([f"{number:0{digits}}", *map(_word, varied, values), f"seed{seed}"])
            yield dataclasses.replace(self.base, name=name[:100], seed=seed, **own, **varied)

    def facts(self) -> dict[str, Any]:
        """The part of `sweep.json` that describes the grid."""
        axes = {field: list(values) for field, values in self.axes.items()}
        return {"base": self.base.settings(), "axes": axes, "seeds": self.seeds}


def _word(field, value):
    """The value as part of a network's name, such as "tanh" or "num_layers=2"."""
    word = value if isinstance(value, str) else f"{field}={value}"
    return re.sub(r"[^\w.+=]+", "_", word).strip("_")
