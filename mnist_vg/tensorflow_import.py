"""Importing TensorFlow only when it is needed, without its messages, and no more than is used."""

import contextlib
import importlib.abc
import importlib.machinery
import logging
import os
import resource
import sys
import threading
import types
from collections.abc import Iterator

from mnist_vg.errors import UsageError, first_line

ADDRESS_SPACE = 3.3e9
"""Bytes of address space with which `mnist-vg train relu --quick` still trains on two cores. With
less, TensorFlow aborts the process."""

ON_FIRST_USE = frozenset(
    [
        # scikit-learn, and with it SciPy and joblib.
        "keras.wrappers",
        "keras._tf_keras.keras.wrappers",
        # Matplotlib's pyplot.
        "keras.visualization",
        "keras._tf_keras.keras.visualization",
        "keras.src.visualization",
        # pandas: for a `fit` on arrays.
        "keras.src.trainers.data_adapters.array_slicing",
    ]
)
"""Modules of Keras that wait until something in them is used.

What each would import is beside it, 38% of `import tensorflow` in all (`docs/speed.md`)."""


_running = threading.RLock()


class _Waiting(types.ModuleType):
    """A module that runs when one of its attributes is first asked for.

    `importlib.util.LazyLoader` is not safe among threads before Python 3.11.8 and 3.12.2.
    """

    def __getattribute__(self, name):
        with _running:
            facts = object.__getattribute__(self, "__dict__")
            loader = facts.pop("_loader", None)
            if loader is not None:
                try:
                    loader.exec_module(self)
                except BaseException:
                    facts["_loader"] = loader
                    raise
                self.__class__ = types.ModuleType
        return object.__getattribute__(self, name)


class _Late(importlib.abc.Loader):
    def __init__(self, loader):
        self._loader = loader

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self._loader
        module._loader = self._loader
        module.__class__ = _Waiting


class _OnFirstUse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in ON_FIRST_USE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec:
            spec.loader = _Late(spec.loader)
        return spec


@contextlib.contextmanager
def _imported_on_first_use() -> Iterator[None]:
    """Within the context, an import of one of `ON_FIRST_USE` runs when the module is first used."""
    finder = _OnFirstUse()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def import_tensorflow():
    """Import TensorFlow, with Keras on top of it, without its start-up messages.

    The modules `ON_FIRST_USE` run later, when something in them is used. A program that has
    imported TensorFlow before keeps it as it is.

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
    logging.getLogger(__name__).info("Starting TensorFlow")
    # Some messages are printed before TensorFlow reads any setting.
    stderr = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        with _imported_on_first_use():
            import tensorflow  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"TensorFlow cannot be imported ({first_line(error)}); install it "
            "again, or give this process more memory"
        ) from error
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
