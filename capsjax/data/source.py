"""What every source of data in a configuration is."""

import abc
import dataclasses
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from capsjax.data.dataset import Dataset
from capsjax.data.download import Report
from capsjax.data.overlap import Overlap
from capsjax.schema.variant import Variant


class DataShape(NamedTuple):
    """Hold what a network has to fit.

    Attributes:
        image_shape: height, width and channels of every image.
        num_classes: the number of classes.
    """

    image_shape: tuple[int, int, int]
    num_classes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(Variant, abc.ABC):
    """Define where a run's data come from.

    Args:
        kind: its name in a configuration.

    Attributes:
        starts_with: the configuration that ships to start with on such data, of one's own.
        places: names of the fields that say where its files are; they alone may change when a run is
            resumed, and hold a path or None.
        of_arrays: names of the fields that still hold where arrays take the place of its files and all of
            them train, as in an estimator.
    """

    starts_with: ClassVar[str] = "images"
    places: ClassVar[tuple[str, ...]] = ()
    of_arrays: ClassVar[tuple[str, ...]] = ("kind",)

    kind: str

    @property
    def overlap(self) -> Overlap | None:
        """How two images make an example that shows two classes; None where each image is one."""
        return None

    @abc.abstractmethod
    def load(self, report: Report | None = None) -> Dataset:
        """Read the data.

        Args:
            report: receives (name, bytes done, bytes in all or None) during a download.

        Returns:
            The dataset, in the split that the class describes.

        Raises:
            UserError: If a file is missing or not what it should be.
        """

    @abc.abstractmethod
    def shape(self) -> DataShape:
        """Return the shape of the images and the number of classes, without reading more than that needs.

        Raises:
            UserError: If they are not known before the data are there.
        """

    def shaped(self, image_shape: tuple[int, int, int]) -> "Source":
        """Return the same with images of this height, width and channels, where a source can choose them."""
        del image_shape
        return self

    def placed(self, images: np.ndarray, black: float = 0.0) -> np.ndarray:
        """Return one's own images as large as those of the set are, where it puts them on a canvas.

        Args:
            images: of any unit, [n, h, w, c].
            black: what is around them.

        Returns:
            The images, [n, h', w', c].
        """
        del black
        return images

    def origin(self) -> "Source":
        """Return the set whose files are read: itself, or that from which it is made in the end."""
        return next((source.origin() for source in self._inner().values()), self)

    def with_origin(self, origin: "Source") -> "Source":
        """Return the same made from another set in the end; a set that is made from none is that itself."""
        inner = {name: of.with_origin(origin) for name, of in self._inner().items()}
        return dataclasses.replace(self, **inner) if inner else origin

    def place_keys(self) -> tuple[str, ...]:
        """Return what `places` names, and the dotted keys of that in a set from which it is made."""
        inner = self._inner().items()
        return (*self.places, *(f"{name}.{key}" for name, of in inner for key in of.place_keys()))

    def located(self) -> "Source":
        """Return the same with absolute paths, which hold wherever they are read again."""
        given = {name: getattr(self, name) for name in self.places}
        whole = {name: whole_path(path) for name, path in given.items() if path}
        inner = {name: source.located() for name, source in self._inner().items()}
        return dataclasses.replace(self, **whole, **inner)  # resumed from another directory

    def moved_to(self, other: "Source") -> "Source":
        """Return the same with the files where another source has them, if that is of the same class."""
        # Of another class, the fields that hold places have other names and other meanings.
        if type(other) is not type(self):
            return self
        theirs = other._inner()
        inner = {name: of.moved_to(theirs.get(name, of)) for name, of in self._inner().items()}
        return dataclasses.replace(
            self, **{name: getattr(other, name) for name in self.places}, **inner
        )

    def _inner(self) -> dict[str, "Source"]:
        """Return the sets from which it is made, by the names of their fields."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Source)}


def whole_path(path: str) -> str:
    """Return the absolute path of data, which holds wherever a configuration is read again."""
    return str(Path(path).expanduser().absolute())
