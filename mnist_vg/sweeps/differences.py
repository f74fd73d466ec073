"""In what two sweeps of one name differ, as a user has typed it."""

from collections.abc import Mapping
from typing import Any

MANY = 8
"""Of more values than this of a varied setting, only the ends are told."""


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is not the same, in words such as `--seeds 2 and not --seeds 3`.

    Args:
        then: the content of `sweep.json`.
        now: what it would be now.
    """
    fields = dict.fromkeys([*then["axes"], *now["axes"], *now["base"]])
    differing = [
        f"{_typed(field, *was)} and not {_typed(field, *wanted)}"
        for field in fields
        if (was := _setting(then, field)) != (wanted := _setting(now, field))
    ]
    for key, flag in (("seeds", "--seeds"), ("record", "--record"), ("datasets", "data set")):
        if then.get(key) != now[key]:
            differing.append(f"{flag} {_plain(then.get(key))} and not {_plain(now[key])}")
    # The order of the axes decides the networks' names, and the groups the parts of the table.
    if not differing and list(then["axes"]) != list(now["axes"]):
        differing = [f"--vary in the order {', '.join(then['axes'])}"]
    if not differing and then.get("groups") != now["groups"]:
        differing = ["other groups, as another version of mnist_vg makes them"]
    return differing


def _setting(facts, field):
    """A setting's values and whether it is varied; what the base has is then of no matter."""
    varied = field in facts["axes"]
    return facts["axes"][field] if varied else [facts["base"].get(field)], varied


def _typed(field, values, varied):
    words = ["none" if value is None else str(value) for value in values]
    if varied:
        shown = words if len(words) <= MANY else [*words[:2], "…", words[-1]]
        return f"--vary {field}={','.join(shown)}"
    flag = field.replace("_", "-")
    if isinstance(values[0], bool):
        return f"--{flag}" if values[0] else f"--no-{flag}"
    return f"no --{flag}" if values[0] is None else f"--{flag} {words[0]}"


def _plain(value):
    return ", ".join(value.values()) if isinstance(value, Mapping) else value
