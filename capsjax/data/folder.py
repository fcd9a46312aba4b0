"""A folder of pictures, with a folder for each class."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from capsjax.checks import FieldError, UserError, check_bool
from capsjax.data.array_files import ARRAYS
from capsjax.data.csv_file import TABLES
from capsjax.data.pictures import Listed, Listing, PictureData
from capsjax.data.splits import SPLITS
from capsjax.data.walk import Found, walk

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm")


@dataclass(frozen=True, kw_only=True)
class PictureFolder(PictureData):
    """Choose a folder of pictures, with a folder for each class, which its name is that of.

    Pictures may lie deeper in the folder of a class. Where the folder holds `train`, and `validation` or
    `test` beside it (also `training`, `valid`, `val`, `dev`, `testing`), these are the splits, each with
    folders of classes; a split that is not there is split off `train`. What is not a picture, or broken, is
    left out and named, and so is a symbolic link that leads out of the folder or to a folder.

    Args:
        path: the folder.
        group: a regular expression, of which what it finds in a file's path from the folder on (its first
            parenthesis, where it has one) says what the picture belongs to, such as a patient: all that
            belongs together is in one split. None if pictures stand for themselves.
        follow_links: whether symbolic links are followed, wherever they lead.
        kind: its name in a configuration.

    Raises:
        FieldError: If a field is out of range.
    """

    splits: ClassVar[str] = "put them into folders train, validation and test"

    group: str | None = None
    follow_links: bool = False
    kind: Literal["folder"] = "folder"

    def __post_init__(self):
        super().__post_init__()
        check_bool(self, "follow_links")
        if self.group is not None:
            expected = r"a regular expression such as '^[^/]+/([^/]+)/', or nothing"
            try:
                re.compile(self.group)
            except (re.error, TypeError) as error:
                raise FieldError("PictureFolder", "group", self.group, expected) from error

    def listing(self, path: Path) -> Listing:
        """List the files of the folder, and the class of each.

        Args:
            path: the folder.

        Returns:
            The files with their classes.

        Raises:
            UserError: If there is no such folder, or none of classes in it.
        """
        if not path.is_dir():
            came = "a file" if path.exists() else "no such folder"
            got = (
                f"data.path: got {str(path)!r}, {came}, expected a folder with a folder of pictures for each "
                "class"
            )
            if path.exists() and path.suffix.lower() in ARRAYS + TABLES:
                file = f"{got}; arrays and tables are "
                flag = f"--data {shlex.quote(str(path))}, without --data.path"
                raise UserError(
                    f"{file}data={str(path)!r}", on_command_line=file + flag, argument="data.path"
                )
            raise UserError(got, argument="data.path")
        found = list(walk(path, follow_links=self.follow_links))
        tops = {file.parts[0] for file in found if len(file.parts) > 1}
        named = {top: SPLITS[top.lower()] for top in tops if top.lower() in SPLITS}
        split = "train" in named.values() and len({*named.values()}) > 1
        if split and len(named) > len({*named.values()}):
            several = ", ".join(sorted(named))
            raise UserError(
                f"{path}: got folders {several}, expected one of each split; rename those that are none"
            )
        files, left_out = [], []
        for file in found:
            parts = file.parts
            where = named.get(parts[0], "") if split else ""
            inner = parts[1:] if where else parts
            why = file.problem
            if why is None and len(inner) < 2:
                why = "in no folder of a class"
            elif why is None and split and not where:
                why = "in none of the splits"
            if why is not None:
                left_out.append(f"{file.name} ({why})")
            else:
                files.append(Listed(file.path, file.name, inner[0], where, self._group(file.name)))
        if not files:
            raise _nothing(path, found, left_out)
        return Listing(files, left_out, self.group is not None)

    def _group(self, name: str) -> str:
        """Return what a file belongs to."""
        if self.group is None:
            return ""
        match = re.search(self.group, name)
        if match is None:
            raise UserError(
                f"data.group: got {self.group!r}, which finds nothing in {name!r}, expected a regular "
                "expression that finds in every path what the picture belongs to",
                argument="data.group",
            )
        return match[1] if match.re.groups else match[0]

    def _one_class(self, name: str) -> str:
        """Return what to do where there is one folder, which may hold those of the classes."""
        inner = Path(self.path or "").expanduser() / name
        if inner.is_dir() and sum(path.is_dir() for path in inner.iterdir()) > 1:
            return f"; if the classes are the folders in it, the folder is {inner}"
        return "; give each class a folder of its own"


def _nothing(path: Path, found: Sequence[Found], left_out: Sequence[str]) -> UserError:
    """Say what there is where there is no folder of a class."""
    if not found:
        came = "an empty folder"
    elif pictures := [file for file in found if file.path.suffix.lower() in PICTURES]:
        came = f"{len(pictures)} pictures and no folder of a class, such as {pictures[0].name}"
    else:
        came = f"no folder of a class; left out: {left_out[0]}"
    remedy = "put the pictures of each class into a folder with its name"
    lists = [file.path for file in found if file.path.suffix.lower() in (".csv", ".tsv")]
    if lists:
        remedy += f"; or, where {lists[0].name} says the class of each, the data are {lists[0]}"
    return UserError(f"{path}: got {came}, expected a folder of pictures for each class; {remedy}")
