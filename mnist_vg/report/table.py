"""`Table`: a table that fits on its screen."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich import table
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Column
from rich.text import Text

READABLE = 16
"""The least width of a column of sentences, in characters."""


class Row(NamedTuple):
    """A row: a cell for each column, and rich's style for all of them."""

    cells: Sequence[str]
    style: str | None


class Table:
    """A table that fits on its screen, with every word whole.

    If it is too wide for the screen, the columns that can be spared are left out, one by one. If
    the others are still too wide, each row becomes a block: a line for each of its cells. rich's
    own table cuts words, and so numbers, as soon as a column is narrower than they are.

    Args:
        columns: headings, or columns with a `justify`, the `min_width` that a long text needs to
            be read, or a `max_width`.
        title: what stands above.
        caption: what stands below.
        spare: headings of the columns that can be left out, in this order.

    Attributes:
        columns: all columns.
        rows: all rows.
        caption: what stands below.
    """

    def __init__(
        self,
        *columns: Column | str,
        title: str = "",
        caption: str = "",
        spare: Sequence[str] = (),
    ):
        self.columns = [Column(c) if isinstance(c, str) else c for c in columns]
        self._title, self.caption, self._spare = title, caption, spare
        self.rows: list[Row] = []
        self._section_ends: set[int] = set()

    def add_row(self, *cells: str, style: str | None = None) -> None:
        """Add a row with a cell for each column."""
        self.rows.append(Row(cells, style))

    def add_section(self) -> None:
        """Draw a line below the rows so far."""
        self._section_ends.add(len(self.rows))

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        for count in range(len(self._spare) + 1):
            spared = self._spare[:count]
            shown = [n for n, c in enumerate(self.columns) if c.header not in spared]
            widths = self._widths(shown, options.max_width - 3 * len(shown) - 1)
            if widths:
                yield self._table(shown, widths, spared)
                return
        yield from self._blocks()

    def _widths(self, shown, room):
        """The widths of columns that share `room`; None if it is too little for their words."""
        least, most = zip(*(self._least_and_most(n) for n in shown), strict=True)
        widths, left = list(least), room - sum(least)
        if left < 0:
            return None
        lacking = [wide - narrow for narrow, wide in zip(least, most, strict=True)]
        for number, n in enumerate(sorted(range(len(shown)), key=lacking.__getitem__)):
            share = left // (len(shown) - number)
            # Some room spares a text lines, but two words need enough for both.
            wanted = lacking[n] <= share or self._most_words(shown[n]) > 2
            more = min(lacking[n], share) if wanted else 0
            widths[n] += more
            left -= more
        return widths

    def _least_and_most(self, n):
        """The length of a column's longest word, and of its longest line."""
        column, lines = self.columns[n], self._lines(n)
        word = max(cell_len(word) for line in lines for word in line.split() or [""])
        line = max(map(cell_len, lines))
        line = max(word, min(line, column.max_width or line))
        return max(word, min(line, column.min_width or 0)), line

    def _most_words(self, n):
        return max(len(line.split()) for line in self._lines(n))

    def _lines(self, n):
        texts = [self.columns[n].header, *(cells[n] for cells, _ in self.rows)]
        return [line for text in texts for line in text.splitlines() or [""]]

    def _table(self, shown, widths, spared):
        caption = [self.caption] if self.caption else []
        caption += [f"Left out, as the screen is narrow: {', '.join(spared)}."] if spared else []
        columns = [
            Column(self.columns[n].header, justify=self.columns[n].justify, width=width)
            for n, width in zip(shown, widths, strict=True)
        ]
        around = {"title": self._title or None, "caption": " ".join(caption) or None}
        made = table.Table(*columns, title_justify="left", caption_justify="left", **around)
        for number, (cells, style) in enumerate(self.rows, 1):
            end = number in self._section_ends
            made.add_row(*(cells[n] for n in shown), style=style, end_section=end)
        return made

    def _blocks(self):
        if self._title:
            yield Text(self._title, style="table.title")
        headings = [column.header for column in self.columns]
        for (name, *cells), style in self.rows:
            if name:
                title = f"{headings[0]}: {', '.join(name.splitlines())}"
                yield Text(title, style=f"bold {style or ''}")
            block = table.Table.grid(
                Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2, 0, 0)
            )
            for heading, cell in zip(headings[1:], cells, strict=False):
                if cell:
                    block.add_row(f"  {heading}", cell, style=style)
            yield block
        if self.caption:
            yield Text(self.caption, style="table.caption")
