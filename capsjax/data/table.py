"""A table of numbers, in a CSV file: a row is an example, a column a feature, and one column is the label."""

import dataclasses
import math
import re
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from capsjax.checks import UserError
from capsjax.data.classes import number_names
from capsjax.data.csv_file import LABELS, Table, read_csv
from capsjax.data.dataset import Dataset, Split
from capsjax.data.download import Report
from capsjax.data.own import OwnData
from capsjax.data.rescaling import Rescaling
from capsjax.data.walk import composed
from capsjax.schema.text import dump

DECIMAL = re.compile(r"[-+]?\d*,\d+(?:[eE][-+]?\d+)?")
THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+")  # or three decimals: a comma does not say
MARKED = re.compile(r"[-+]?\d{1,3}(?:\.\d{3})+,\d+")  # 1.234,5
COMMA = "table: the commas in numbers are decimal commas"


@dataclasses.dataclass(frozen=True, kw_only=True)
class NumberTable(OwnData):
    """Choose a table of numbers with a column of labels; a row becomes an image of [1, columns, 1].

    Each column is standardised, to a mean of 0 and a standard deviation of 1 over the rows that train,
    unless `range` says what becomes 0 and 1; a run remembers by what, and `predict` takes rows as the
    table has them. A network for it has a stem of kind `dense_features`, and no decoder or one whose
    `output` is linear.

    Numbers have a decimal point, or all of them a decimal comma, where semicolons or tabs separate. A column
    without a name that counts the rows is left out.

    Args:
        path: the CSV file.
        label_column: the column of labels; None for one called label, class, target or the like.
        group_column: a column, no feature, that says what a row belongs to, such as a patient: all that
            belongs together is in one split. None if rows stand for themselves.
        leave_out: further columns that are no features, such as a number of each row.
        kind: its name in a configuration.

    Raises:
        FieldError: If a field is out of range.
    """

    starts_with: ClassVar[str] = "vectors"
    splits: ClassVar[str] = "set data.stratified to false"

    label_column: str | None = None
    group_column: str | None = None
    leave_out: tuple[str, ...] = ()
    kind: Literal["table"] = "table"

    def load(self, report: Report | None = None) -> Dataset:
        """Read the table.

        Args:
            report: unused, as a table is read at once.

        Returns:
            The dataset, with the names of its classes, and what was found.

        Raises:
            UserError: If there is none, or a cell is not a number.
        """
        del report
        if self.path is None:
            came = "data: got none, expected a table, since the configuration does not say where it is: "
            raise UserError(f'{came}data="FILE.csv"', on_command_line=f"{came}--data.path FILE.csv")
        table = read_csv(Path(self.path).expanduser())
        label_at = table.labels(self.label_column)
        group_at = table.column(self.group_column, "group_column")
        out = {label_at, group_at, *(table.column(name, "leave_out") for name in self.leave_out)}
        features = [place for place, _ in enumerate(table.names) if place not in out]
        if not features:
            raise UserError(f"{self.path}: got no column beside the label, expected features")
        words = [composed(row[label_at]) for row in table.rows]
        if "" in words:
            line = table.lines[words.index("")]
            raise UserError(f"{self.path}: line {line}: got no label, expected one in each row")
        try:
            labels, names = number_names(words)
        except UserError as error:
            raise error.within(self.path) from None
        comma = _has_decimal_comma(table, features)
        raw = _numbers(self.path, table, features, comma)  # [n, f]
        groups = table.groups(self.group_column)
        parts = self.divide(labels, (self.validation_fraction, self.test_fraction), groups)
        raw = raw[:, None, :, None]  # [n, 1, f, 1]
        rescaling = self.of_columns(raw[parts[0]])
        train, validation, test = (
            None if part is None else Split(rescaling(raw[part]), labels[part]) for part in parts
        )
        assert train is not None  # which `divide` sees to, and that something tests
        assert test is not None
        told = f"table: {len(raw)} rows of {len(features)} features"
        same = (raw == raw[:1]).all(axis=0)[0, :, 0]  # [f]
        flat = [table.names[at] for at, alike in zip(features, same, strict=True) if alike]
        notes = (
            told,
            *table.notes,
            *[COMMA] * comma,
            *[f"table: columns that are the same in each row: {', '.join(flat)}"] * bool(flat),
        )
        return Dataset(
            self.kind,
            train,
            validation,
            test,
            len(names),
            1.0,
            class_names=names,
            notes=notes,
            rescaling=rescaling,
        )

    def unlabelled(self, path: Path) -> np.ndarray:
        """Read the rows of another table with the same features, with or without the other columns.

        Args:
            path: the CSV file.

        Returns:
            The numbers as the table has them, [n, 1, f, 1].

        Raises:
            UserError: If there is none, or a cell is not a number.
        """
        table = read_csv(path, known=True)
        others = {self.label_column, self.group_column, *self.leave_out}
        out = {place for place, name in enumerate(table.names) if name in others}
        if self.label_column is None:
            out |= {table.column(None, "label_column", LABELS)}
        features = [place for place, _ in enumerate(table.names) if place not in out]
        comma = _has_decimal_comma(table, features)
        # Of a column that the run was trained on, no flag of `predict` leaves one out.
        raw = _numbers(str(path), table, features, comma, all_needed=True)
        return raw[:, None, :, None]  # [n, 1, f, 1]

    def of_columns(self, train: np.ndarray) -> Rescaling:
        """Return how columns are standardised, or as `range` says, by the rows that train [n, 1, f, 1]."""
        if self.range not in (None, "any"):
            return Rescaling.of_range(*self.range)
        if self.range == "any":
            return Rescaling.unbounded()
        spread = train.std(axis=0)
        return Rescaling(train.mean(axis=0), np.where(spread > 0, spread, 1.0), bounded=False)


def _has_decimal_comma(table: Table, features: list[int]) -> bool:
    """Return whether numbers have a decimal comma: none has a point, and some could not be thousands."""
    if table.separator == ",":
        return False
    cells = [cell for row in table.rows for cell in (row[at] for at in features)]
    with_comma = [cell for cell in cells if "," in cell]
    return (
        not any("." in cell for cell in cells)
        and all(map(DECIMAL.fullmatch, with_comma))
        and not all(map(THOUSANDS.fullmatch, with_comma))
    )


def _numbers(
    path: str, table: Table, features: list[int], comma: bool, *, all_needed: bool = False
) -> np.ndarray:
    """Read the numbers of all rows, [n, f].

    Args:
        path: what the table is called, for the message.
        table: the table.
        features: the places of the columns.
        comma: whether numbers have a decimal comma.
        all_needed: whether each column has to be there, as those that a run was trained on.

    Raises:
        UserError: If a cell is not a finite number.
    """
    found = np.empty((len(table.rows), len(features)))
    for n, row in enumerate(table.rows):
        for f, at in enumerate(features):
            cell = row[at]
            try:
                found[n, f] = float(cell.replace(",", ".") if comma else cell)
            except ValueError:
                found[n, f] = math.nan
            if not math.isfinite(found[n, f]):
                place = f"{path}: line {table.lines[n]}: got {cell!r} in column {table.names[at]!r}"
                raise _no_number(place, cell, None if all_needed else table.names[at])
    return found


def _no_number(place: str, cell: str, column: str | None) -> UserError:
    """Say what a cell that is no finite number should be; `column` is one that may be left out."""
    if any(form.fullmatch(cell) for form in (DECIMAL, THOUSANDS, MARKED)):
        return UserError(
            f"{place}, expected a number with a decimal point; write all numbers with one, and thousands "
            "without a mark: decimal commas are read where semicolons or tabs separate, no number has a "
            "point, and not all commas could be marks of thousands"
        )
    error = UserError(f"{place}, expected a finite number in each; fill it in")
    if column is None:
        return UserError(f"{error}, or take the row out of the file")
    return error.or_set(", or leave the column out: ", "data.leave_out", dump([column]).strip())
