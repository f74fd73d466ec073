"""A model and its data out of someone's script."""

import runpy
from pathlib import Path
from typing import Any

from mnist_vg.errors import UsageError, first_line, nearest


def made_by(place: str) -> tuple[Any, ...]:
    """What a function in a script returns.

    Args:
        place: `FILE.py:FUNCTION`. The file is run as a module, not as the main program.

    Returns:
        A compiled model, its inputs and its targets; or the model and a data set.

    Raises:
        UsageError: there is no such file or function, or it fails, or returns something else.
    """
    file, _, name = place.rpartition(":")
    if not Path(file).is_file() or not name:
        raise UsageError(
            f"place: {place!r} must be FILE.py:FUNCTION, a function without arguments that returns "
            "a compiled model, x and y"
        )
    try:
        script = runpy.run_path(file)
        functions = [key for key, value in script.items() if callable(value)]
        if name not in functions:
            raise UsageError(f"place: {file} has no function {name!r}; {nearest(name, functions)}")
        made = script[name]()
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"place: {place} raises {type(error).__name__}: {first_line(error)}"
        ) from error
    if not isinstance(made, tuple) or len(made) not in (2, 3):
        raise UsageError(
            f"place: {place} returns a {type(made).__name__}; return a model, x and y, or a model "
            "and a data set"
        )
    return made
