"""`Checkpoint`: a trainer's state in a folder, saved and restored."""

import contextlib
import json
from pathlib import Path

import tensorflow as tf

from mnist_vg.errors import UsageError, first_line
from mnist_vg.training.trainer import Trainer


class _Notes(tf.train.experimental.PythonState):
    """Plain values that are saved together with the variables."""

    def __init__(self):
        self.values = {}

    def serialize(self):
        return json.dumps(self.values)

    def deserialize(self, string_value):
        self.values = json.loads(string_value)


class Checkpoint:
    """The trainer's newest state in a folder, written completely or not at all.

    Args:
        folder: holds the newest state. The one before is removed after it is written.
        trainer: its variables and steps are saved and restored.
    """

    def __init__(self, folder: Path, trainer: Trainer):
        self._trainer, self._folder = trainer, folder
        self._notes = _Notes()
        checkpoint = tf.train.Checkpoint(
            model=trainer.model, optimizer=trainer.optimizer, notes=self._notes
        )
        with _damage_reported(folder):
            self._manager = tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=1)

    def save(self, **notes) -> None:
        """Save the state, together with notes that JSON can hold."""
        self._notes.values = {"steps_done": self._trainer.steps_done, **notes}
        self._manager.save()

    def restore(self) -> dict | None:
        """Restore the newest state and return its notes; None if there is no state.

        Raises:
            UsageError: the state is damaged, or belongs to another network.
        """
        # Files that TensorFlow does not list come from a first save that was killed.
        newest = self._manager.latest_checkpoint
        if newest is None:
            return None
        with _damage_reported(self._folder):
            self._manager.checkpoint.restore(newest).assert_consumed()
            self._trainer.steps_done = self._notes.values["steps_done"]
        return self._notes.values


@contextlib.contextmanager
def _damage_reported(folder):
    try:
        yield
    except (tf.errors.AbortedError, tf.errors.UnavailableError):
        raise  # A remote folder cannot be reached; nothing is damaged.
    except (tf.errors.OpError, AssertionError, LookupError, ValueError) as error:
        raise UsageError(
            f"checkpoint: {folder} is damaged ({first_line(error)}); train this run anew with "
            "--overwrite, or elsewhere with --logdir"
        ) from error
