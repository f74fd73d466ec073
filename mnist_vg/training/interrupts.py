"""Ctrl-C and SIGTERM: put off to where a run is whole, and never lost."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

INTERRUPT_SECONDS = 0.9
"""How long Ctrl-C may take before the process ends as it stands."""


@contextlib.contextmanager
def interrupt_at_exit() -> Iterator[Callable[[], bool]]:
    """Put Ctrl-C off to the end of the block, where the state of a run is whole.

    Yields a function that tells whether Ctrl-C came; if so, KeyboardInterrupt is
    raised at the end. A second Ctrl-C is not put off.
    """
    before = signal.getsignal(signal.SIGINT)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or not callable(before):  # a shell's `&` ignores Ctrl-C
        yield lambda: False
        return
    came = threading.Event()

    def handle(number, frame):
        came.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, handle)
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGINT, before)
    if came.is_set():
        raise KeyboardInterrupt


@contextlib.contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Start processes that never see Ctrl-C, which a terminal sends to all of its own.

    It is the parent's to handle, and they end with the parent.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


@contextlib.contextmanager
def sigterm_kept() -> Iterator[None]:
    """Keep what this process does on SIGTERM, which TensorFlow's and Ray's start would replace."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def end_soon_after_interrupt(end: Callable[[], None]) -> None:
    """Call `end` soon after Ctrl-C or SIGTERM, also in the midst of a long compilation.

    Python acts on a signal only between its own instructions. A run may be killed at
    any instant, so all that is lost is what came after its last checkpoint.

    Args:
        end: ends the process; called in a thread of its own.
    """
    # What a scheduler or `docker stop` sends is a request to end in order, too.
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)

    def wait():
        while os.read(reader, 1)[0] not in (signal.SIGINT, signal.SIGTERM):
            pass
        time.sleep(INTERRUPT_SECONDS)
        end()

    threading.Thread(target=wait, daemon=True).start()
