"""Where the commands print."""

from rich.console import Console

PLAIN_WIDTH = 160
"""Width of a table in a file or a pipe, in characters; a terminal has its own width."""


def make_console() -> Console:
    """A console for standard output, `PLAIN_WIDTH` wide unless that is a terminal."""
    options = {"highlight": False, "markup": False}  # Brackets in a run's name are not markup.
    console = Console(**options)
    return console if console.is_terminal else Console(width=PLAIN_WIDTH, **options)
