"""Where the commands print."""

from rich.console import Console

PLAIN_WIDTH = 160
"""Width of a table in a file or a pipe, in characters; a terminal has its own width."""


def make_console() -> Console:
    """A console for standard output, `PLAIN_WIDTH` wide unless that is a terminal."""
    # Brackets and colons in a name are no markup.
    options = {"highlight": False, "markup": False, "emoji": False}
    console = Console(**options)
    return console if console.is_terminal else Console(width=PLAIN_WIDTH, **options)
