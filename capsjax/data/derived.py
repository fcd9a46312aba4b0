"""What every set is that is made from another: that set, and the canvas that its images are put on."""

import abc
import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from capsjax.checks import FieldError, UserError, check_int
from capsjax.data.dataset import Dataset, Split
from capsjax.data.digits import Digits
from capsjax.data.download import Report
from capsjax.data.source import DataShape, Source
from capsjax.display import changed_fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class DerivedSource(Source, abc.ABC):
    """Define a set that is made from another, whose pixels are from 0 to 1.

    Args:
        source: the set that it is made from.
        canvas: height and width of the images, which the others are put in the middle of; None for theirs.
        kind: its name in a configuration.

    Raises:
        FieldError: If the canvas is not an integer of at least 1.
    """

    of_arrays: ClassVar[tuple[str, ...]] = ("kind", "source", "canvas")

    source: Source = dataclasses.field(default_factory=Digits)
    canvas: int | None = None

    def __post_init__(self):
        if self.canvas is not None:
            check_int(self, "canvas", low=1)

    def shape(self) -> DataShape:
        """Return the shape of the images and the number of classes, as the other set has them."""
        with self.told_from_here():
            found = self.source.shape()
        return found._replace(image_shape=self._on_canvas(found.image_shape))

    def load(self, report: Report | None = None) -> Dataset:
        """Read the other set, and make this one of it.

        Args:
            report: receives the progress of downloads, as the other set's.

        Returns:
            The dataset, images of the other's type, [n, canvas, canvas, c].

        Raises:
            UserError: If the other set cannot be read, its pixels are not from 0 to 1, the canvas is smaller
                than its images, or it cannot be made into this one.
        """
        return self.made(lambda source: source.load(report))

    def made(self, load: Callable[[Source], Dataset]) -> Dataset:
        """Make the set of the dataset that a function gives for the other set.

        Args:
            load: from the other set to its examples, such as the user's own arrays in place of its files.

        Returns:
            The dataset.

        Raises:
            UserError: If the function cannot give them, or they cannot be made into this set, as for `load`.
        """
        with self.told_from_here():
            found = load(self.source)
        if not found.bounded:
            raise UserError(
                f"{found.name}: got standardised images, expected pixels from 0 to 1, as changes know them; "
                "give the range that they have: data.source.range",
                argument="data.source.range",
            )
        if found.overlap is not None:
            raise UserError(
                f"data.source.kind: got {self.source.kind}, expected a set whose images show one class each: "
                "they are laid over each other last, after every other change; set data.kind to overlapping, "
                "and data.source to the set that is changed",
                argument="data.source.kind",
            )
        shape = self._on_canvas(found.image_shape)
        self.check_shape(shape)
        return self._made(found, shape)

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """Check that images of this shape can be made into this set.

        Raises:
            FieldError: If they are too small for what is done with them.
        """
        del shape

    @abc.abstractmethod
    def _made(self, found: Dataset, shape: tuple[int, int, int]) -> Dataset:
        """Make the set of the other's dataset, with images of this shape, which those are put on."""

    def shaped(self, image_shape: tuple[int, int, int]) -> Source:
        """Return the same with images of this shape; on a canvas they have the shape of the canvas."""
        if self.canvas is not None:
            return self
        return dataclasses.replace(self, source=self.source.shaped(image_shape))

    def placed(self, images: np.ndarray, black: float = 0.0) -> np.ndarray:
        """Return images in the middle of its canvas, and before of that of the set that it is made from.

        Args:
            images: of any unit, [n, h, w, c].
            black: what is around them.

        Returns:
            The images, [n, canvas, canvas, c].

        Raises:
            FieldError: If the canvas is smaller than they are.
        """
        inner = self.source.placed(images, black)
        shape = self._on_canvas((inner.shape[1], inner.shape[2], inner.shape[3]))
        return on_canvas(inner, shape, black)

    @contextlib.contextmanager
    def told_from_here(self) -> Iterator[None]:
        """Name the other set's fields as they are called here: data.source.range for data.range."""
        names = "|".join(field.name for field in dataclasses.fields(self.source))

        def here(text: str) -> str:
            return re.sub(rf"\bdata\.(?=(?:{names})\b)", "data.source.", text)

        try:
            yield
        except UserError as error:
            argument = None if error.argument is None else here(error.argument)
            said = here(error.on_command_line)
            raise UserError(here(str(error)), on_command_line=said, argument=argument) from None

    def _on_canvas(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        h, w, c = image_shape
        if self.canvas is None:
            return image_shape
        if self.canvas < max(h, w):
            expected = f"{max(h, w)} or more, as images have {h} x {w} pixels"
            raise FieldError(type(self).__name__, "canvas", self.canvas, expected)
        return self.canvas, self.canvas, c


@contextlib.contextmanager
def told_of_origin(source: Source) -> Iterator[None]:
    """Name the fields of the set whose files are read as they are called in the data of a configuration.

    Args:
        source: the configuration's data, which may be made from that set by way of others.
    """
    if not isinstance(source, DerivedSource):
        yield
        return
    with source.told_from_here(), told_of_origin(source.source):
        yield


def put_on_canvas(split: Split, shape: tuple[int, int, int]) -> Split:
    """Put the images of a split in the middle of larger ones.

    Args:
        split: the images.
        shape: height, width and channels of the larger ones.

    Returns:
        The same with zeros around; an odd row or column more comes last.
    """
    return Split(on_canvas(split.images, shape), split.labels)


def on_canvas(images: np.ndarray, shape: tuple[int, int, int], black: float = 0.0) -> np.ndarray:
    """Put images [n, h, w, c] in the middle of larger ones.

    Args:
        images: the images.
        shape: height, width and channels of the larger ones.
        black: what is around.

    Returns:
        The larger images; an odd row or column more comes last.
    """
    room = [(n - m) for n, m in zip(shape[:2], images.shape[1:3], strict=True)]
    around = [(0, 0), *((n // 2, n - n // 2) for n in room), (0, 0)]
    return np.pad(images, around, constant_values=black)


def in_words(value: Any) -> str:
    """Name a value by its kind and what of it is not its default, such as "shift pixels=6"."""
    told = [f"{name}={given}" for name, given in changed_fields(value).items()]
    return " ".join([value.kind, *told])
