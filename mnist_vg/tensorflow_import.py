"""Importing TensorFlow only when it is needed, and without its start-up messages."""

import os
import sys


def import_tensorflow():
    """Import TensorFlow, with Keras on top of it, without its start-up messages."""
    if "tensorflow" in sys.modules:
        return
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Some messages are printed before TensorFlow reads any setting.
    stderr = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        import tensorflow  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
