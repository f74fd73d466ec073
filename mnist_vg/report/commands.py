"""What to type next."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from mnist_vg.runs.run import folders_apart, is_cure


def command(*words: object) -> str:
    """A command of this program, as it can be typed on this terminal.

    It begins as the present one did, since `mnist-vg` may not be on the search path.
    """
    return shlex.join([*_program(), *map(str, words)])


def _program():
    typed = Path(sys.argv[0])
    if typed.name == "mnist-vg" and not _is_found(typed):
        return [str(typed)]
    if (typed.parent.name, typed.name) == ("mnist_vg", "__main__.py"):
        python = Path(sys.executable)
        return [python.name if _is_found(python) else str(python), "-m", "mnist_vg"]
    return ["mnist-vg"]


def _is_found(program):
    """Whether the shell finds this program by its name."""
    found = shutil.which(program.name)
    return found is not None and os.path.abspath(found) == os.path.abspath(program)


def board_line(logdir: str | os.PathLike) -> str:
    """The command that opens TensorBoard on a log folder."""
    return command("board", "--logdir", logdir)


def apart_lines(verb: str, logdir: Path) -> list[str]:
    """What the sweeps and cures in a log folder have, and the command that shows it."""
    return [
        f"{folder.relative_to(logdir)} is a {'cure' if is_cure(folder) else 'sweep'}: "
        f"{command(verb, '--logdir', logdir, folder.relative_to(logdir))}"
        for folder in folders_apart(logdir)
    ]
