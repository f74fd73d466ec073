"""Marks: which layers with weights get no gradient, and why."""

from collections.abc import Mapping, Sequence

WITH_GRADIENT, WITHOUT_GRADIENT, FROZEN = 0.0, 1.0, 2.0
"""The states of a layer, as a record of it has them."""

MARKS = {WITHOUT_GRADIENT: "no gradient", FROZEN: "frozen"}
"""The mark of a layer in each state but the usual one."""

LISTED = 3
"""So many layers are named in a line, and the others are counted."""


def layer_marks(layers: Sequence[str], states: Sequence[float]) -> dict[str, str]:
    """The mark of each layer that has one.

    Args:
        layers: names of the layers.
        states: state of each layer; NaN where it is not known.
    """
    pairs = zip(layers, states, strict=True)
    return {str(layer): MARKS[state] for layer, state in pairs if state in MARKS}


def marks_line(marks: Mapping[str, str]) -> str:
    """Marks in one line; empty without marks."""
    without, frozen = ([layer for layer in marks if marks[layer] == m] for m in MARKS.values())
    parts = []
    if without:
        gets, them = ("gets", "it") if len(without) == 1 else ("get", "them")
        parts.append(
            f"{listed(without)} {gets} no gradient (the loss does not use {them}, or an operation "
            f"without a gradient, such as argmax, comes between)"
        )
    if frozen:
        parts.append(f"frozen: {listed(frozen)}")
    return "; ".join(parts)


def listed(layers: Sequence[str]) -> str:
    """The first few layers by name, and how many there are besides."""
    more = len(layers) - LISTED
    return ", ".join(layers[:LISTED]) + (f" and {more} more" if more > 0 else "")
