"""Class numbers: what labels may be, which classes have examples, and splits with a share of each."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int, Shaped

from capsjax.checks import UserError

INT32 = np.iinfo(np.int32)
SHOWN = 5  # numbers that a message lists
RENUMBER = "np.unique(labels, return_inverse=True)[1]"
# Splits that are numbered each by itself would give one class several numbers.
BEFORE_SPLITTING = "before the data are split"
ALL_LABELS = "np.concatenate([y for _, y in data.values()])"
RENUMBER_SPLITS = f"for every split np.searchsorted(np.unique({ALL_LABELS}), labels)"


def to_class_numbers(
    labels: np.ndarray, count: int, *, renumber: str = BEFORE_SPLITTING
) -> Int[np.ndarray, "n"]:
    """Check that there is one whole number for each image.

    Args:
        labels: class numbers, any integer type [n].
        count: n, the number of images.
        renumber: how the data's classes are numbered from 0, for the advice.

    Returns:
        The same, int32 [n].

    Raises:
        UserError: If shape or type do not fit, or a number is beyond int32.
    """
    if labels.ndim != 1:
        raise UserError(
            f"labels: got shape {list(labels.shape)}, expected [n], one class number for each image"
            + _shape_remedy(labels)
        )
    if labels.shape[0] != count:
        raise UserError(
            f"labels: got {labels.shape[0]} labels for {count} images, expected one label for each image"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"labels: got type {labels.dtype}, expected integers" + _type_remedy(labels, renumber)
        )
    if labels.size and (labels.min() < INT32.min or labels.max() > INT32.max):
        raise UserError(
            f"labels: they run from {labels.min()} to {labels.max()}, expected class numbers "
            f"from 0; number the classes from 0: {renumber}"
        )
    return labels.astype(np.int32)


def _shape_remedy(labels: np.ndarray) -> str:
    if labels.ndim != 2 or not labels.size:
        return ""
    if labels.shape[1] == 1:
        return "; from a column take labels[:, 0]"
    if labels.dtype.kind in "biuf" and ((labels == 0) | (labels == 1)).all():
        if (labels.sum(axis=1) == 1).all():
            return "; from one-hot labels take labels.argmax(-1)"
        return "; some images are of several classes or of none, which are not learned from"
    return ""


def _type_remedy(labels: np.ndarray, renumber: str) -> str:
    """Return how to number labels of another type, losing nothing; nothing where that cannot be told."""
    if labels.dtype.kind == "b":
        return "; use labels.astype(np.int32)"
    if labels.dtype.kind == "O":
        try:
            values = np.asarray(labels.tolist())
        except ValueError:
            return ""
        return (
            _type_remedy(values, renumber)
            if values.dtype.kind in "fUS"
            else ("; use labels.astype(np.int32)" if values.dtype.kind in "biu" else "")
        )
    if labels.dtype.kind == "f" or "float" in labels.dtype.name:
        wrong = np.flatnonzero(~np.isfinite(labels))
        if wrong.size:
            return f"; label {wrong[0]} is {labels[wrong[0]]}: leave such examples out"
        wide = labels.astype(np.float64)
        if (wide == np.rint(wide)).all() and np.abs(wide).max(initial=0) <= INT32.max:
            return "; use labels.astype(np.int32)"
    elif labels.dtype.kind not in "US":
        return ""
    return f"; number the classes from 0: {renumber}"


def check_labels(
    name: str,
    labels: Int[np.ndarray, "n"],
    num_classes: int,
    *,
    renumber: str = BEFORE_SPLITTING,
) -> None:
    """Check that every label is a class number, 0 to num_classes - 1.

    Args:
        name: what the labels belong to, for the message.
        labels: class numbers, integers [n].
        num_classes: how many classes there are.
        renumber: how the data's classes are numbered from 0, for the advice.

    Raises:
        UserError: If one is not; the first such label is named with its index.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if wrong.size:
        first = wrong[0]
        if renumber == RENUMBER and labels.min() == 1 and labels.max() == num_classes:
            renumber = "labels - 1"
        negative = labels.min() < 0
        other = "" if negative else f"; or there are num_classes={int(labels.max()) + 1}"
        raise UserError(
            f"{name}: label {first} is {labels[first]}, expected an integer from 0 to "
            f"{num_classes - 1} ({wrong.size} of {labels.size} labels are out of range); "
            f"number the classes from 0: {renumber}{other}"
        )


def in_order(names: Iterable[str]) -> list[str]:
    """Sort different names of classes: by size where all are whole numbers, else by the alphabet."""
    found = {*names}
    if all(name.isascii() and name.isdigit() for name in found):
        return sorted(found, key=lambda name: (int(name), name))
    return sorted(found)


def number_names(words: Sequence[str]) -> tuple[Int[np.ndarray, "n"], tuple[str, ...]]:
    """Number the classes of examples in the order of their names.

    Args:
        words: what the class of each example is called, n of them.

    Returns:
        Class numbers, int32 [n], and the name of each class.

    Raises:
        UserError: If there are fewer than two classes.
    """
    names = in_order(words)
    if len(names) < 2:
        got = f"one class, {names[0]!r}" if names else "no example"
        raise UserError(f"got {got}, expected at least two, as there is nothing to tell apart")
    number = {name: place for place, name in enumerate(names)}
    return np.array([number[word] for word in words], np.int32), tuple(names)


def empty_classes(
    labels: Int[np.ndarray, "n"], num_classes: int
) -> tuple[Int[np.ndarray, "k"], int]:
    """Return the first few classes that no label names, ascending, and how many there are in all.

    Args:
        labels: class numbers from 0 to num_classes - 1, [n].
        num_classes: the number of classes, which may be far larger than that of labels.

    Returns:
        The first few, ascending, [k], and how many there are.
    """
    found = np.unique(labels)
    # Of the first m + SHOWN numbers at least SHOWN are not among m that were found.
    first = np.arange(min(num_classes, len(found) + SHOWN))
    return np.setdiff1d(first, found)[:SHOWN], num_classes - len(found)


def few(what: Sequence[str]) -> str:
    """List the first few of many, and how many more there are."""
    more = f", and {len(what) - SHOWN:,} more" if len(what) > SHOWN else ""
    return ", ".join(what[:SHOWN]) + more


def listed(numbers: Shaped[np.ndarray, "k"], count: int) -> str:
    """List the first few of many numbers or names.

    Args:
        numbers: some of them, [k].
        count: how many there are in all.

    Returns:
        Such as "0, 1, 2, 3, 4 and 92 more".
    """
    shown = numbers[:SHOWN]
    more = f" and {count - len(shown):,} more" if count > len(shown) else ""
    return ", ".join(map(str, shown.tolist())) + more


def stratify(
    labels: Int[np.ndarray, "n"], order: Int[np.ndarray, "n"], counts: Sequence[int]
) -> list[Int[np.ndarray, "m"]]:
    """Split examples so that every part has its share of every class, as near as whole examples allow.

    Example number r of the n_c of a class, counted in the given order, stands at (r + 1/2) / n_c: the
    parts are cut where that place is. The first of each class is put before all others.

    Args:
        labels: class numbers, from 0 [n].
        order: a permutation of the examples, which decides who is where.
        counts: how many examples the parts after the first have.

    Returns:
        The examples of each part, in that order: what is left, which has one of each class if it has
        room for them, then a part for each count.

    Example:
        >>> labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
        >>> [part.tolist() for part in stratify(labels, np.arange(8), [2])]
        [[0, 1, 2, 4, 5, 6], [3, 7]]
    """
    n = len(order)
    _, given, sizes = np.unique(labels[order], return_inverse=True, return_counts=True)
    by_class = np.argsort(given, kind="stable")  # [n], class after class, each in the order given
    rank = np.empty(n, int)
    # An example's number within its own class: its place in `by_class` less where the class begins there.
    rank[by_class] = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    place = np.where(rank == 0, 0.0, (rank + 0.5) / sizes[given])
    sorted_places = np.argsort(place, kind="stable")
    # Cut along the places, every class is cut at the same share of its examples.
    parts = np.split(sorted_places, np.cumsum([n - sum(counts), *counts])[:-1])
    return [order[np.sort(part)] for part in parts]
