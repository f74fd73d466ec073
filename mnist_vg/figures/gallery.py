"""Every figure that some runs have the data for, drawn and saved."""

import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_vg.errors import UsageError
from mnist_vg.figures.drawings import FIGURES, by_scenario, has
from mnist_vg.figures.style import suite_of
from mnist_vg.runs.paths import as_path
from mnist_vg.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_all(runs: Sequence[Run]) -> dict[str, "Figure"]:
    """Every figure that runs have the data for, scenarios of different suites apart.

    Args:
        runs: any number. Only `learning` shows a scenario's seeds, the others its lowest.

    Returns:
        Name to figure; where one has no room for all scenarios, `name-1`, `name-2`, ….
    """
    figures = {}
    for name, kind in FIGURES.items():
        able = [run for run in runs if has(run, kind.needs)]
        parts = list(_parts(by_scenario(able), kind.most))
        for number, part in enumerate(parts, 1):
            drawn = kind.draw([run for seeds in part for run in seeds[: None if kind.seeds else 1]])
            figures[f"{name}-{number}" if len(parts) > 1 else name] = drawn
    return figures


def _parts(scenarios, most):
    """Lists of at most so many scenarios' runs, of one suite each, of even lengths."""
    suites: dict[tuple, list] = {}
    for (_, name), seeds in scenarios.items():
        suites.setdefault(tuple(suite_of(name)), []).append(seeds)
    for suite in suites.values():
        parts = math.ceil(len(suite) / most)
        for part in range(parts):
            yield suite[len(suite) * part // parts : len(suite) * (part + 1) // parts]


def save(figures: Mapping[str, "Figure"], folder: str | os.PathLike) -> list[Path]:
    """Write figures as `folder/<name>.png` and `.svg`; equal figures give equal files.

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
