"""Errors: one line that says what is wrong and what to do."""

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """A request cannot be carried out as given; nothing was changed.

    The message is one line: which setting, what was given, what is allowed.
    The command line prints it and exits with code 2.
    """


class RunFailed(RuntimeError):
    """A run broke half way; what it had written is kept.

    The message is one line. The command line prints it and exits with code 1.
    """


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class if the message is empty."""
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


def nearest(given: str, allowed: Iterable[str], all_of_them: str = "") -> str:
    """A hint about a wrong name: the most similar names allowed, or else the first 40 of them.

    Args:
        given: the wrong name.
        allowed: the names allowed.
        all_of_them: what to do to see all names, where there are too many to list here.
    """
    # The last of several names of one spelling: it is as good as the others.
    spelled = {name.lower(): name for name in allowed}
    near = difflib.get_close_matches(given.lower(), spelled, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(spelled[name] for name in near)}?"
    return all_of_them or f"choose from {', '.join(list(spelled.values())[:40])}"
