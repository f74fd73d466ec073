"""What the pages that are written from results have in common."""

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mnist_vg import UsageError


def markdown_table(headings: Sequence, rows: Iterable[Iterable]) -> str:
    """A Markdown table; what a cell holds cannot end it."""
    lines = [headings, ["---"] * len(headings), *rows]
    escaped = [[str(cell).replace("|", "\\|").replace("\n", "<br>") for cell in r] for r in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped) + "\n"


def run(main: Callable[..., None], description: str, *names: str, **numbers: int) -> None:
    """Call `main` with what the command line says; a refusal is a line.

    `names` are those of paths, in order; `numbers` are options, with their defaults.
    """
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    for name in names:
        parser.add_argument(name, type=Path)
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    try:
        main(*vars(parser.parse_args()).values())
    except UsageError as error:
        parser.error(str(error))
