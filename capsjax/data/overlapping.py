"""A set whose images show two classes: those of another, two at a time, laid over each other."""

import dataclasses
from typing import Literal

import numpy as np

from capsjax.checks import FieldError, UserError, check_int
from capsjax.data.dataset import Dataset
from capsjax.data.derived import DerivedSource, put_on_canvas
from capsjax.data.overlap import TOGETHER, Overlap


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overlapping(DerivedSource):
    """Choose a set of pairs: two images of another set, of different classes, laid over each other.

    Each is put on a canvas with zeros around and moved by up to `shift` pixels; then they are added, and what
    is brighter than white is white. In training, each image of the other set comes once in an epoch, beside
    one that is drawn anew in every step. In validation and test each comes once too, beside one that is drawn
    by `seed` and stays. Of MNIST with `canvas=36` it is MultiMNIST: with `shift=4` as the paper describes it,
    with `shift=6` as its released code makes it.

    Both classes are the example's labels. What is right is that the two longest class capsules are those of
    the two labels; a decoder draws both images, one by one.

    Args:
        source: the set that it is made from; black is the background.
        canvas: height and width of the images, which the others are put in the middle of; None for theirs.
        shift: pixels by which each image is moved in each direction at most.
        seed: of the pairs that validate and test.
        kind: its name in a configuration.

    Raises:
        FieldError: If a field is out of range.

    Reference:
        Sabour, Frosst and Hinton 2017, section 6.
    """

    shift: int = 4
    seed: int = 0
    kind: Literal["overlapping"] = "overlapping"

    def __post_init__(self):
        super().__post_init__()
        check_int(self, "shift", low=0)
        check_int(self, "seed", low=0, high=2**32 - 1)

    @property
    def overlap(self) -> Overlap:
        """How two images make one."""
        return Overlap(shift=self.shift, seed=self.seed)

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """Check that images of this shape can be moved as far."""
        side = min(shape[:2])
        if self.shift >= side:
            expected = f"at most {side - 1} for images of {shape[0]} x {shape[1]} pixels"
            raise FieldError(type(self).__name__, "shift", self.shift, expected)

    def _made(self, found: Dataset, shape: tuple[int, int, int]) -> Dataset:
        if found.num_classes <= TOGETHER:
            raise UserError(
                f"{found.name}: got {found.num_classes} classes, expected at least {TOGETHER + 1}: of two, "
                "every pair shows both"
            )
        for name, split in found.splits().items():
            if len(np.unique(split.labels)) < TOGETHER:
                raise UserError(
                    f"{found.name}: {name} has examples of one class, expected at least two, as a pair is of "
                    "two"
                )
        return found.map_splits(
            lambda split: put_on_canvas(split, shape),
            name=f"{self.kind} {found.name}, shift {self.shift}",
            overlap=self.overlap,
        )
