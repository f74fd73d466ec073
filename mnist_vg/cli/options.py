"""Options that several commands have."""

import contextlib
from pathlib import Path

import click

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


logdir_option = click.option(
    "--logdir",
    type=LogPath(),
    default="logdir",
    show_default=True,
    help="Log folder, with one folder per run",
)
data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Folder where TFDS keeps data sets [default: TFDS's own]",
)


@contextlib.contextmanager
def interruptible():
    """Let Ctrl-C end a command that can be continued, with a message."""
    try:
        yield
    except KeyboardInterrupt:
        raise click.Abort(INTERRUPTED) from None
