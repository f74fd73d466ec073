"""How TensorBoard is started with our plugins."""

import sys
import types
from pathlib import Path

from mnist_vg.runs.paths import is_remote


def without_tensorflow(logdir: Path) -> None:
    """Keep TensorBoard from importing TensorFlow, which only a remote log folder needs.

    It then starts in a second.
    """
    if not is_remote(logdir):
        sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))


def plugins() -> list:
    """TensorBoard's plugins, ours first: its page opens on the first that has something to show."""
    from tensorboard import default
    from tensorboard.plugins.hparams.hparams_plugin import HParamsPlugin

    from mnist_vg.board.varied_hparams import VariedHParams

    found = default.get_plugins()
    ours = [plugin for plugin in found if plugin.__module__.startswith("mnist_vg.")]
    others = [plugin for plugin in found if plugin not in ours]
    return [*ours, *(VariedHParams if plugin is HParamsPlugin else plugin for plugin in others)]
