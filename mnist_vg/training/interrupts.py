"""Ctrl-C and SIGTERM: delayed to where a run is complete, and never lost."""

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
    """Delay Ctrl-C to the end of the context, where the state of a run is complete.

    Yields a function that says whether Ctrl-C was pressed. If it was, KeyboardInterrupt is
    raised at the end. A second Ctrl-C is not delayed.
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
    """Within the context, start processes that never see Ctrl-C.

    A terminal sends it to all of its processes, but only the parent is to handle it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


@contextlib.contextmanager
def sigterm_kept() -> Iterator[None]:
    """Keep this process's handler of SIGTERM, which TensorFlow and Ray replace when they start."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def end_soon_after_interrupt(end: Callable[[], None]) -> None:
    """Call `end` soon after Ctrl-C or SIGTERM, even during a long compilation.

    Python handles a signal only between its own instructions. A run may be killed at any
    time: it only loses what came after its last checkpoint.

    Args:
        end: ends the process; called in a thread of its own.
    """
    # Schedulers and `docker stop` send SIGTERM to ask for an orderly end.
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
