"""Tables as spreadsheets write them: a line of names, then rows; nothing in them is ever run."""

import csv
import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from capsjax import files
from capsjax.checks import UserError, nearest

TABLES = (".csv", ".tsv")  # suffixes
LARGEST = 1 << 31  # bytes of a file
SEPARATORS = (",", ";", "\t")
LABELS = ("label", "labels", "class", "target", "species", "category", "y")
EXPECTED = "a table: a line with the names of its columns, then rows, as CSV"


class Table(NamedTuple):
    """Hold a table.

    Attributes:
        names: of its columns.
        rows: the cells of each row, as text.
        lines: the line of the file that each row ends in.
        separator: what stands between cells.
        notes: what was found and left out, in lines.
    """

    names: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]
    separator: str = ","
    notes: tuple[str, ...] = ()

    def column(self, name: str | None, field: str, usual: Sequence[str] = ()) -> int | None:
        """Find a column.

        Args:
            name: its name; None for the usual ones.
            field: the field of the configuration that says it, for the message.
            usual: what it is called as a rule, in small letters; the first that is there counts.

        Returns:
            Its place; None if no name is given, and it is not there.

        Raises:
            UserError: If there is no column of that name.
        """
        if name is not None:
            if name in self.names:
                return self.names.index(name)
            raise UserError(
                f"data.{field}: got {name!r}, expected one of the columns {', '.join(self.names[:30])}"
                + nearest(name, self.names),
                argument=f"data.{field}",
            )
        small = [known.lower() for known in self.names]
        return next((small.index(word) for word in usual if word in small), None)

    def groups(self, name: str | None) -> list[str] | None:
        """Return what each row belongs to; None where no column says it.

        Args:
            name: of the column of groups, or None.

        Raises:
            UserError: If it is not there, or a cell is empty: such rows would be one group.
        """
        place = self.column(name, "group_column")
        if place is None:
            return None
        found = [row[place] for row in self.rows]
        if "" in found:
            raise UserError(
                f"data.group_column: got nothing in column {name!r} of line {self.lines[found.index('')]}, "
                "expected what the row belongs to, or a name of its own",
                argument="data.group_column",
            )
        return found

    def labels(self, name: str | None) -> int:
        """Find the column of labels, by its name or one of the usual ones.

        Raises:
            UserError: If it is not there.
        """
        found = self.column(name, "label_column", LABELS)
        if found is None:
            raise UserError(
                f"data.label_column: got none, and no column called {', '.join(LABELS)}, expected one of the "
                f"columns {', '.join(self.names[:30])}: set data.label_column",
                argument="data.label_column",
            )
        return found


def read_csv(path: Path, rows: int | None = None, *, known: bool = False) -> Table:
    """Read a table, separated by commas, semicolons or tabs, whichever its first line has most of.

    A column without a name that counts the rows, from 0 or from 1, as pandas and R write it, is left out.

    Args:
        path: the file, UTF-8.
        rows: how many rows are looked at; None for all.
        known: whether the columns that matter are known by name: one without a name is left out, whatever it
            holds, as of some rows of a table of pandas, and a single column is enough.

    Returns:
        The table.

    Raises:
        UserError: If there is none, or rows have more or fewer cells than there are names.
    """
    text = files.read_text(path, LARGEST, f"{EXPECTED}, of UTF-8")
    if files.is_web_page(text[:256].encode()):
        raise UserError(f"{path}: got a web page, expected {EXPECTED}")
    first = text.partition("\n")[0]
    separator = max(SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    try:
        names = tuple(name.strip() for name in next(reader, ()))
        found, lines = [], []
        for row in itertools.islice(filter(None, reader), rows):  # without empty lines
            if len(row) != len(names):
                raise UserError(
                    f"{path}: line {reader.line_num}: got {len(row)} cells, expected {len(names)}, one for "
                    "each name in the first line"
                )
            found.append([cell.strip() for cell in row])
            lines.append(reader.line_num)
    except csv.Error as error:
        raise UserError(
            f"{path}: line {reader.line_num}: got what is not a table ({error}), expected {EXPECTED}"
        ) from error
    table = _without_count(Table(names, found, lines, separator), known)
    if "" in table.names:
        at = table.names.index("")
        such = f", with {table.rows[0][at]!r} in line {table.lines[0]}" if found else ""
        raise UserError(
            f"{path}: got column {at + 1} without a name{such}, expected {EXPECTED}; take it out of the "
            "file where it says nothing, else give it one in the first line"
        )
    if len({*table.names}) != len(table.names):
        twice = next(name for name in table.names if table.names.count(name) > 1)
        raise UserError(
            f"{path}: got several columns called {twice!r}, expected {EXPECTED}; rename all but one in the "
            "first line"
        )
    if not found or len(table.names) < (1 if known else 2):
        raise UserError(
            f"{path}: got {len(table.names)} columns and {len(found)} rows, expected two of each at least"
        )
    return table


def _without_count(table: Table, known: bool) -> Table:
    """Leave out a column without a name whose cells count the rows, or whatever they are."""
    if table.names.count("") != 1:
        return table
    at = table.names.index("")
    cells = [row[at] for row in table.rows]
    counts = any(cells == [str(first + n) for n, _ in enumerate(cells)] for first in (0, 1))
    if not (known or counts):
        return table
    names = table.names[:at] + table.names[at + 1 :]
    rows = [row[:at] + row[at + 1 :] for row in table.rows]
    note = f"table: column {at + 1}, which has no name and counts the rows, is left out"
    return table._replace(names=names, rows=rows, notes=(note,))
