"""What data are at a path: the kind that reads it."""

from pathlib import Path

from capsjax.checks import UserError
from capsjax.data.arrays import Arrays
from capsjax.data.folder import PictureFolder
from capsjax.data.source import Source

EXPECTED = "a folder with a folder of pictures for each class, or a file of arrays (.npz)"


def source_at(path: str | Path) -> Source:
    """Return the source that reads what is at a path, with its defaults.

    Args:
        path: a folder of pictures, or a file of arrays.

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
    if place.suffix.lower() == ".npz":
        return Arrays(path=str(path))
    raise UserError(f"data: got {str(path)!r}, expected {EXPECTED}")
