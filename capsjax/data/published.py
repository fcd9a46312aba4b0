"""Sets that others published: what their files must be, where they come from, under which licence."""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from capsjax.checks import FieldError
from capsjax.data.download import Report, read_known
from capsjax.data.known import KnownFile, Place, find_place
from capsjax.data.source import DataShape, Source


@dataclasses.dataclass(frozen=True)
class Published:
    """State in one place what a published set is.

    Args:
        name: what it is called, and its folder.
        files: what each of its files must be, by key; none if it comes with a library that is installed.
        mirrors: addresses to download the files from, each ending in a slash; none if nobody publishes
            them in this form.
        examples: how many examples it has, by part.
        licence: under which it may be used, in words.
        page: the address of its authors' page.
        reference: whom to cite.
        obtain: where no mirror has it, what it is made of, in words.
    """

    name: str
    files: Mapping[str, KnownFile]
    mirrors: Sequence[str] = ()
    examples: Mapping[str, int] = dataclasses.field(default_factory=dict)
    licence: str = ""
    page: str = ""
    reference: str = ""
    obtain: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedSet(Source, abc.ABC):
    """Define a set that others published.

    Attributes:
        image_shape: height, width and channels of every image, by default.
        num_classes: how many classes there are.
    """

    image_shape: ClassVar[tuple[int, int, int]]
    num_classes: ClassVar[int] = 10

    @classmethod
    @abc.abstractmethod
    def published(cls) -> Published:
        """Return what the set's files are called and hold, where they are published, and how."""

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
        known = self.published()
        place = find_place(self.folder, known.name)
        if known.mirrors:
            return place
        # No cache: what is missing there would be looked for in vain.
        advice = (
            f"nobody publishes it in this form, so it is not downloaded: {known.obtain}. Put it there, or "
            f"into a folder {known.name} of the folder that CAPSJAX_DATA names"
        )
        return dataclasses.replace(place, advice=advice, is_cache=False)

    def files(self) -> Mapping[str, KnownFile]:
        """Return the files that are read, by key, such as they are in `place`."""
        return self.published().files

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
