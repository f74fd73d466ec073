"""What to type next."""

import shlex
from pathlib import Path


def tensorboard_line(logdir: str | Path) -> str:
    """The command that opens TensorBoard on a log folder."""
    return f"tensorboard --logdir {shlex.quote(str(logdir))}"
