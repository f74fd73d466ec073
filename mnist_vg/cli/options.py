"""Options that several commands have."""

import contextlib
import functools
from pathlib import Path

import click

from mnist_vg.driver import CHECKPOINT_SECONDS
from mnist_vg.errors import UsageError, nearest
from mnist_vg.runs.finding import DEFAULT, log_folder
from mnist_vg.runs.paths import as_path
from mnist_vg.scenarios.scenario import setting_fields

INTERRUPTED = "interrupted and saved; run the same command (without --overwrite) to continue"


def setting_options(command, without=()):
    """Add an option for every setting of a scenario; an option that is not given is None."""
    for field in reversed([field for field in setting_fields() if field.name not in without]):
        default = "the activation" if field.name == "name" else field.default
        text = field.metadata["help"]
        text = (
            text[0].upper() + text[1:] + (f" [default: {default}]" if default is not None else "")
        )
        flag = "--" + field.name.replace("_", "-")
        if field.type is bool:
            option = click.option(f"{flag}/--no-{flag[2:]}", field.name, default=None, help=text)
        else:
            kind = {int: int, int | None: int, str: str, str | None: str}.get(field.type, float)
            option = click.option(flag, field.name, type=kind, default=None, help=text)
        command = option(command)
    return command


class LogPath(click.Path):
    """A path that may be remote."""

    def convert(self, value, param, context):
        """The path, as `as_path` returns it."""
        return as_path(super().convert(value, param, context))


_logdir_option = functools.partial(
    click.option,
    "--logdir",
    type=LogPath(),
    help=f"Log folder, with one folder per run [default: {DEFAULT}]",
)
logdir_option = _logdir_option(default=DEFAULT)
optional_logdir_option = _logdir_option()
"""For a command whose first argument may be the log folder instead, see `log_folder`."""
data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Folder where TFDS keeps data sets [default: TFDS's own]",
)
checkpoint_option = click.option(
    "--checkpoint-seconds",
    type=click.FloatRange(min=0),
    default=CHECKPOINT_SECONDS,
    show_default=True,
    help="Seconds between two checkpoints",
)


@contextlib.contextmanager
def interruptible():
    """Let Ctrl-C end a command that can be continued, with a message."""
    try:
        yield
    except KeyboardInterrupt:
        raise click.Abort(INTERRUPTED) from None


def folder_of(logdir: Path | None, given: str | None) -> Path:
    """The folder that a command is about: the log folder, or the one that is given in it.

    Raises:
        UsageError: the one that is given is not there.
    """
    logdir, names = log_folder(logdir, [given] if given else [])
    folder = logdir.joinpath(*names)
    if names and not folder.exists():
        there = [path.name for path in logdir.glob("*")]
        raise UsageError(f"folder: {given!r} is not in {logdir}; {nearest(given, there)}")
    return folder
