"""`Checkpoint`: a trainer's state in a file, saved and restored."""

import io
import json
import zipfile
from pathlib import Path

import keras
import numpy as np

from mnist_vg.errors import UsageError, first_line
from mnist_vg.runs.folder import CHECKPOINT_FILE
from mnist_vg.runs.paths import write_whole
from mnist_vg.training.trainer import Trainer

NOTES = "notes"


class Checkpoint:
    """The trainer's newest state in a run folder, as one NumPy file.

    The file is written completely or not at all, and the one before stays until the next
    one is on the disk. (TensorFlow's own checkpoints are not used, since they take the name
    of a folder such as `exp[12]` for a pattern.)

    Args:
        folder: the run folder.
        trainer: its variables and steps are saved and restored.
    """

    def __init__(self, folder: Path, trainer: Trainer):
        self._path, self._trainer = folder / CHECKPOINT_FILE, trainer

    def save(self, **notes) -> None:
        """Save the state, together with notes that JSON can hold."""
        arrays = {
            name: keras.ops.convert_to_numpy(variable)
            for name, variable in self._variables().items()
        }
        notes = json.dumps({"steps_done": self._trainer.steps_done, **notes})
        file = io.BytesIO()
        np.savez(file, **arrays, **{NOTES: np.array(notes)})
        write_whole(self._path, file.getvalue())

    def restore(self) -> dict | None:
        """Restore the newest state and return its notes; None if there is no state.

        Raises:
            UsageError: the state is damaged, or belongs to another network.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            # Reading a member to its end checks the CRC-32 that zip keeps of it.
            with np.load(io.BytesIO(content)) as file:
                state = {name: file[name] for name in file.files}
            notes = json.loads(state.pop(NOTES).item())
            variables = self._variables()
            if {name: array.shape for name, array in state.items()} != {
                name: tuple(variable.shape) for name, variable in variables.items()
            }:
                raise ValueError("it belongs to another network")
        except (OSError, EOFError, LookupError, ValueError, zipfile.BadZipFile) as error:
            raise UsageError(
                f"checkpoint: {self._path} is damaged ({first_line(error)}); train this run anew "
                "with --overwrite, or elsewhere with --logdir"
            ) from error
        for name, variable in variables.items():
            variable.assign(state[name])
        self._trainer.steps_done = notes["steps_done"]
        return notes

    def _variables(self):
        optimizer = self._trainer.optimizer.variables
        numbered = {f"optimizer/{number}": variable for number, variable in enumerate(optimizer)}
        return _named(self._trainer.model) | numbered


def load_weights(folder: Path, model: keras.Model) -> None:
    """Give a model the weights in a run's checkpoint: the final ones, if the run is finished.

    Args:
        folder: the run folder.
        model: of the run's structure, see `training.make_model`.
    """
    with np.load(io.BytesIO((folder / CHECKPOINT_FILE).read_bytes())) as state:
        for name, variable in _named(model).items():
            variable.assign(state[name])


def _named(model):
    return {f"model/{variable.path}": variable for variable in model.variables}
