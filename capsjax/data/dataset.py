"""What a dataset is: three splits of images with class numbers, checked where they enter."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from capsjax.checks import UserError
from capsjax.data.classes import check_labels, to_class_numbers
from capsjax.data.overlap import TOGETHER, Overlap
from capsjax.data.pixels import Pixels, check_finite, check_range, type_remedy
from capsjax.data.rescaling import Rescaling
from capsjax.display import as_table, one_line

LEFT_OUT = "left_out.txt"  # in which the directory of a run names every file that could not be read


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Hold images with their class numbers; the arrays are read-only views.

    Args:
        images: raw pixels, uint8 or float32 [n, h, w, c].
        labels: class numbers, any integer type, kept as int32 [n].

    Raises:
        UserError: If a shape or a type does not fit, nothing is in it, or a pixel is not finite.
    """

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self):
        images, labels = np.asarray(self.images), np.asarray(self.labels)
        if images.ndim != 4:
            got = f"images: got shape {list(images.shape)}, expected [n, h, w, c]"
            raise UserError(got + _axes_remedy(images.shape))
        if images.size == 0:
            raise UserError(f"images: got shape {list(images.shape)}, expected at least one image")
        if images.dtype not in (np.uint8, np.float32):
            raise UserError(
                f"images: got type {images.dtype}, expected uint8 or float32; {type_remedy(images)}"
            )
        labels = to_class_numbers(labels, images.shape[0])
        if images.dtype == np.float32:
            check_finite(images)  # once, here: every later sum over a batch would be NaN
        object.__setattr__(self, "images", _read_only(images))
        object.__setattr__(self, "labels", _read_only(labels))

    def __len__(self) -> int:
        return self.images.shape[0]

    def __repr__(self) -> str:
        return one_line(self)

    def _repr_html_(self) -> str:
        return as_table(self)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Hold the splits of one dataset.

    Args:
        name: what to call it.
        train: examples to learn from.
        validation: examples to choose by, or None.
        test: examples to judge by, once.
        num_classes: the number of classes, at least 2.
        scale: factor that brings raw pixels to 0 to 1: 1/255 for bytes, 1/16 for digits, 1 for floats.
        class_names: what the data call each class, by its number; empty where they call it by that number.
        notes: what was found when the data were read, in lines.
        left_out: every file that could not be read, and why, in lines.
        rescaling: how the pixels became what they are; None where they are as they were given.
        overlap: how two images of a split make an example that shows two classes; None where each image is
            an example.

    Raises:
        UserError: If labels or scaled pixels are out of range, or the splits differ in image shape
            or pixel type.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split
    num_classes: int
    scale: float
    class_names: tuple[str | int, ...] = ()
    notes: tuple[str, ...] = ()
    rescaling: Rescaling | None = None
    overlap: Overlap | None = None
    left_out: tuple[str, ...] = ()

    def __post_init__(self):
        if self.num_classes < 2:
            raise UserError(
                f"{self.name}: got num_classes={self.num_classes}, expected at least 2; "
                "where the data show one class of several, say how many there are: num_classes=2 or more"
            )
        if self.class_names and len({*self.class_names}) != self.num_classes:
            raise UserError(
                f"{self.name}: got {len({*self.class_names})} different names of classes, expected "
                f"{self.num_classes}, one for each"
            )
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise UserError(f"{self.name}: got scale={self.scale}, expected a number above 0")
        for name, split in self.splits().items():
            if split.images.shape[1:] != self.train.images.shape[1:]:
                raise UserError(
                    f"{self.name}: {name} images have shape {list(split.images.shape[1:])}, expected "
                    f"{list(self.image_shape)} as in train; bring all images to one size"
                )
            if split.images.dtype != self.train.images.dtype:
                in_bytes = [key for key, s in self.splits().items() if s.images.dtype == np.uint8]
                white = 255 if self.scale == 1 else 1 / self.scale
                raise UserError(
                    f"{self.name}: {name} images have type {split.images.dtype}, expected "
                    f"{self.train.images.dtype} as in train; bring the bytes to floats from 0 to 1, in "
                    f"{' and '.join(in_bytes)}: images / {white:g}"
                )
            # Against the number of classes of all splits, not of this one.
            check_labels(f"{self.name}: {name} labels", split.labels, self.num_classes)
            if self.bounded:
                check_range(f"{self.name}: {name} images", split.images, self.scale)

    def __repr__(self) -> str:
        return one_line(self)

    def _repr_html_(self) -> str:
        return as_table(self)

    def map_splits(self, change: Callable[[Split], Split], **fields: Any) -> "Dataset":
        """Return the dataset with every split that there is changed.

        Args:
            change: from a split to another.
            fields: other fields that change with them.

        Returns:
            The new dataset, checked as any.
        """
        splits = {name: change(split) for name, split in self.splits().items()}
        return replace(self, **splits, **fields)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape of one image, (h, w, c)."""
        h, w, c = self.train.images.shape[1:]
        return h, w, c

    @property
    def labels_per_image(self) -> int:
        """How many classes an image shows that a network is given."""
        return 1 if self.overlap is None else TOGETHER

    @property
    def bounded(self) -> bool:
        """Whether scaled pixels are from 0 to 1; else they are any finite numbers."""
        return self.rescaling is None or self.rescaling.bounded

    @property
    def pixels(self) -> Pixels:
        """The type, range and scale of the pixels to learn from."""
        return Pixels.of(self.train.images, self.scale)

    def splits(self) -> dict[str, Split]:
        """Return the splits by name: train, validation if there is one, test."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in splits.items() if split is not None}

    def fingerprint(self) -> str:
        """Return the SHA-256 of all that training sees: pixels, labels, splits, classes and scale."""
        made = "" if self.overlap is None else f" {self.overlap!r}"
        digest = hashlib.sha256(f"{self.num_classes} {self.scale!r}{made}".encode())
        for name, split in self.splits().items():
            for array in (split.images, split.labels):
                digest.update(f"{name} {array.dtype.name} {array.shape} ".encode())
                # Splits are views of a permuted whole, whose bytes do not lie one after another.
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def _axes_remedy(shape: tuple[int, ...]) -> str:
    """Return how to bring images to four axes, as code; nothing where that cannot be told."""
    if len(shape) == 3:
        return "; one channel is an axis of size 1: images[..., None]"
    # Flat images are taken for square ones of one channel, as MNIST is often passed around.
    side = math.isqrt(shape[1]) if len(shape) == 2 else 0
    if side > 1 and side**2 == shape[1]:
        return f"; flat images are images.reshape(-1, {side}, {side}, 1)"
    return ""


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()  # the caller's own array stays writable
    view.setflags(write=False)
    return view
