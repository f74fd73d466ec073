"""What a check says: its findings, what it looked at, and what it skipped."""

import dataclasses
import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 88
"""Characters in a line of the text at most: it fits into a terminal and a notebook's cell."""


@dataclass(frozen=True)
class Finding:
    """One thing that will keep a model from learning, or make it learn something else.

    Attributes:
        check: the kind of check: "data", "labels", "head", "network" or "optimizer".
        layer: path of the layer, see `layer_paths`; None if it is not about one layer.
        words: what was measured, with the number.
        why: what follows from it in training.
        instead: what to write instead.
    """

    check: str
    layer: str | None
    words: str
    why: str
    instead: str

    @property
    def line(self) -> str:
        """What was measured, and what to write instead, in one line."""
        return f"{self._subject}: {self.words}; instead: {self.instead}"

    @property
    def _subject(self):
        return f"{self.check} in {self.layer}" if self.layer else self.check

    def __repr__(self):
        lines = f"{self._subject}: {self.words}", f"why: {self.why}", f"instead: {self.instead}"
        return "\n   ".join(map(_wrapped, lines))


@dataclass(frozen=True)
class Checks:
    """The result of `check`.

    Attributes:
        findings: causes come before what follows from them.
        looked: what was looked at, a line each.
        skipped: what was not looked at, and why, a line each.
    """

    findings: tuple[Finding, ...]
    looked: tuple[str, ...]
    skipped: tuple[str, ...]

    def __repr__(self):
        count = len(self.findings)
        lines = [f"{count or 'no'} finding{'s' if count != 1 else ''}"]
        lines += [f"{n}. {finding!r}" for n, finding in enumerate(self.findings, start=1)]
        lines += [_wrapped(f"looked at: {line}") for line in self.looked]
        lines += [_wrapped(f"skipped: {line}") for line in self.skipped]
        return "\n".join(lines)

    def json(self) -> str:
        """The same as a JSON object with the keys `findings`, `looked` and `skipped`."""
        return json.dumps(dataclasses.asdict(self), indent=2)


def _wrapped(line):
    return textwrap.fill(line, WIDTH - 4, subsequent_indent="   ")


def and_others(paths: Sequence[str]) -> str:
    """The layers after the first one that a finding is about, in words."""
    others = list(dict.fromkeys(paths))[1:]
    if not others:
        return ""
    more = f" and {len(others) - 3} more" if others[3:] else ""
    return f" (the same in {', '.join(others[:3])}{more})"
