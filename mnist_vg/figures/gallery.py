"""Draws and saves every figure for which there are records."""

import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_vg.errors import UsageError
from mnist_vg.figures.drawings import FIGURES, has_recorded
from mnist_vg.figures.style import by_scenario, suite_of
from mnist_vg.runs.paths import as_path
from mnist_vg.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_all(runs: Sequence[Run], compared_with: str | None = None) -> dict[str, "Figure"]:
    """Draw every figure for which runs have the records. Suites get figures of their own.

    `learning` shows all seeds of a scenario, the other figures only the lowest one.

    Args:
        runs: the runs to draw, in any order.
        compared_with: a scenario that is the first one of every figure, whatever the suites.

    Returns:
        Figures by name. If a figure has no room for all scenarios, there are several:
        `name-1`, `name-2`, ….
    """
    figures = {}
    for name, kind in FIGURES.items():
        drawable = [run for run in runs if has_recorded(run, kind.needs)]
        scenarios = by_scenario(drawable)
        if compared_with is None:
            parts = list(_parts(scenarios, kind.max_scenarios))
        else:
            parts = list(_parts_with(compared_with, scenarios, kind.max_scenarios))
        shown = None if kind.all_seeds else 1
        for number, part in enumerate(parts, 1):
            figure = kind.draw([run for seeds in part for run in seeds[:shown]])
            figures[f"{name}-{number}" if len(parts) > 1 else name] = figure
    return figures


def _parts(scenarios, max_scenarios):
    """Split scenarios by suite, and large suites into parts of about equal size."""
    suites: dict[tuple, list] = {}
    for (_, name), seeds in scenarios.items():
        suites.setdefault(tuple(suite_of(name)), []).append(seeds)
    for suite in suites.values():
        yield from _split(suite, max_scenarios)


def _parts_with(first, scenarios, max_scenarios):
    """Split scenarios into parts that all begin with the same one."""
    by_name = {name: seeds for (_, name), seeds in scenarios.items()}
    before = [by_name.pop(first)] if first in by_name else []
    others = list(_split(list(by_name.values()), max_scenarios - len(before)))
    for part in others or [[]] * len(before):
        yield [*before, *part]


def _split(scenarios, most):
    """Parts of about equal size, of at most so many scenarios."""
    parts = math.ceil(len(scenarios) / most)
    for part in range(parts):
        yield scenarios[len(scenarios) * part // parts : len(scenarios) * (part + 1) // parts]


def save(figures: Mapping[str, "Figure"], folder: str | os.PathLike) -> list[Path]:
    """Save figures as `folder/<name>.png` and `folder/<name>.svg`.

    Equal figures give equal files, byte for byte.

    Returns:
        The paths of the files.

    Raises:
        UsageError: the folder cannot be written.
    """
    from matplotlib import rc_context

    paths = []
    try:
        folder = as_path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            for suffix, options in (("png", {}), ("svg", {"metadata": {"Date": None}})):
                buffer = io.BytesIO()
                with rc_context({"svg.hashsalt": "mnist_vg"}):
                    figure.savefig(buffer, format=suffix, dpi=150, **options)
                paths.append(folder / f"{name}.{suffix}")
                paths[-1].write_bytes(buffer.getvalue())
    except OSError as error:
        raise UsageError(f"folder: {folder} cannot be written ({error.strerror})") from error
    return paths
