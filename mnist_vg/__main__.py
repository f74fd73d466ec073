"""The command `mnist-vg`, and `python -m mnist_vg`."""

import os
import signal


def main():
    """Run the command line. Ctrl-C ends it from the first import on, without a traceback."""
    before = signal.getsignal(signal.SIGINT)
    if callable(before):  # a shell's `&` ignores Ctrl-C
        signal.signal(signal.SIGINT, _end)
    from mnist_vg.cli import main as run

    signal.signal(signal.SIGINT, before)
    run()


def _end(number, frame):
    # An exception would not do: some packages turn it into an ImportError.
    os.write(2, b"mnist-vg: interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
