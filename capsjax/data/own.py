"""Data of one's own: what is not split already is split by a fraction and a seed."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Int

from capsjax.checks import LARGEST_FLOAT, FieldError, UserError, check_bool, check_float, check_int
from capsjax.data.classes import stratify
from capsjax.data.rescaling import Rescaling
from capsjax.data.source import DataShape, Source

WHITE = 65_535  # of integers of 16 bits
Places = Int[np.ndarray, "m"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnData(Source, abc.ABC):
    """Define data of one's own, of which parts validate and test.

    Args:
        validation_fraction: share of the examples that validate, from 0, for none, to below 1; unused if
            the data name their own validation split.
        test_fraction: share of the examples that test, between 0 and 1; unused if the data name
            their own test split.
        seed: seed of the permutation that splits, from 0.
        stratified: whether each part has its share of every class, and the training part one of each at
            least; False for parts of the permutation alone, as before there was a choice.
        range: the values that are black and white, which become 0 and 1; None for 0 to 255 of bytes, 0 to
            65,535 of integers of 16 bits, and 0 to 1 of floats. "any" for values that are standardised
            already, or unbounded otherwise, and stay as they are: a network for them has no decoder, or one
            whose `output` is linear.
        path: where the data are; None if it is not said yet.
        kind: its name in a configuration.

    Attributes:
        splits: how the data name their own splits, in words.

    Raises:
        FieldError: If a field is out of range.
    """

    places: ClassVar[tuple[str, ...]] = ("path",)
    of_arrays: ClassVar[tuple[str, ...]] = ("kind", "range")
    splits: ClassVar[str] = "name the splits"

    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    seed: int = 0
    stratified: bool = True
    range: tuple[float, float] | Literal["any"] | None = None
    path: str | None = None

    def __post_init__(self):
        owner = type(self).__name__
        for place in self.places:
            path = getattr(self, place)
            if path is not None and not (isinstance(path, str) and path):
                raise FieldError(owner, place, path, "a path as a string, or nothing")
        check_float(self, "validation_fraction", low=0.0, high=1.0, open_high=True)
        check_float(self, "test_fraction", low=0.0, high=1.0, open_low=True)
        total = self.validation_fraction + self.test_fraction
        if total >= 1:
            expected = f"less than 1 in sum with validation_fraction={self.validation_fraction}"
            raise FieldError(owner, "test_fraction", self.test_fraction, expected)
        check_int(self, "seed", low=0, high=2**32 - 1)
        check_bool(self, "stratified")
        if self.range not in (None, "any"):
            _check_ends(owner, self.range)

    def shape(self) -> DataShape:
        """Read the data; return the shape of an example as a network takes it, and the number of classes.

        Raises:
            UserError: If something is wrong with them, or it is not said where they are.
        """
        dataset = self.load()
        return DataShape(dataset.image_shape, dataset.num_classes)

    def rescaling(self, images: np.ndarray) -> Rescaling | None:
        """Return how raw pixels become what a network takes; None where they stay as they are."""
        if self.range == "any":
            return Rescaling.unbounded()
        if self.range is not None:
            return Rescaling.of_range(*self.range)
        return Rescaling.of_range(0, WHITE) if images.dtype == np.uint16 else None

    def divide(
        self,
        labels: Int[np.ndarray, "n"],
        fractions: Sequence[float],
        groups: Sequence[str] | None = None,
    ) -> list[Places | None]:
        """Split examples by a permutation that depends on `seed`, labels and groups alone.

        Args:
            labels: class numbers, [n].
            fractions: what share of the examples each further part has.
            groups: what each example belongs to, such as a patient, all of which is in one part; the
                fractions are then of groups. None where every example stands for itself.

        Returns:
            The places of the examples that are left to train, then those of each further part, or None
            for a fraction of 0.

        Raises:
            UserError: If too few are left to train.
        """
        if groups is None:
            return self._parts(labels, fractions, "examples")
        names, group_of = np.unique(np.asarray(groups), return_inverse=True)
        # A group counts as one example of the class that most of it shows.
        counted = np.zeros((len(names), int(labels.max(initial=0)) + 1), int)
        np.add.at(counted, (group_of, labels), 1)
        parts = self._parts(counted.argmax(-1), fractions, "groups")
        return [None if part is None else np.flatnonzero(np.isin(group_of, part)) for part in parts]

    def _parts(
        self, labels: Int[np.ndarray, "n"], fractions: Sequence[float], of: str
    ) -> list[Places | None]:
        n = len(labels)
        # At least one example of a part that is wanted: a fraction of few examples would round to none.
        counts = [max(1, round(n * fraction)) if fraction else 0 for fraction in fractions]
        self._check_room(labels, counts, of)
        # RandomState's stream is frozen: the same seed gives the same split with every version of NumPy.
        order = np.random.RandomState(self.seed).permutation(n)
        if self.stratified:
            parts = stratify(labels, order, counts)
        else:
            parts = np.split(order, np.cumsum([n - sum(counts), *counts])[:-1])
        return [part if part.size else None for part in parts]

    def _check_room(self, labels: Int[np.ndarray, "n"], counts: Sequence[int], of: str) -> None:
        """Check that something is left to train, and of each class where it is to have its share."""
        n, classes = len(labels), len(np.unique(labels))
        needed = classes if self.stratified else 1
        if n - sum(counts) >= needed:
            return
        remedy = f"give more {of}"
        if n - sum(count > 0 for count in counts) >= needed:
            remedy += ", smaller validation_fraction and test_fraction"
        raise UserError(
            f"data: got {n} {of} of {classes} classes, of which {sum(counts)} would validate and test, "
            f"expected at least {needed} to train; {remedy}, or {self.splits}"
        )


def _check_ends(owner: str, ends: object) -> None:
    """Check that a range is two finite numbers, the second above the first."""
    if isinstance(ends, tuple) and len(ends) == 2:
        numbers = all(isinstance(end, int | float) and type(end) is not bool for end in ends)
        if numbers and -LARGEST_FLOAT < ends[0] < ends[1] < LARGEST_FLOAT:
            return
    expected = (
        "two finite numbers, what is black and what is white, such as [0, 4095], or any, or nothing"
    )
    raise FieldError(owner, "range", ends, expected)
