"""What a dataset is: three splits of images with class numbers, checked where they enter."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from capsjax.checks import UserError
from capsjax.data.pixels import Pixels, check_finite, check_range, type_remedy
from capsjax.display import as_table, one_line

INT32 = np.iinfo(np.int32)


def check_labels(name: str, labels: np.ndarray, num_classes: int) -> None:
    """Check that every label is a class number, 0 to num_classes - 1.

    Args:
        name: what the labels belong to, for the message.
        labels: class numbers, integers [n].
        num_classes: how many classes there are.

    Raises:
        UserError: where one is not; the first such label is named with its index.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if wrong.size:
        first = wrong[0]
        raise UserError(
            f"{name}: label {first} is {labels[first]}, expected an integer from 0 to "
            f"{num_classes - 1} ({wrong.size} of {labels.size} labels are out of range); "
            "number the classes from 0, or correct num_classes"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Hold images with their class numbers; the arrays are read-only views.

    Args:
        images: raw pixels, uint8 or float32 [n, h, w, c].
        labels: class numbers, any integer type, kept as int32 [n].

    Raises:
        UserError: where a shape or a type does not fit, nothing is in it, or a pixel is not finite.
    """

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self):
        images, labels = np.asarray(self.images), np.asarray(self.labels)
        if images.ndim != 4:
            raise UserError(
                f"images: got shape {list(images.shape)}, expected [n, h, w, c]; "
                "one channel is an axis of size 1: images[..., None]"
            )
        if images.size == 0:
            raise UserError(f"images: got shape {list(images.shape)}, expected at least one image")
        if images.dtype not in (np.uint8, np.float32):
            raise UserError(
                f"images: got type {images.dtype}, expected uint8 or float32; {type_remedy(images)}"
            )
        if labels.ndim != 1:
            raise UserError(
                f"labels: got shape {list(labels.shape)}, expected [n], one class number for each "
                "image; from one-hot labels take labels.argmax(-1)"
            )
        if labels.shape[0] != images.shape[0]:
            raise UserError(
                f"labels: got {labels.shape[0]} labels for {images.shape[0]} images, "
                "expected one label for each image"
            )
        if not np.issubdtype(labels.dtype, np.integer):
            raise UserError(
                f"labels: got type {labels.dtype}, expected integers; use labels.astype(np.int32)"
            )
        if labels.min() < INT32.min or labels.max() > INT32.max:
            raise UserError(
                f"labels: they run from {labels.min()} to {labels.max()}, expected class numbers "
                "from 0; number the classes from 0"
            )
        if images.dtype == np.float32:
            check_finite(images)
        object.__setattr__(self, "images", _read_only(images))
        object.__setattr__(self, "labels", _read_only(labels.astype(np.int32)))

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
        num_classes: how many classes there are, at least 2.
        scale: factor that brings raw pixels to 0 to 1: 1/255 for bytes, 1/16 for digits, 1 for floats.

    Raises:
        UserError: where labels or scaled pixels are out of range, or the splits differ in image shape
            or pixel type.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split
    num_classes: int
    scale: float

    def __post_init__(self):
        if self.num_classes < 2:
            raise UserError(
                f"{self.name}: got num_classes={self.num_classes}, expected at least 2; "
                "where the data show one class of several, set num_classes"
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
                raise UserError(
                    f"{self.name}: {name} images have type {split.images.dtype}, expected "
                    f"{self.train.images.dtype} as in train; bring all images to one type"
                )
            check_labels(f"{self.name}: {name} labels", split.labels, self.num_classes)
            check_range(f"{self.name}: {name} images", split.images, self.scale)

    def __repr__(self) -> str:
        return one_line(self)

    def _repr_html_(self) -> str:
        return as_table(self)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape of one image, (h, w, c)."""
        h, w, c = self.train.images.shape[1:]
        return h, w, c

    @property
    def pixels(self) -> Pixels:
        """What pixels there are to learn from."""
        return Pixels.of(self.train.images, self.scale)

    def splits(self) -> dict[str, Split]:
        """Return the splits by name: train, validation where there is one, test."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in splits.items() if split is not None}

    def fingerprint(self) -> str:
        """Return the SHA-256 of all that training sees: pixels, labels, splits, classes and scale."""
        digest = hashlib.sha256(f"{self.num_classes} {self.scale!r}".encode())
        for name, split in self.splits().items():
            for array in (split.images, split.labels):
                digest.update(f"{name} {array.dtype.name} {array.shape} ".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.setflags(write=False)
    return view
