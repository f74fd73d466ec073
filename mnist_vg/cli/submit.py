"""`mnist-vg submit`."""

import dataclasses

import click

from mnist_vg.cli.options import logdir_option, setting_options
from mnist_vg.scenarios.scenario import Scenario, setting_fields
from mnist_vg.scenarios.suites import find_scenarios


@click.command()
@click.argument("scenario", nargs=-1)
@setting_options
@logdir_option
@click.option("--server", help="Address of the service [default: the one on the log folder]")
@click.option(
    "--token", envvar="MNIST_VG_TOKEN", help="Token of the service, if its address has none"
)
@click.option("--wait", is_flag=True, help="Wait until all have been trained")
def submit(scenario, logdir, server, token, wait, **given):
    """Let a service train SCENARIOs, which `mnist-vg serve` has started.

    SCENARIO and settings are those of `mnist-vg train`. Without a SCENARIO, it is one of your own.
    """
    from mnist_vg.service.client import connect

    settings = {f.name: given[f.name] for f in setting_fields() if given[f.name] is not None}
    if scenario:
        named = [found for name in scenario for found in find_scenarios(name)]
        scenarios = [dataclasses.replace(found, **settings) for found in named]
    else:
        scenarios = [Scenario(**settings)]
    client = connect(server, token, str(logdir))
    jobs = client.start_all(scenarios)
    for job in jobs:
        click.echo(f"{job['name']}: job {job['number']} is {job['state']}")
    if not wait:
        return 0
    ended = [client.wait(job["number"]) for job in jobs]
    for job in ended:
        click.echo(f"{job['name']}: {job['state']}" + (f" ({job['reason']})" * bool(job["reason"])))
    return 0 if all(job["done"] for job in ended) else 1
