"""Importing TensorFlow only when it is needed, and without its start-up messages."""

import os
import resource
import sys

from mnist_vg.errors import UsageError, first_line

ADDRESS_SPACE = 3.3e9
"""Bytes of address space with which `mnist-vg train relu --quick` still trains on two cores. With
less, TensorFlow aborts the process."""


def import_tensorflow():
    """Import TensorFlow, with Keras on top of it, without its start-up messages.

    Raises:
        UsageError: TensorFlow cannot be imported, or would have too little address space.
    """
    if "tensorflow" in sys.modules:
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < ADDRESS_SPACE:
        raise UsageError(
            f"memory: this process may use {limit / 1e9:.1f} GB of address space, and TensorFlow "
            f"needs {ADDRESS_SPACE / 1e9:.1f} GB at least; raise the limit, such as with "
            "ulimit -v unlimited"
        )
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Some messages are printed before TensorFlow reads any setting.
    stderr = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"TensorFlow cannot be imported ({first_line(error)}); install it "
            "again, or give this process more memory"
        ) from error
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
