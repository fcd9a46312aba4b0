"""What an estimator makes of examples: what of a configuration's data holds for arrays, and what does not."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from capsjax.checks import UserError
from capsjax.data import Arrays, Dataset, NumberTable, OwnData, Source, Split
from capsjax.data.arrays import arranged
from capsjax.data.derived import DerivedSource, told_of_origin
from capsjax.data.pictures import PictureData
from capsjax.data.rescaling import Rescaling
from capsjax.display import changed_fields
from capsjax.runs.config import Config


def check_used(config: Config, overrides: Mapping[str, Any]) -> None:
    """Check that data that arrays take the place of say nothing in vain.

    Args:
        config: what is fitted.
        overrides: dotted keys and values that were asked for.

    Raises:
        UserError: If the data show several classes in an image, or an override changes what no array has.
    """
    _check_one_class(config.data, "data")
    for name, value in overrides.items():
        for path in _paths(value):
            _check_of_arrays(config.data, name, path)


def _check_one_class(source: Source, key: str) -> None:
    """Check that images show one class each, those too from which others are made."""
    if source.overlap is not None:
        raise UserError(
            f"{key}.kind: got {source.kind}, whose images show two classes each, expected one, as y has "
            "a label for each image; set data to 'arrays', and leave out metrics of two labels, or learn "
            "pairs: capsjax.train(config)",
            argument=f"{key}.kind",
        )
    if isinstance(source, DerivedSource):
        _check_one_class(source.source, f"{key}.source")


def _check_of_arrays(source: Source, name: str, path: tuple[str, ...]) -> None:
    """Check that an override of data, or what it names inside, holds for arrays."""
    key = ".".join((name, *path))
    first, *fields = key.split(".")
    holder: Any = source if first == "data" else None
    for field in fields:
        if isinstance(holder, Source) and field not in holder.of_arrays:
            known = [name for name in holder.of_arrays if name != "kind"]
            used = f"{', '.join(known)} alone" if known else "no field of them"
            parameter = name.replace(".", "__")
            remedy = (
                f"leave {'.'.join(path)} out of {parameter}" if path else f"leave {parameter} out"
            )
            raise UserError(
                f"{key}: got an override of data that X and y take the place of, expected {used}: all "
                f"examples that fit gets train, and no file is read; {remedy}",
                argument=key,
            )
        holder = getattr(holder, field, None)


def _paths(value: Any) -> Iterator[tuple[str, ...]]:
    """Return what an override names inside, in mappings and in values; nothing inside is an empty path."""
    inner = changed_fields(value) if isinstance(value, Source) else value
    if not isinstance(inner, Mapping):
        yield ()
        return
    for name, given in inner.items():
        yield from ((name, *path) for path in _paths(given))


def check_second_axis(X: Any, size: int) -> None:
    """Check that images have as much along their second axis as those that were fitted.

    Scikit-learn would call that "features", and say nothing of an order of axes; rows of features it checks.

    Args:
        X: images, or anything else, in which nothing is looked at.
        size: what the fitted ones had.

    Raises:
        UserError: If they have not.
    """
    shape = list(getattr(X, "shape", ()))
    if len(shape) < 3 or shape[1] == size:
        return
    remedy = "give images of the size that was fitted"
    if len(shape) == 4:  # channels are fewer than rows and columns
        first = shape[1] < shape[3]
        turned, to = (
            (2, "first, np.moveaxis(X, 1, -1)") if first else (3, "last, np.moveaxis(X, -1, 1)")
        )
        # Where that gives as much along the second axis as the fitted ones had.
        remedy = f"if the channels come {to}; else {remedy}" if shape[turned] == size else remedy
    raise UserError(f"X: got {shape}, expected {size} along the second axis, as in fit; {remedy}")


def as_images(source: Source, X: np.ndarray) -> np.ndarray:
    """Bring examples to [n, h, w, c], in the order of axes that a configuration's data have.

    Args:
        source: the configuration's data.
        X: images, or rows of features.

    Returns:
        Images, or rows as [n, 1, f, 1] where the configuration is for rows.

    Raises:
        UserError: If they are not of the form or size that the configuration has.
    """
    with told_of_origin(source):
        return _as_images(source.origin(), X)


def _as_images(source: Source, X: np.ndarray) -> np.ndarray:
    """Bring examples to [n, h, w, c], as they are in the set whose files are read."""
    rows = isinstance(source, NumberTable)
    if rows and X.ndim == 2:
        return X[:, None, :, None]
    if rows:
        raise UserError(
            f"X: got {list(X.shape)} for a configuration of rows, expected [n, features]; flatten them: "
            "X.reshape(len(X), -1)"
        )
    axes = source.axes if isinstance(source, Arrays) else None
    if axes is not None:
        if not axes.startswith("n"):
            raise UserError(
                f"data.axes: got {axes!r}, expected the examples first, as scikit-learn counts them; pass "
                f"np.moveaxis(X, {axes.index('n')}, 0), and set data.axes to 'n{axes.replace('n', '')}'",
                argument="data.axes",
            )
        return arranged(X, axes)
    if X.ndim == 2:
        raise UserError(
            f"X: got rows {list(X.shape)} for a configuration of images, expected [n, h, w, c] or [n, h, w]; "
            "of features take config='vectors', of flat images X.reshape(-1, h, w, c)"
        )
    X = X[..., None] if X.ndim == 3 else X
    if isinstance(source, PictureData) and X.ndim == 4:
        _check_size(source, X)
    return X


def _check_size(source: PictureData, images: np.ndarray) -> None:
    """Check that images have the size and channels that a configuration's pictures become."""
    _, height, width, channels = images.shape
    size = (source.size, source.size) if isinstance(source.size, int) else source.size
    if size not in (None, (height, width)):
        raise UserError(
            f"data.size: got {source.size} for images {list(images.shape)}, expected theirs, as arrays are "
            "taken as they are; resize them, or set data.size to None",
            argument="data.size",
        )
    if source.channels not in (None, channels):
        raise UserError(
            f"data.channels: got {source.channels} for images {list(images.shape)}, expected theirs, as "
            "arrays are taken as they are; set data.channels to None",
            argument="data.channels",
        )


def make_dataset(source: Source, X: np.ndarray, labels: np.ndarray, count: int) -> Dataset:
    """Make a dataset that trains on all examples; it has to name a test, and that is never looked at.

    Args:
        source: the configuration's data: the range of pixels, and what images become, on a larger canvas or
            changed, hold for arrays.
        X: images [n, h, w, c], or rows [n, 1, f, 1].
        labels: class numbers, [n].
        count: how many classes there are.

    Returns:
        The dataset.

    Raises:
        UserError: If examples are not as the configuration says.
    """
    if isinstance(source, NumberTable):
        rescaling = source.of_columns(X.astype(np.float64))
        split = Split(rescaling(X), labels)
        return Dataset(source.kind, split, None, split, count, 1.0, rescaling=rescaling)
    if isinstance(source, DerivedSource):
        return source.made(lambda inner: make_dataset(inner, X, labels, count))
    stated = source.num_classes if isinstance(source, Arrays) else None
    if stated not in (None, count):
        raise UserError(
            f"data.num_classes: got {stated} for y of {count} classes, expected {count}: an estimator knows "
            "the classes that it has seen; set data.num_classes to None",
            argument="data.num_classes",
        )
    ends = source.range if isinstance(source, OwnData) else None
    # Named, so that examples keep their order. Nobody looks at what validates and tests: one each.
    one = X[:1], labels[:1]
    found = Arrays(num_classes=count, range=ends).build(
        {"train": (X, labels), "validation": one, "test": one}
    )
    return dataclasses.replace(found, validation=None)


def placed(source: Source, images: np.ndarray, rescaling: Rescaling | None) -> np.ndarray:
    """Put images to classify on the canvas that those were put on that were learned from.

    Args:
        source: the configuration's data, on whose canvas images are put.
        images: in the unit that X has, [n, h, w, c].
        rescaling: how that became what the network takes, or None.

    Returns:
        The images, black around, as large as the network takes them.
    """
    black = 0.0 if rescaling is None else float(rescaling.inverse(np.zeros(1)).ravel()[0])
    return source.placed(images, black)
