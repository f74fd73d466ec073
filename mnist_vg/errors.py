"""What can be wrong with a request or with a run, in one line each."""

import difflib


class UsageError(ValueError):
    """A request that cannot be carried out as given; nothing was changed.

    The message is one line: which setting, what was given, what is allowed.
    The command line prints it and exits with code 2.
    """


class RunFailed(RuntimeError):
    """A run that broke half way; what it had written is kept.

    The command line prints the message, one line, and exits with code 1.
    """


def first_line(error: BaseException) -> str:
    """The first line of what an error says; the name of its class where it says nothing."""
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


def nearest(given: str, allowed) -> str:
    """The hint that closes an error about a name: the nearest ones, else the first 40."""
    near = difflib.get_close_matches(given, allowed, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"choose from {', '.join(list(allowed)[:40])}"
