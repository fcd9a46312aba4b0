"""A list of picture files and their labels, in a CSV file."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from capsjax.checks import UserError
from capsjax.data.classes import few
from capsjax.data.csv_file import read_csv
from capsjax.data.pictures import Listed, Listing, PictureData
from capsjax.data.splits import SPLITS
from capsjax.data.walk import composed

FILES = ("file", "filename", "file_name", "path", "filepath", "image", "image_path")


@dataclass(frozen=True, kw_only=True)
class PictureList(PictureData):
    """Choose the pictures that a CSV file lists, a row for each, with its label.

    Paths are from the folder of the CSV file on, unless they are absolute. A column `split`, where there is
    one, says of each whether it is of `train`, `validation` or `test`; what is not there of the three is
    split off.

    Args:
        path: the CSV file.
        file_column: the column of paths; None for one called file, filename, path, image or the like.
        label_column: the column of labels; None for one called label, class, target or the like.
        group_column: a column that says what a picture belongs to, such as a patient: all that belongs
            together is in one split. None if pictures stand for themselves.
        kind: its name in a configuration.
    """

    splits: ClassVar[str] = "name them in a column split: train, validation or test"

    file_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    kind: Literal["picture_list"] = "picture_list"

    def listing(self, path: Path) -> Listing:
        """List the files of the rows, and the label of each.

        Args:
            path: the CSV file.

        Returns:
            The files with their labels.

        Raises:
            UserError: If a file is not there, has two labels, or a cell is empty.
        """
        table = read_csv(path)
        file_at = table.column(self.file_column, "file_column", FILES)
        if file_at is None:
            raise UserError(
                f"data.file_column: got none, and no column called {', '.join(FILES)}, expected one of the "
                f"columns {', '.join(table.names[:30])}: set data.file_column",
                argument="data.file_column",
            )
        label_at = table.labels(self.label_column)
        groups = table.groups(self.group_column)
        split_at = table.column(None, "split_column", ("split",))
        labels: dict[str, str] = {}
        found, missing = [], []
        for n, (row, line) in enumerate(zip(table.rows, table.lines, strict=True)):
            name, label = row[file_at], row[label_at]
            if not name or not label:
                raise UserError(f"{path}: line {line}: got no file or no label, expected both")
            if name in labels:
                raise UserError(
                    f"{path}: line {line}: got {name!r} again, with label {label!r} after {labels[name]!r}, "
                    "expected each file once"
                )
            labels[name] = label
            place = path.parent / name
            if not os.path.exists(place):  # `Path.exists` raises at a name that is too long
                missing.append(f"{name} (line {line})")
            split = "" if split_at is None else row[split_at].lower()
            if split_at is not None and split not in SPLITS:
                raise UserError(
                    f"{path}: line {line}: got split {split!r}, expected train, validation or test"
                )
            group = "" if groups is None else groups[n]
            found.append(Listed(place, name, composed(label), SPLITS.get(split, ""), group))
        if missing:
            raise UserError(
                f"{path}: got {len(missing)} of {len(found)} files that are not there: {few(missing)}; "
                f"expected paths from {path.parent} on, with their suffixes"
            )
        return Listing(found, (), groups is not None, table.notes)
