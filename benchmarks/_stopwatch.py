"""`Stopwatch`: where a program spends its time, part by part."""

import contextlib
import functools
import threading
import time
from collections import Counter, defaultdict
from unittest import mock


class Stopwatch(contextlib.ExitStack):
    """Adds up seconds by part, for each thread. What is a part of a part counts only as itself.

    What it has wrapped is itself again when the context ends.
    """

    def __init__(self):
        super().__init__()
        self._seconds = defaultdict(Counter)

    @property
    def main(self) -> Counter:
        """Seconds of the main thread."""
        return self._seconds[threading.main_thread().ident]

    @property
    def others(self) -> Counter:
        """Seconds of all other threads together."""
        main = threading.main_thread().ident
        return sum((own for thread, own in self._seconds.items() if thread != main), Counter())

    @contextlib.contextmanager
    def part(self, name: str):
        """Time what is done inside."""
        own = self._seconds[threading.get_ident()]
        before, start = own.total(), time.perf_counter()
        try:
            yield
        finally:
            inner = own.total() - before
            own[name] += time.perf_counter() - start - inner

    def wrap(self, name: str, owner, *functions: str) -> None:
        """Time every call of the named functions of a class or module."""
        self.main[name] += 0  # So that parts are listed in the order of this call.
        for function in functions:
            timed = self._timed(name, getattr(owner, function))
            self.enter_context(mock.patch.object(owner, function, timed))

    def _timed(self, name, function):
        @functools.wraps(function)
        def timed(*args, **kwargs):
            with self.part(name):
                return function(*args, **kwargs)

        return timed
