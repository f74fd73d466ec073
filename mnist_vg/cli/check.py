"""`mnist-vg check`."""

import click


@click.command()
@click.argument("place", metavar="FILE.py:FUNCTION")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table")
@click.pass_context
def check(context, place, as_json):
    """Say what will keep a model from learning, before it is trained.

    FUNCTION takes no arguments and returns a compiled Keras model with its data: model, x and y,
    or a model and a data set. Nothing is trained. The exit code is 1 if something is found.
    """
    from mnist_vg import report
    from mnist_vg.checks import check
    from mnist_vg.checks.script import made_by

    checks = check(*made_by(place))
    if as_json:
        click.echo(checks.json())
    else:
        console = report.make_console()
        console.print(report.checks_table(checks))
        for line in report.checks_lines(checks):
            console.print(line, soft_wrap=True)
    context.exit(1 if checks.findings else 0)
