"""Tables: one form for terminals, Markdown, HTML, CSV and LaTeX."""

import csv
import html
import io
from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.table import Table as RichTable
from rich.text import Text

from capsjax.checks import printable

LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "−": "$-$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\to$",
    "—": "---",
}


def plain(text: str) -> str:
    """Write a name that others chose in one line, with what would command a terminal escaped."""
    return " ".join(printable(text).splitlines())


class Table(NamedTuple):
    """Hold a table: title, headings and rows of finished text; the first column is left-aligned.

    Attributes:
        title: what it shows.
        headings: of the columns.
        rows: the cells.
        note: what its columns mean, in words below it; in CSV and LaTeX there is none.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def to_rich(self) -> RichTable:
        """Return it for a terminal."""
        # Text, not strings, in which rich would read names with brackets as styles.
        title = Text(plain(self.title)) if self.title else None
        table = RichTable(title=title, title_justify="left")
        for place, heading in enumerate(self.headings):
            justify = "right" if place else "left"
            table.add_column(Text(plain(heading)), justify=justify, overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(plain(cell)) for cell in row))
        return table

    def within(self, width: int) -> list["Table"]:
        """Part it into tables that a terminal shows without breaking a cell, each with the first column.

        Args:
            width: columns of the terminal.

        Returns:
            Tables, one where all of it fits; a single column that is too wide by itself is left so.
        """
        columns = zip(self.headings, *self.rows, strict=True)
        first, *rest = [max(cell_len(plain(cell)) + 3 for cell in column) for column in columns]
        # Three columns are the borders and padding of a cell, one the border at the right.
        groups, used = [[0]], first + 1
        for place, wide in enumerate(rest, start=1):
            # The second condition: a column too wide by itself still goes into a table.
            if used + wide > width and len(groups[-1]) > 1:
                groups, used = [*groups, [0]], first + 1
            groups[-1].append(place)
            used += wide
        return [
            Table(
                "" if number else self.title,
                tuple(self.headings[place] for place in group),
                tuple(tuple(row[place] for place in group) for row in self.rows),
                self.note if number == len(groups) - 1 else "",
            )
            for number, group in enumerate(groups)
        ]

    def to_markdown(self) -> str:
        """Return it as Markdown."""
        rule = ("---", *("---:" for _ in self.headings[1:]))
        rows = [
            [plain(cell).replace("|", "\\|") for cell in r] for r in (self.headings, *self.rows)
        ]
        lines = ["| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:])]
        note = f"\n{plain(self.note)}\n" if self.note else ""
        return f"**{plain(self.title)}**\n\n" + "\n".join(lines) + "\n" + note

    def to_html(self) -> str:
        """Return it as HTML; the first cell of a row is its heading."""

        def cell(text: str, tag: str) -> str:
            return f"<{tag}>{html.escape(plain(text))}</{tag.split()[0]}>"

        def line(first: str, rest: str, cells: Sequence[str]) -> str:
            tags = (first, *(rest for _ in cells[1:]))
            return "<tr>" + "".join(map(cell, cells, tags)) + "</tr>"

        column = 'th scope="col"'
        head = line(column, column, self.headings)
        body = "".join(line('th scope="row"', "td", row) for row in self.rows)
        # In a span a page can keep the title in sight, however wide the table is.
        caption = f"<caption><span>{html.escape(plain(self.title))}</span></caption>"
        return f"<table>{caption}<thead>{head}</thead><tbody>{body}</tbody></table>"

    def to_csv(self) -> str:
        """Return headings and rows as CSV."""
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows(
            [plain(cell) for cell in row] for row in (self.headings, *self.rows)
        )
        return stream.getvalue()

    def to_latex(self) -> str:
        """Return it as a LaTeX table, which needs no package."""

        def written(text: str) -> str:
            return "".join(LATEX.get(sign, sign) for sign in plain(text))

        def cell(text: str) -> str:
            # A minus of ASCII would be set as a hyphen.
            return written(f"−{text[1:]}" if text[:1] == "-" and text[1:2].isdigit() else text)

        lines = [" & ".join(map(cell, row)) + r" \\" for row in (self.headings, *self.rows)]
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{written(self.title)}}}",
                rf"\begin{{tabular}}{{l{'r' * (len(self.headings) - 1)}}}",
                r"\hline",
                lines[0],
                r"\hline",
                *lines[1:],
                r"\hline",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )
