"""Sets that others published: what their files must be, where they come from, under which licence."""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from capsjax.checks import FieldError, UserError, nearest
from capsjax.data.download import Report, download, read_known
from capsjax.data.known import KnownFile, Place, find_place
from capsjax.data.source import DataShape, Source
from capsjax.schema.fields import kinds_of


@dataclasses.dataclass(frozen=True)
class Published:
    """State in one place what a published set is.

    Args:
        name: what it is called, and its folder.
        files: what each of its files must be, by key; none if it comes with a library that is installed.
        mirrors: addresses to download the files from, each ending in a slash.
        examples: how many examples it has, by part, with its defaults.
        licence: under which it may be used, in words.
        page: the address of its authors' page.
        reference: whom to cite.
    """

    name: str
    files: Mapping[str, KnownFile]
    mirrors: Sequence[str] = ()
    examples: Mapping[str, int] = dataclasses.field(default_factory=dict)
    licence: str = ""
    page: str = ""
    reference: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedSet(Source, abc.ABC):
    """Define a set that others published.

    Attributes:
        image_shape: height, width and channels of every image, by default.
        num_classes: how many classes there are.
    """

    image_shape: ClassVar[tuple[int, int, int]]
    num_classes: ClassVar[int] = 10

    kind: str = ""  # each set's own, so that every one of them has defaults alone

    @classmethod
    @abc.abstractmethod
    def published(cls) -> Published:
        """Return what the set's files are called and hold, where they are published, and how."""

    def examples(self) -> Mapping[str, int]:
        """Return how many examples it has, by part."""
        return self.published().examples

    def shape(self) -> DataShape:
        """Return the shape of the images and the number of classes; nothing is read."""
        return DataShape(self.image_shape, self.num_classes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedFiles(PublishedSet, abc.ABC):
    """Define a set in files that are published.

    They are looked for in `folder`, else in the set's folder below `$CAPSJAX_DATA`, else in the user's
    cache, and downloaded there if missing. An empty CAPSJAX_DATA counts as none.

    Args:
        folder: folder with the files, or None to look as above.
        kind: its name in a configuration.

    Raises:
        FieldError: If a field is out of range.
    """

    places: ClassVar[tuple[str, ...]] = ("folder",)

    folder: str | None = None

    def __post_init__(self):
        if self.folder is not None and not (isinstance(self.folder, str) and self.folder):
            expected = "the path of a folder as a string, or nothing"
            raise FieldError(type(self).__name__, "folder", self.folder, expected)

    def place(self) -> Place:
        """Return where the files are, whether or not there is anything."""
        return find_place(self.folder, self.published().name)

    def files(self) -> Mapping[str, KnownFile]:
        """Return the files that are read, by key, such as they are in `place`."""
        return self.published().files

    def flags(self) -> str:
        """Return the flags that have `capsjax data` read the same files; none by default."""
        return ""

    def missing(self) -> list[str]:
        """Return what the files that are not there are called."""
        folder = self.place().folder
        return [file.names[0] for file in self.files().values() if file.find(folder) is None]

    def fetch(self, report: Report | None = None) -> list[Path]:
        """Download the files that are not there, to where they are looked for, be it the cache or not.

        Nothing that is there is changed.

        Args:
            report: receives (name, bytes done, bytes in all or None) during a download.

        Returns:
            The files that came.

        Raises:
            UserError: If a file is there already and is not the published one, or no download succeeds.
        """
        known, place = self.published(), self.place()
        came = []
        for file in self.files().values():
            path = file.find(place.folder)
            if path is None:
                came.append(download(file, known.mirrors, place.folder, report=report))
            else:
                file.read(path)  # says what is wrong with it
        return came

    def verify(self) -> list[tuple[str, KnownFile]]:
        """Read every file, and check that it is the published one.

        Returns:
            Path and description of each.

        Raises:
            UserError: If a file is missing, unreadable or not the published one.
        """
        place, known = self.place(), self.published()
        found = []
        for file in self.files().values():
            if file.find(place.folder) is None:
                advice = f"have it downloaded: capsjax data fetch {known.name}{self.flags()}"
                place = dataclasses.replace(place, advice=advice, is_cache=False)
            found.append((read_known(place, file, ())[1], file))
        return found

    def read(self, key: str, report: Report | None = None) -> tuple[bytes, str]:
        """Read a file, and download it first if it belongs into the cache and is not there.

        Args:
            key: which of `files`.
            report: receives (name, bytes done, bytes in all or None) during a download.

        Returns:
            Its content, checked, and its path.

        Raises:
            UserError: If it is missing, unreadable or not the published one, or no download succeeds.
        """
        known = self.published()
        return read_known(self.place(), self.files()[key], known.mirrors, report=report)


def published_sets() -> dict[str, PublishedSet]:
    """Return the published sets that a configuration may name, by that name, each with its defaults."""
    found = [cls() for cls in Source.variants() if issubclass(cls, PublishedSet)]
    return {source.kind: source for source in sorted(found, key=lambda source: source.kind)}


def published_set(name: str) -> PublishedSet:
    """Return a published set by its name.

    Args:
        name: what a configuration calls it.

    Returns:
        The set, with its defaults.

    Raises:
        UserError: If there is none of that name.
    """
    known = published_sets()
    if name not in known:
        expected = f"one of {', '.join(known)}{nearest(name, list(known))}"
        unpublished = ", which is made of another set or of files of your own, and nobody published"
        other = unpublished if name in kinds_of(Source) else ""
        raise UserError(f"data: got {name!r}{other}, expected {expected}")
    return known[name]
