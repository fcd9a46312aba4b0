"""The user's own images and labels, from NumPy."""

from collections.abc import Mapping, Sequence
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
from capsjax.data.array_files import read_arrays
from capsjax.data.classes import RENUMBER, RENUMBER_SPLITS, check_labels, to_class_numbers
from capsjax.data.dataset import Dataset, Split
from capsjax.data.download import Report
from capsjax.data.labels import number_classes
from capsjax.data.npz import NAMED, Pair, splits_named
from capsjax.data.own import WHITE, OwnData
from capsjax.data.pixels import DARK, check_finite, check_range, likely_ends, type_remedy
from capsjax.data.rescaling import Rescaling
from capsjax.data.source import DataShape, Source

ORDER = "nhwfc"
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
            `read_npz` takes it; a file of MATLAB (.mat); a file of one array of images (.npy); None if the
            arrays are passed from Python.
        keys: what the arrays of images and labels are called in the file; None for images and labels, in a
            .mat also X and y or data and labels.
        labels_path: a file .npy of labels, beside one of images.
        axes: in what order the axes of images are: letters of n examples, h rows, w columns and c channels,
            such as "nchw" or "hwcn"; "nf" for rows of f features; None for "nhwc" or "nhw".
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

    places: ClassVar[tuple[str, ...]] = ("path", "labels_path")
    of_arrays: ClassVar[tuple[str, ...]] = ("kind", "range", "axes", "num_classes")

    splits: ClassVar[str] = (
        f"name the splits: {{{', '.join(f'{k!r}: (images, labels)' for k in KEYS)}}}"
    )

    keys: tuple[str, str] | None = None
    labels_path: str | None = None
    axes: str | None = None
    num_classes: int | None = None
    kind: Literal["arrays"] = "arrays"

    def __post_init__(self):
        super().__post_init__()
        if self.axes is not None and sorted(self.axes) not in (
            list("chnw"),
            list("hnw"),
            list("fn"),
        ):
            expected = "the letters n, h, w and c in the order of the axes, without c for grey, or nf or fn"
            raise FieldError("Arrays", "axes", self.axes, expected)
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
        given = read_arrays(self.path, self.keys, self.labels_path)
        try:
            return self.build(given)
        except UserError as error:
            if error.argument is not None:  # which says where to look
                raise
            raise error.within(self.path) from error

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
        return super().shape()

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
        pairs = (
            _read_mapping(data) if isinstance(data, Mapping) else {"data": _to_pair("data", data)}
        )
        numbers, names = number_classes(
            {name: labels for name, (_, labels) in pairs.items()}, from_one=self.num_classes is None
        )
        if names and self.num_classes not in (None, len(names)):
            raise UserError(
                f"data.num_classes: got {self.num_classes} for labels of {len(names)} names, expected as "
                "many, or none",
                argument="data.num_classes",
            )
        found = {name: arranged(images, self.axes) for name, (images, _) in pairs.items()}
        rescaling = self._of_all(list(found.values()))
        given = {
            name: _to_split(name, images, numbers[name], rescaling)
            for name, images in found.items()
        }
        largest = max(0, *(int(split.labels.max()) for split in given.values()))
        num_classes = self.num_classes or largest + 1
        # Of all splits: the unit of one that happens to be dark could not be told from its own pixels.
        ends = (
            min(float(split.images.min()) for split in given.values()),
            max(float(split.images.max()) for split in given.values()),
        )
        if rescaling is not None and rescaling.bounded and not (ends[0] >= 0 and ends[1] <= 1):
            low, high = (rescaling.inverse(np.array([end])).item() for end in ends)
            given_range = list(self.range or (0, WHITE))
            raise UserError(
                f"data.range: got {given_range} for pixels from {low:g} to {high:g}, expected the values "
                "that are black and white, between which all pixels are",
                argument="data.range",
            )
        for name, split in given.items():  # before any permutation: the index is the user's own
            check_labels(f"{name} labels", split.labels, num_classes, renumber=_renumber(data))
            if rescaling is None:
                _check_unit(f"{name} images", split, ends)
        train, validation, test = self._divide(given)
        return Dataset(
            self.kind,
            train,
            validation,
            test,
            num_classes,
            _scale(train),
            class_names=names,
            rescaling=rescaling,
        )

    def _of_all(self, images: Sequence[np.ndarray]) -> Rescaling | None:
        """Return how the pixels of all splits are rescaled; None where they stay as they are."""
        found = [self.rescaling(split) for split in images]
        if None in found:
            return None
        # Fewer bits in 16: what is white has to be said, as all would be next to black.
        highest = max(float(split.max(initial=0)) for split in images)
        return None if self.range is None and highest < DARK * WHITE else found[0]

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


def _check_unit(name: str, split: Split, ends: tuple[float, float]) -> None:
    """Check that pixels are from 0 to 1, by their scale; `ends` are those of all splits, for the advice."""
    try:
        check_range(name, split.images, _scale(split), ends=ends)
    except UserError as error:
        error = _say_ends(error, *ends)
        if ends[0] < 0:  # standardised, maybe
            error = error.or_set("; or leave them as they are: ", "data.range", "any")
        raise error from None


def _say_ends(error: UserError, low: float, high: float) -> UserError:
    words = "; or say which values are black and white: "
    return error.or_set(words, "data.range", likely_ends(low, high))


def _renumber(data: object) -> str:
    return RENUMBER_SPLITS if isinstance(data, Mapping) else RENUMBER


def _read_mapping(data: Mapping) -> dict[str, Pair]:
    # What `np.load` gives of a file of splits, or what was meant for one.
    if any(key in NAMED for key in data):
        names = splits_named("data", list(data))
        data = {name: (data[f"{name}_images"], data[f"{name}_labels"]) for name in names}
    for key in data:
        if key not in KEYS:
            raise UserError(f"data: got key {key!r}, {EXPECTED}{nearest(str(key), KEYS)}")
    for key in ("train", "test"):
        if key not in data:
            raise UserError(f"data: got no key {key!r}, {EXPECTED}")
    return {key: _to_pair(f"data[{key!r}]", data[key]) for key in KEYS if key in data}


def _to_pair(name: str, pair: object) -> Pair:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        given = f"{type(pair).__name__} of {len(pair)}" if isinstance(pair, tuple | list) else ""
        raise UserError(f"{name}: got {given or type(pair).__name__}, {EXPECTED}")
    return _to_array(name, pair[0]), _to_array(name, pair[1])


def _to_split(
    name: str, images: np.ndarray, labels: np.ndarray, rescaling: Rescaling | None
) -> Split:
    """Check one split's arrays; `name` is its key, or "data" for the whole."""
    where, renumber = ("data", RENUMBER) if name == "data" else (f"data[{name!r}]", RENUMBER_SPLITS)
    # Examples on the last axis, as files from MATLAB have them: seen by the number of labels.
    if images.ndim in (3, 4) and labels.shape == images.shape[-1:] != images.shape[:1]:
        axes = "hwcn" if images.ndim == 4 else "hwn"
        raise UserError(
            f"{where}: images: got {list(images.shape)} for {len(labels)} labels, expected [n, h, w, c]; "
            f"the examples come last: say data.axes {axes}, or: np.moveaxis(images, -1, 0)"
        )
    try:
        pixels = _to_pixels(images) if rescaling is None else rescaling(_four_axes(images))
        numbers = to_class_numbers(labels, pixels.shape[0], renumber=renumber)
        try:
            return Split(pixels, numbers)
        except UserError as error:
            if images.ndim == 2:
                error = error.or_set("; for rows of features: ", "data.axes", "nf")
            raise error from None
    except UserError as error:
        raise error.within(where) from None


def arranged(images: np.ndarray, axes: str | None) -> np.ndarray:
    """Bring images whose axes are in a stated order to [n, h, w, c]; rows of features to [n, 1, f, 1].

    Args:
        images: of any number of axes.
        axes: a letter for each, as `Arrays.axes` takes them; None to leave them.

    Returns:
        The images.

    Raises:
        UserError: If there is not one letter for each axis.
    """
    if axes is None:
        return images
    if images.ndim != len(axes):
        raise UserError(
            f"data.axes: got {axes!r} for images {list(images.shape)}, expected a letter for each axis",
            argument="data.axes",
        )
    images = np.moveaxis(
        images, [axes.index(letter) for letter in ORDER if letter in axes], range(len(axes))
    )
    return images[:, None, :, None] if "f" in axes else _four_axes(images)


def _four_axes(images: np.ndarray) -> np.ndarray:
    return images[..., None] if images.ndim == 3 else images  # grey, without an axis of channels


def _to_array(name: str, values: object) -> np.ndarray:
    try:
        return np.asarray(values)
    except (TypeError, RuntimeError) as error:  # of another library, on a device or with a gradient
        raise UserError(
            f"{name}: got {type(values).__name__}, which does not give its numbers ({error}), {EXPECTED}"
        ) from error
    except ValueError as error:  # lists of unequal lengths
        raise UserError(
            f"{name}: got lists of unequal lengths ({error}), {EXPECTED}; bring all images to one size"
        ) from None


def _to_pixels(images: np.ndarray) -> np.ndarray:
    images = _four_axes(images)
    if images.dtype == np.uint8:
        return images
    if np.issubdtype(images.dtype, np.floating):
        if images.ndim == 4 and images.size:
            check_finite(images)
            if float(np.abs(images).max()) > LARGEST_FLOAT:  # float32 cannot hold it
                check_range("images", images, 1.0)
        return images.astype(np.float32)
    error = UserError(
        f"images: got type {images.dtype}, expected uint8 from 0 to 255 or floats from 0 to 1; "
        f"{type_remedy(images)}"
    )
    if images.dtype.kind in "iu" and images.size:
        error = _say_ends(error, int(images.min()), int(images.max()))
    raise error
