"""Where the commands print."""

import contextlib
import logging
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

PLAIN_WIDTH = 160
"""Width of a table in a file or a pipe, in characters; a terminal has its own width."""


def make_console() -> Console:
    """A console for standard output, `PLAIN_WIDTH` wide unless that is a terminal."""
    # Brackets and colons in a name are no markup.
    options = {"highlight": False, "markup": False, "emoji": False}
    console = Console(**options)
    return console if console.is_terminal else Console(width=PLAIN_WIDTH, **options)


@contextlib.contextmanager
def told(console: Console) -> Iterator[None]:
    """Within the context, what the package logs on its way is printed, as that it compiles."""

    class Printed(logging.Handler):
        def emit(self, record):
            console.print(Text(record.getMessage(), style="dim"), soft_wrap=True)

    logger, handler = logging.getLogger("mnist_vg"), Printed()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
