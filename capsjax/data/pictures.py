"""What data sets of picture files have in common: they are found, read, split and named alike."""

import abc
import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from capsjax.checks import FieldError, UserError, check_bool, check_choice
from capsjax.data.classes import SHOWN, few, in_order, number_names
from capsjax.data.dataset import LEFT_OUT, Dataset, Split
from capsjax.data.download import Report
from capsjax.data.own import OwnData
from capsjax.data.picture import FITS, Fit
from capsjax.data.pixels import DARK, likely_ends
from capsjax.data.reading import Pictures, Wanted, read_pictures


class Listed(NamedTuple):
    """Hold a picture file with what is said of it.

    Attributes:
        path: where it is.
        name: what messages call it.
        label: the name of its class.
        split: "train", "validation" or "test"; "" where none is named.
        group: what it belongs to, all of which is in one split; "" where there are no groups.
    """

    path: Path
    name: str
    label: str
    split: str = ""
    group: str = ""


class Listing(NamedTuple):
    """Hold the picture files of a data set.

    Attributes:
        files: those with a class, in the order of their numbers.
        left_out: what is left out, and why, in lines.
        grouped: whether the files have groups.
        notes: what else was found, in lines.
    """

    files: Sequence[Listed]
    left_out: Sequence[str]
    grouped: bool
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureData(OwnData, abc.ABC):
    """Define data of picture files: PNG, JPEG, BMP, TIFF, WebP, GIF and PNM.

    All become one size. Classes are numbered by their names, in alphabetical order, or by size where all
    names are whole numbers. What was read is kept in the user's cache under the content of the files.

    Args:
        path: where they are; None if it is not said yet.
        size: height and width that all become, or one number for both; None for the medians over all
            pictures, both divided by one number where the longer is above 64.
        channels: 1 for grey, 3 for colour, 4 for colour with opacity; None for 3 where any picture is
            stored in colour, else 1. Where opacity is not kept, it is laid on black.
        fit: how pictures of other proportions fit: "pad" with black around all of it, "crop" to the middle,
            or "stretch" to other proportions.
        cache: whether what was read is kept for the next time.
        kind: its name in a configuration.

    Raises:
        FieldError: If a field is out of range.
    """

    of_arrays: ClassVar[tuple[str, ...]] = ("kind", "range", "size", "channels")

    size: int | tuple[int, int] | None = None
    channels: int | None = None
    fit: Fit = "pad"
    cache: bool = True

    def __post_init__(self):
        super().__post_init__()
        owner = type(self).__name__
        sides = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        whole = len(sides) == 2 and all(type(side) is int and 0 < side <= 4096 for side in sides)
        if self.size is not None and not whole:
            expected = "a height and a width from 1 to 4096, or one number for both, or nothing"
            raise FieldError(owner, "size", self.size, expected)
        if self.channels not in (None, 1, 3, 4):
            raise FieldError(owner, "channels", self.channels, "1, 3, 4 or nothing")
        check_choice(self, "fit", FITS)
        check_bool(self, "cache")

    def shaped(self, image_shape: tuple[int, int, int]) -> "PictureData":
        """Return the same with images of this height, width and channels."""
        return dataclasses.replace(self, size=image_shape[:2], channels=image_shape[2])

    @abc.abstractmethod
    def listing(self, path: Path) -> Listing:
        """List the files and what is said of each, without opening a picture.

        Args:
            path: where they are.

        Returns:
            The files with their classes.

        Raises:
            UserError: If there are none, or they do not say what is needed.
        """

    def load(self, report: Report | None = None) -> Dataset:
        """Read the pictures.

        Args:
            report: receives (what, files done, files in all).

        Returns:
            The dataset, with the names of its classes and what was found.

        Raises:
            UserError: If there is nothing to train on.
        """
        if self.path is None:
            came = "data: got none, expected pictures, since the configuration does not say where they are: "
            raise UserError(
                f'{came}data="FOLDER", or data.path',
                on_command_line=f"{came}--data.path FOLDER",
            )
        listing = self.listing(Path(self.path).expanduser())
        size = (self.size, self.size) if isinstance(self.size, int) else self.size
        wanted = Wanted(size, self.channels, self.fit, self.cache)
        paths = [file.path for file in listing.files]
        return self._made(listing, read_pictures(paths, wanted, report))

    def _made(self, listing: Listing, read: Pictures) -> Dataset:
        """Make the dataset of what could be read."""
        files = [listing.files[place] for place in read.places]
        unread = [f"{listing.files[n].name} ({why})" for n, why in read.problems.items()]
        left_out = [*listing.left_out, *unread]
        if not files:
            raise UserError(
                f"{self.path}: got no picture that can be read, expected some of PNG, JPEG, BMP, TIFF, WebP, "
                f"GIF or PNM; left out: {few(left_out)}"
            )
        try:
            labels, names = number_names([file.label for file in files])
        except UserError as error:
            remedy = self._one_class(files[0].label)
            more = f"; left out: {few(left_out)}" if left_out else ""
            raise UserError(f"{self.path}: {error}{remedy}{more}") from None
        parts = self._divided(files, labels, grouped=listing.grouped)
        rescaling = self.rescaling(read.pixels)
        pixels = read.pixels if rescaling is None else rescaling(read.pixels)
        self._check_ends(read.pixels, pixels)
        splits = {
            name: Split(pixels[part], labels[part])
            for name, part in parts.items()
            if part is not None
        }
        lone = [name for name, count in Counter(file.label for file in files).items() if count == 1]
        empty = in_order({file.label for file in listing.files} - {*names})
        notes = [*read.notes, *listing.notes]
        notes += [f"classes of one picture, which trains and is not tested: {few(lone)}"] * bool(
            lone
        )
        notes += [f"classes without a picture that can be read: {few(empty)}"] * bool(empty)
        every = f"; {LEFT_OUT} in the run's directory names all" if len(left_out) > SHOWN else ""
        notes += [f"left out: {few(left_out)}{every}"] * bool(left_out)
        return Dataset(
            self.kind,
            splits["train"],
            splits.get("validation"),
            splits["test"],
            len(names),
            1 / 255 if pixels.dtype == np.uint8 else 1.0,
            class_names=names,
            notes=tuple(notes),
            rescaling=rescaling,
            left_out=tuple(left_out),
        )

    def _check_ends(self, raw: np.ndarray, pixels: np.ndarray) -> None:
        """Check that pixels which are no longer bytes are from 0 to 1, and use some of that."""
        if self.range == "any" or pixels.dtype == np.uint8:
            return
        # Fewer bits in 16: what is white has to be said, as all would be next to black.
        dark = self.range is None and pixels.max() < DARK
        if pixels.min() >= 0 and pixels.max() <= 1 and not dark:
            return
        low, high = float(raw.min()), float(raw.max())
        given = "none" if self.range is None else list(self.range)
        raise UserError(
            f"data.range: got {given} for {raw.dtype} pixels from {low:g} to {high:g}, expected the values "
            f"that are black and white: set data.range, such as {likely_ends(low, high)} where these are",
            argument="data.range",
        )

    def _one_class(self, name: str) -> str:
        """Return what to do where there is one class."""
        del name
        return ""

    def _divided(
        self, files: Sequence[Listed], labels: np.ndarray, *, grouped: bool
    ) -> dict[str, np.ndarray | None]:
        """Return the places of each split: as named, and what is not named by fraction."""
        named = np.array([file.split for file in files])
        groups = [file.group for file in files] if grouped else None
        parts = {name: np.flatnonzero(named == name) for name in ("train", "validation", "test")}
        fractions = {"validation": self.validation_fraction, "test": self.test_fraction}
        fractions = {name: share for name, share in fractions.items() if not parts[name].size}
        rest = parts["train"] if parts["train"].size else np.flatnonzero(named == "")
        if not fractions:
            return {**parts, "train": rest}
        of = None if groups is None else [groups[place] for place in rest]
        divided = self.divide(labels[rest], list(fractions.values()), of)
        found = [None if part is None else rest[part] for part in divided]
        return {**parts, **dict(zip(("train", *fractions), found, strict=True))}
