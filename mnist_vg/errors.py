"""What can be wrong with a request or with a run, in one line each."""


class UsageError(ValueError):
    """A request that cannot be carried out as given; nothing was changed.

    The message is one line: which setting, what was given, what is allowed.
    The command line prints it and exits with code 2.
    """


class RunFailed(RuntimeError):
    """A run that broke half way; what it had written is kept.

    The command line prints the message, one line, and exits with code 1.
    """
