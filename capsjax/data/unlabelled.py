"""Examples without labels, to be classified: pictures, folders of them, arrays and tables."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from capsjax.checks import UserError
from capsjax.data.array_files import ARRAYS, images_of
from capsjax.data.arrays import Arrays, arranged
from capsjax.data.csv_file import TABLES, read_csv
from capsjax.data.download import Report
from capsjax.data.picture_list import FILES, PictureList
from capsjax.data.pictures import PictureData
from capsjax.data.reading import Wanted, read_pictures
from capsjax.data.source import Source
from capsjax.data.table import NumberTable
from capsjax.data.walk import walk

EXPECTED = (
    "a picture, a folder of pictures, a file of arrays (.npy, .npz, .mat) or a table (.csv, .tsv) of rows or "
    "of files of pictures"
)


class Examples(NamedTuple):
    """Hold examples without labels.

    Attributes:
        images: raw pixels, or numbers of a table, [n, h, w, c].
        files: the file of each, as it was given.
        places: the place of each in its file, from 0.
        left_out: what could not be read, and why, in lines.
        pictures: whether they come from files of pictures.
    """

    images: np.ndarray
    files: Sequence[str]
    places: Sequence[int]
    left_out: Sequence[str] = ()
    pictures: bool = False


def read_examples(
    paths: Sequence[str],
    source: Source,
    image_shape: tuple[int, int, int],
    report: Report | None = None,
) -> Iterator[Examples]:
    """Read files as a run's data are read, in order; pictures beside each other come together.

    Args:
        paths: files and folders.
        source: the run's data, whose options hold: columns that are no features, order of axes, how pictures
            of other proportions fit.
        image_shape: height, width and channels, which pictures become.
        report: receives (what, files done, files in all).

    Yields:
        The examples of one file, or of several pictures.

    Raises:
        UserError: If there is no such file, or it cannot be read as examples.
    """
    pictures: list[Path] = []
    for path in paths:  # before anything is read
        if not Path(path).expanduser().exists():
            raise UserError(f"{path}: got no such file or folder, expected {EXPECTED}")
    for path in paths:
        place, found = Path(path).expanduser(), None
        suffix = place.suffix.lower()
        if place.is_dir():
            under = [file.path for file in walk(place) if file.problem is None]
            if not under:
                raise UserError(f"{path}: got an empty folder, expected {EXPECTED}")
            pictures += under
            continue
        if suffix in ARRAYS:
            axes = source.axes if isinstance(source, Arrays) else None
            keys = source.keys if isinstance(source, Arrays) else None
            found = arranged(images_of(place, keys), axes)
        elif suffix in TABLES and isinstance(source, NumberTable):
            found = source.unlabelled(place)
        elif suffix in TABLES:
            pictures += _listed(place, source)
            continue
        else:
            pictures.append(place)
            continue
        if pictures:
            yield _read(pictures, source, image_shape, report)
            pictures = []
        yield Examples(found, [path] * len(found), range(len(found)))
    if pictures:
        yield _read(pictures, source, image_shape, report)


def _listed(path: Path, source: Source) -> list[Path]:
    """Return the files of pictures that a table lists."""
    table = read_csv(path, known=True)
    name = source.file_column if isinstance(source, PictureList) else None
    at = table.column(name, "file_column", FILES)
    if at is None:
        raise UserError(
            f"{path}: got a table without a column called {', '.join(FILES)}, expected {EXPECTED}, for a run "
            "on pictures"
        )
    return [path.parent / row[at] for row in table.rows]


def _read(
    paths: Sequence[Path], source: Source, image_shape: tuple[int, int, int], report: Report | None
) -> Examples:
    if isinstance(source, NumberTable):
        raise UserError(
            f"{paths[0]}: got a picture, expected a table (.csv, .tsv) or a file of arrays, as the run was "
            "trained on rows of numbers"
        )
    height, width, channels = image_shape
    fit = source.fit if isinstance(source, PictureData) else "pad"
    there = [path for path in paths if path.is_file()]
    gone = [f"{path} (no such file)" for path in paths if not path.is_file()]
    read = read_pictures(there, Wanted((height, width), channels, fit, keep=False), report)
    left_out = [f"{there[place]} ({why})" for place, why in read.problems.items()]
    named = [str(there[place]) for place in read.places]
    return Examples(read.pixels, named, [0] * len(named), [*gone, *left_out], pictures=True)
