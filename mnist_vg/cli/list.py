"""`mnist-vg list`."""

import click

from mnist_vg.scenarios.suites import SUITES


@click.command("list")
def list_scenarios():
    """List all named scenarios and suites."""
    from mnist_vg import report

    report.make_console().print(report.scenario_table(SUITES))
