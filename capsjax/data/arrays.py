"""The user's own images and labels, from NumPy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from capsjax.checks import (
    LARGEST_FLOAT,
    FieldError,
    UserError,
    check_int,
    nearest,
)
from capsjax.data.classes import RENUMBER, RENUMBER_SPLITS, check_labels, to_class_numbers
from capsjax.data.dataset import Dataset, Split
from capsjax.data.download import Report
from capsjax.data.npz import read_npz
from capsjax.data.own import OwnData
from capsjax.data.pixels import check_finite, check_range, type_remedy
from capsjax.data.source import DataShape, Source

KEYS = ("train", "validation", "test")
EXPECTED = (
    "expected (images, labels), or a dict with 'train', 'test' and, if wanted, 'validation', "
    "each (images, labels)"
)


@dataclass(frozen=True, kw_only=True)
class Arrays(OwnData):
    """Choose the user's own arrays: from a file, or from Python, `cj.train(config, data=(images, labels))`.

    Args:
        path: a file that `np.savez` wrote, with arrays `images` and `labels`, or `train_images` and so on, as
            `read_npz` takes it; None if the arrays are passed from Python.
        validation_fraction: share of the examples that validate, from 0, for none, to below 1; unused if
            the data name their own validation split.
        test_fraction: share of the examples that test, between 0 and 1; unused if the data name
            their own test split.
        seed: seed of the permutation that splits, from 0.
        num_classes: the number of classes; by default the largest label and one. If it is given, some
            classes may have no example.
        stratified: whether each part has its share of every class, and the training part one of each at
            least; False for parts of the permutation alone, as before there was a choice.
        kind: its name in a configuration.

    Raises:
        FieldError: If a field is out of range.
    """

    places: ClassVar[tuple[str, ...]] = ("path",)

    splits: ClassVar[str] = (
        f"name the splits: {{{', '.join(f'{k!r}: (images, labels)' for k in KEYS)}}}"
    )

    path: str | None = None
    num_classes: int | None = None
    kind: Literal["arrays"] = "arrays"

    def __post_init__(self):
        if self.path is not None and not (isinstance(self.path, str) and self.path):
            expected = "the path of a file that np.savez wrote, as a string, or nothing"
            raise FieldError("Arrays", "path", self.path, expected)
        super().__post_init__()
        if self.num_classes is not None:
            check_int(self, "num_classes", low=2)

    def load(self, report: Report | None = None) -> Dataset:
        """Read the file at `path`.

        Returns:
            The dataset, as `build` makes it.

        Raises:
            UserError: If there is no `path`, or something is wrong with the file or its arrays.
        """
        del report
        if self.path is None:
            got = "data: got none, expected the arrays, since the configuration names no file of them: "
            file = "a file that np.savez wrote, by data.path"
            raise UserError(
                f"{got}data=(images, labels), or {file}",
                on_command_line=f"{got}--data.path FILE, which np.savez(FILE, images=images, labels=labels) "
                "writes",
            )
        given = read_npz(self.path)
        try:
            return self.build(given)
        except UserError as error:
            raise UserError(f"{self.path}: {error}") from error

    def shape(self) -> DataShape:
        """Read the file at `path`; return the shape of its images and the number of classes.

        Raises:
            UserError: If there is no `path`, or something is wrong with the file or its arrays.
        """
        if self.path is None:
            others = [source.kind for source in Source.variants() if not issubclass(source, Arrays)]
            raise UserError(
                f"data.kind: got {self.kind} without data.path, whose shape only the arrays know, expected "
                f"{', '.join(others)}, or data.path: set data.kind or data.path",
                argument="data.kind",
            )
        dataset = self.load()
        return DataShape(dataset.image_shape, dataset.num_classes)

    def build(self, data: object) -> Dataset:
        """Make a dataset of the user's arrays.

        Pixels are uint8, 0 to 255, or floats, 0 to 1. What is not split already is split by a
        permutation that depends on `seed` and the labels alone.

        Args:
            data: (images [n, h, w] or [n, h, w, c], labels [n]); or a mapping with such a pair under
                "train", "test" and, if wanted, "validation"; or a `Dataset`, returned as it is.

        Returns:
            The dataset.

        Raises:
            UserError: If shapes, types, labels or pixels do not fit.

        Example:
            >>> import numpy as np
            >>> images, labels = np.zeros((20, 8, 8), np.uint8), np.arange(20) % 2
            >>> dataset = Arrays().build((images, labels))
            >>> len(dataset.train), len(dataset.validation), len(dataset.test), dataset.num_classes
            (16, 2, 2, 2)
        """
        if isinstance(data, Dataset):
            return data
        given = (
            _read_mapping(data) if isinstance(data, Mapping) else {"data": _read_pair("data", data)}
        )
        largest = max(0, *(int(split.labels.max()) for split in given.values()))
        num_classes = self.num_classes or largest + 1
        # Of all splits: the unit of one that happens to be dark could not be told from its own pixels.
        ends = (
            min(float(split.images.min()) for split in given.values()),
            max(float(split.images.max()) for split in given.values()),
        )
        for name, split in given.items():  # before any permutation: the index is the user's own
            check_labels(f"{name} labels", split.labels, num_classes, renumber=_renumber(data))
            check_range(f"{name} images", split.images, _scale(split), ends=ends)
        train, validation, test = self._divide(given)
        return Dataset(self.kind, train, validation, test, num_classes, _scale(train))

    def _divide(self, given: dict[str, Split]) -> tuple[Split, Split | None, Split]:
        """Split off what the data do not name: validation, and test if nothing is named."""
        if "validation" in given:
            return given["train"], given["validation"], given["test"]
        if "train" in given:
            train, validation = self._permute(given["train"], (self.validation_fraction,))
            return train, validation, given["test"]
        fractions = (self.validation_fraction, self.test_fraction)
        train, validation, test = self._permute(given["data"], fractions)
        return train, validation, test

    def _permute(self, split: Split, fractions: tuple[float, ...]) -> list[Any]:
        """Return what is left and a part for each fraction, None for those of 0."""
        parts = self.divide(split.labels, fractions)
        return [None if p is None else Split(split.images[p], split.labels[p]) for p in parts]


def _scale(split: Split) -> float:
    return 1 / 255 if split.images.dtype == np.uint8 else 1.0  # floats are from 0 to 1 already


def _renumber(data: object) -> str:
    return RENUMBER_SPLITS if isinstance(data, Mapping) else RENUMBER


def _read_mapping(data: Mapping) -> dict[str, Split]:
    for key in data:
        if key not in KEYS:
            raise UserError(f"data: got key {key!r}, {EXPECTED}{nearest(str(key), KEYS)}")
    for key in ("train", "test"):
        if key not in data:
            raise UserError(f"data: got no key {key!r}, {EXPECTED}")
    return {
        key: _read_pair(f"data[{key!r}]", data[key], RENUMBER_SPLITS) for key in KEYS if key in data
    }


def _read_pair(name: str, pair: object, renumber: str = RENUMBER) -> Split:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        given = f"{type(pair).__name__} of {len(pair)}" if isinstance(pair, tuple | list) else ""
        raise UserError(f"{name}: got {given or type(pair).__name__}, {EXPECTED}")
    images, labels = (_to_array(name, what) for what in pair)
    # Examples on the last axis, as files from MATLAB have them: seen by the number of labels.
    if images.ndim in (3, 4) and labels.shape == images.shape[-1:] != images.shape[:1]:
        raise UserError(
            f"{name}: images: got {list(images.shape)} for {len(labels)} labels, expected [n, h, w, c]; the "
            "examples come last: np.moveaxis(images, -1, 0)"
        )
    try:
        pixels = _to_pixels(images)
        return Split(pixels, to_class_numbers(labels, pixels.shape[0], renumber=renumber))
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def _to_array(name: str, values: object) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:  # lists of unequal lengths
        raise UserError(
            f"{name}: got lists of unequal lengths ({error}), {EXPECTED}; bring all images to one size"
        ) from None


def _to_pixels(images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        images = images[..., None]  # grey, without an axis of channels
    if images.dtype == np.uint8:
        return images
    if np.issubdtype(images.dtype, np.floating):
        if images.ndim == 4 and images.size:
            check_finite(images)
            if float(np.abs(images).max()) > LARGEST_FLOAT:  # float32 cannot hold it
                check_range("images", images, 1.0)
        return images.astype(np.float32)
    raise UserError(
        f"images: got type {images.dtype}, expected uint8 from 0 to 255 or floats from 0 to 1; "
        f"{type_remedy(images)}"
    )
