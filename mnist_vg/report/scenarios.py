"""The named scenarios, as `mnist-vg list` shows them."""

from rich.table import Column

from mnist_vg.report.table import READABLE, Table
from mnist_vg.scenarios.scenario import Scenario


def scenario_table(suites: dict[str, tuple[Scenario, ...]]) -> Table:
    """Every named scenario, with what it is expected to show and its source."""
    table = Table(
        "Suite",
        "Scenario",
        Column("Expected", min_width=READABLE, max_width=70),
        Column("Source", min_width=READABLE, max_width=50),
        spare=("Source",),
    )
    for suite, scenarios in suites.items():
        for scenario in scenarios:
            table.add_row(suite, scenario.name, scenario.about, scenario.source)
        table.add_section()
    return table
