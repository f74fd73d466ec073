"""What the pages that are written from results have in common."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click

from mnist_vg import UsageError


def markdown_table(headings: Sequence, rows: Iterable[Iterable]) -> str:
    """A Markdown table; what a cell holds cannot end it."""
    lines = [headings, ["---"] * len(headings), *rows]
    escaped = [[str(cell).replace("|", "\\|").replace("\n", "<br>") for cell in r] for r in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped) + "\n"


def run(
    main: Callable[..., None],
    description: str,
    *names: str,
    smoke: Callable[[Path], None],
    options: Sequence[click.Option] = (),
) -> None:
    """Call `main` with the paths of these names, from the command line; a refusal is a line.

    Args:
        main: writes a page; its parameters are the paths, and the options.
        description: of the page; its first line is for `--help`.
        names: of the paths.
        smoke: what `--smoke` calls instead, with an empty folder that is gone afterwards. It
            goes the whole way at the smallest size, and writes nothing elsewhere.
        options: further ones.
    """

    def without_traceback(**given):
        try:
            main(**given)
        except UsageError as error:
            raise click.UsageError(str(error)) from error

    def in_temporary_folder(context, parameter, given):
        if given:
            with tempfile.TemporaryDirectory() as folder:
                smoke(Path(folder))
            context.exit()

    smoke_option = click.Option(
        ["--smoke"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=in_temporary_folder,
        help="Go the whole way at the smallest size, only to see that it runs; no page is changed.",
    )
    title = description.partition("\n")[0]
    path = click.Path(path_type=Path)
    arguments = [click.Argument([name], type=path) for name in names]
    params = [*arguments, *options, smoke_option]
    click.Command(None, callback=without_traceback, params=params, help=title)()


def write(path: Path, text: str) -> None:
    """Write a page, and say so."""
    path.write_text(text, encoding="utf-8")
    click.echo(f"{path}: {len(text.splitlines())} lines")
