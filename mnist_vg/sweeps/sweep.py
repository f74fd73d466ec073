"""A sweep: which networks its grid has, and which of them train together."""

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
from mnist_vg.scenarios.scenario import (
    Scenario,
    setting_fields,
)

NETWORKS = 100_000
"""Networks of a sweep, at most: days of work, and more are most likely a slip."""

VALUES = 1_000
"""Numbers of a range, at most."""


_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER}):({_NUMBER}):({_NUMBER})")


def parse_axes(texts: Iterable[str]) -> dict[str, tuple]:
    """Fields and their values, each as `parse_axis` takes it.

    Raises:
        UsageError: a field is given twice, or as `parse_axis`.
    """
    axes: dict[str, tuple] = {}
    for field, values in map(parse_axis, texts):
        if field in axes:
            raise UsageError(f"vary: {field} is given twice; give all of its values at once")
        axes[field] = values
    return axes


def parse_axis(text: str) -> tuple[str, tuple]:
    """A field and its values, from `field=a,b,c` or `field=first:last:step`.

    A range has both ends, and may stand wherever a number may:
    `kernel_initializer=random_normal(stddev=0.1:0.5:0.1)`. `none` is None.

    Raises:
        UsageError: the field cannot be varied, or a value is not allowed.
    """
    name, equals, listed = text.partition("=")
    name = name.strip().replace("-", "_")
    field = _field(name)
    if not equals:
        raise UsageError(f"vary: {text!r} is not field=values, such as num_layers=2:50:4")
    words = [word for item in _split(listed) for word in _expanded(name, item)]
    return name, _checked(field, [_value(field, word) for word in words])


def _field(name):
    """A field that may be varied."""
    fields = {field.name: field for field in setting_fields() if field.name not in _NOT_VARIED}
    if name in fields:
        return fields[name]
    if name in _NOT_VARIED:
        raise UsageError(f"vary: {name} is not varied; {_NOT_VARIED[name]}")
    raise UsageError(f"vary: {name!r} is no setting; {nearest(name, fields)}")


_NOT_VARIED = {
    "name": "networks are named after what is varied",
    "seed": "give how many seeds with --seeds",
    "data_seed": "all networks of a sweep see the same batches",
    "measures": "a sweep's table has the same columns for all",
}


def _checked(field, values):
    """Values of an axis, as the field has them."""
    checked = []
    for value in values:
        try:
            checked.append(field.metadata["check"](value))
        except ValueError as error:
            raise UsageError(f"vary: {field.name}: {value} {error}") from None
    if not checked or len(set(checked)) < len(checked):
        raise UsageError(f"vary: {field.name} has none, or a value twice; give each once")
    return tuple(checked)


def _split(listed):
    """What stands between commas, but for those in brackets."""
    return [item.strip() for item in re.split(r",(?![^(]*\))", listed)]


def _expanded(name, item):
    """An item with its ranges replaced by each of their numbers in turn."""
    found = _RANGE.search(item)
    if found is None:
        return [item]
    first, last, step = map(Decimal, found.groups())
    try:
        steps = (last - first) / step
    except ArithmeticError:  # No step, or more than Decimal can hold.
        steps = -1
    if not 0 <= steps < VALUES:
        raise UsageError(
            f"vary: {name} {found.group()!r} is no range of 1 to {VALUES:,} numbers; give "
            "first:last:step, such as 2:50:4"
        )
    count = int(steps) + 1
    numbers = [format((first + n * step).normalize(), "f") for n in range(count)]
    before, after = item[: found.start()], item[found.end() :]
    return [word for n in numbers for word in _expanded(name, f"{before}{n}{after}")]


def _value(field, word):
    """A word as a value of the field's type; as it is where it is none, for the check to tell."""
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
    """A grid of networks.

    Args:
        name: of the sweep and its folder.
        base: the settings that are not varied. Its seed is the first one; the batches of all
            networks are those of its `batch_seed`; records are default ones.
        axes: field to values, the ones varied.
        seeds: under how many each point of the grid is trained.

    Raises:
        UsageError: a field cannot be varied, a value or a combination is not allowed, or
            there are too many.
    """

    name: str
    base: Scenario
    axes: Mapping[str, tuple]
    seeds: int = 1
    scenarios: tuple[Scenario, ...] = dataclasses.field(init=False)

    def __post_init__(self):
        if not isinstance(self.seeds, int) or self.seeds < 1:
            raise UsageError(f"seeds: {self.seeds!r} must be a whole number, 1 or more")
        axes = {name: _checked(_field(name), values) for name, values in self.axes.items()}
        count = math.prod(map(len, axes.values())) * self.seeds
        if count > NETWORKS:
            raise UsageError(f"vary: {count:,} networks are more than {NETWORKS:,}; vary less")
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
        """What `sweep.json` tells of it."""
        axes = {field: list(values) for field, values in self.axes.items()}
        return {"base": self.base.settings(), "axes": axes, "seeds": self.seeds}


def _word(field, value):
    """A value as a part of a network's name."""
    word = value if isinstance(value, str) else f"{field}={value}"
    return re.sub(r"[^\w.+=]+", "_", word).strip("_")
