"""What was found before training."""

from typing import TYPE_CHECKING

from rich.table import Column

from mnist_vg.report.table import READABLE, Table

if TYPE_CHECKING:
    from mnist_vg.checks.findings import Checks


def checks_table(checks: "Checks") -> Table:
    """What was found before training, causes first."""
    texts = ("Finding", "Why it matters", "Write instead")
    table = Table("Check", "Where", *(Column(text, min_width=READABLE) for text in texts))
    for found in checks.findings:
        table.add_row(found.check, found.layer or "", found.words, found.why, found.instead)
    if not checks.findings:
        table.add_row("nothing found", "", "", "", "")
    return table


def checks_lines(checks: "Checks") -> list[str]:
    """What was looked at and what was skipped, a line each."""
    looked = [f"looked at: {line}" for line in checks.looked]
    return looked + [f"skipped: {line}" for line in checks.skipped]
