"""Labels as people have them, to class numbers: names, numbers from 1, one-hot rows, columns."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from capsjax.data.walk import composed


def number_classes(
    labels: Mapping[str, np.ndarray], *, from_one: bool = True
) -> tuple[dict[str, np.ndarray], tuple[str | int, ...]]:
    """Number the classes of all splits alike, where it is plain what the labels mean.

    Strings are numbered in alphabetical order; whole numbers kept as floats, as MATLAB keeps all numbers,
    become integers; whole numbers from 1 to the number of classes, none of which is missing, become one less;
    rows of zeros with a single one become its place; a column or a row of labels loses its axis of size 1.
    All else stays as it is, to be checked and explained elsewhere.

    Args:
        labels: the labels of each split.
        from_one: whether whole numbers may count from 1.

    Returns:
        The same as class numbers, and what the data call each class, empty where they call it by that
        number.
    """
    plain = {name: _strings(_flat(array)) for name, array in labels.items()}
    arrays = list(plain.values())
    hot = all(array.ndim == 2 and _is_one_hot(array) for array in arrays)
    if hot and len({array.shape[1] for array in arrays}) == 1:
        return {name: array.argmax(-1) for name, array in plain.items()}, ()
    if not all(array.ndim == 1 and array.size for array in arrays):
        return plain, ()
    if all(array.dtype.kind == "U" for array in arrays):
        given = {
            name: np.array([composed(word) for word in array]) for name, array in plain.items()
        }
        names = np.unique(np.concatenate(list(given.values())))
        found = {name: np.searchsorted(names, array) for name, array in given.items()}
        return found, tuple(names.tolist())
    if all(_is_whole(array) for array in arrays):
        plain = {name: _as_integers(array) for name, array in plain.items()}
        arrays = list(plain.values())
    if from_one and all(array.dtype.kind in "iu" for array in arrays):
        numbers = np.unique(np.concatenate([array.astype(np.int64) for array in arrays]))
        if len(numbers) > 1 and numbers[0] == 1 and numbers[-1] == len(numbers):
            found = {name: array.astype(np.int64) - 1 for name, array in plain.items()}
            return found, tuple(numbers.tolist())
    return plain, ()


def _flat(array: np.ndarray) -> np.ndarray:
    """Return labels [n, 1] or [1, n], as MATLAB has them, as [n]."""
    return array.reshape(-1) if array.ndim == 2 and 1 in array.shape else array


def _strings(array: np.ndarray) -> np.ndarray:
    """Return strings that are kept as objects or bytes as an array of strings; all else as it is."""
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "replace")
    words: list[Any] = array.tolist() if array.dtype.kind == "O" and array.ndim == 1 else []
    # MATLAB's cells hold an array of one string each.
    words = [word.item() if getattr(word, "size", 0) == 1 else word for word in words]
    return np.array(words) if words and all(isinstance(word, str) for word in words) else array


def _is_one_hot(array: np.ndarray) -> bool:
    numbers = array.dtype.kind in "biuf" and array.shape[0] > 0 and array.shape[1] > 1
    return bool(numbers and ((array == 0) | (array == 1)).all() and (array.sum(-1) == 1).all())


def _is_whole(array: np.ndarray) -> bool:
    """Tell whether numbers are whole, and small enough that floats do not run together."""
    if array.dtype.kind != "f":
        return array.dtype.kind in "iu"
    limit = min(2.0**31, 2.0 ** (np.finfo(array.dtype).nmant + 1))
    wide = array.astype(np.float64)
    return bool(((wide == np.rint(wide)) & (np.abs(wide) < limit)).all())


def _as_integers(array: np.ndarray) -> np.ndarray:
    return array.astype(np.int64) if array.dtype.kind == "f" else array
