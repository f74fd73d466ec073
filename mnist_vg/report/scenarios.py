"""The named scenarios, as `mnist-vg list` shows them."""

from rich.table import Table

from mnist_vg.scenarios.scenario import Scenario


def scenario_table(suites: dict[str, tuple[Scenario, ...]]) -> Table:
    """Every named scenario, with what it is expected to show and its source."""
    table = Table()
    table.add_column("Suite")
    table.add_column("Scenario", no_wrap=True)
    table.add_column("Expected", max_width=70)
    table.add_column("Source", max_width=50)
    for suite, scenarios in suites.items():
        for scenario in scenarios:
            table.add_row(suite, scenario.name, scenario.about, scenario.source)
        table.add_section()
    return table
