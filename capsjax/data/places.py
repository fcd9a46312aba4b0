"""What data are at a path: the kind that reads it."""

import os
from pathlib import Path

from capsjax.checks import UserError
from capsjax.data.array_files import ARRAYS
from capsjax.data.arrays import Arrays
from capsjax.data.csv_file import TABLES, read_csv
from capsjax.data.folder import PictureFolder
from capsjax.data.picture_list import FILES, PictureList
from capsjax.data.source import Source
from capsjax.data.table import NumberTable

EXPECTED = (
    "a folder with a folder of pictures for each class, a table (.csv, .tsv) of numbers or of files of "
    "pictures, with labels, or a file of arrays (.npz, .npy, .mat)"
)


def may_be_data(path: Path) -> bool:
    """Return whether a path is one that `source_at` knows by its kind: a folder, or by its suffix.

    Args:
        path: of what may be there.

    Returns:
        Whether it is.
    """
    return path.is_dir() or path.suffix.lower() in ARRAYS + TABLES


def source_at(path: str | Path) -> Source:
    """Return the source that reads what is at a path, with its defaults.

    Args:
        path: a folder of pictures, a table that lists them or holds numbers, or a file of arrays.

    Returns:
        The source.

    Raises:
        UserError: If there is nothing, or no data that can be read.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        return PictureFolder(path=str(path))
    if not place.exists():
        raise UserError(f"data: got {str(path)!r}, no such file or folder, expected {EXPECTED}")
    suffix = place.suffix.lower()
    if suffix in ARRAYS:
        return Arrays(path=str(path))
    if suffix in TABLES:
        table = read_csv(place, rows=1)  # what is in them all, the source reads
        # A cell may be any text, such as one that is too long for a name: `Path.is_file` raises at that.
        lists = any(os.path.isfile(place.parent / cell) for cell in table.rows[0] if cell)
        named = table.column(None, "file_column", FILES) is not None
        return PictureList(path=str(path)) if lists or named else NumberTable(path=str(path))
    raise UserError(f"data: got {str(path)!r}, expected {EXPECTED}")
