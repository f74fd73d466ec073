"""Tables of the pages that are written from results."""

from collections.abc import Iterable, Sequence


def markdown_table(headings: Sequence, rows: Iterable[Iterable]) -> str:
    """A Markdown table; what a cell holds cannot end it."""
    lines = [headings, ["---"] * len(headings), *rows]
    escaped = [[str(cell).replace("|", "\\|").replace("\n", "<br>") for cell in r] for r in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped) + "\n"
