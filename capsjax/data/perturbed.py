"""A set that is made from another: its images on a larger canvas, and changed."""

import contextlib
import dataclasses
import functools
import re
from collections.abc import Iterator
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from capsjax.checks import FieldError, UserError, check_int
from capsjax.data.augment import Augmentation
from capsjax.data.augment.base import augment
from capsjax.data.dataset import Dataset, Split
from capsjax.data.digits import Digits
from capsjax.data.download import Report
from capsjax.data.source import DataShape, Source

BLOCK = 512  # images that are changed at once, on the device
STREAMS = {"train": 0, "validation": 1, "test": 2}  # of random numbers: a split has its own


@dataclasses.dataclass(frozen=True, kw_only=True)
class Perturbed(Source):
    """Choose a set whose images are those of another, on a canvas with zeros around, and changed once.

    An augmentation changes the images that are learned from anew in every step, and leaves those that judge
    alone. Here images are changed once, those that judge too, and are the same at every reading: a set on
    which to ask what a network does with changes that it has not seen. On MNIST with `canvas=40` and a shift
    by 6 pixels it is translated MNIST, and with an affine change besides one like affNIST, though never
    affNIST itself, whose images were drawn otherwise.

    Args:
        source: the set that it is made from.
        canvas: height and width of the images, which the others are put in the middle of; None for theirs.
        changes: in this order, as augmentations are applied; nothing, and images are put on the canvas alone.
        splits: the splits that are changed; all are put on the canvas.
        seed: of the random numbers, which are others for each split.
        kind: its name in a configuration.

    Raises:
        FieldError: If a field is out of range.
    """

    source: Source = dataclasses.field(default_factory=Digits)
    canvas: int | None = None
    changes: tuple[Augmentation, ...] = ()
    splits: tuple[Literal["train", "validation", "test"], ...] = ("train", "validation", "test")
    seed: int = 0
    kind: Literal["perturbed"] = "perturbed"

    def __post_init__(self):
        if self.canvas is not None:
            check_int(self, "canvas", low=1)
        check_int(self, "seed", low=0, high=2**32 - 1)
        for name in self.splits:
            if name not in STREAMS:
                raise FieldError(
                    type(self).__name__, "splits", name, f"some of {', '.join(STREAMS)}"
                )

    def shape(self) -> DataShape:
        """Return the shape of the images and the number of classes, as the other set has them."""
        with self._told_from_here():
            found = self.source.shape()
        return found._replace(image_shape=self._on_canvas(found.image_shape))

    def load(self, report: Report | None = None) -> Dataset:
        """Read the other set, and change it.

        Args:
            report: receives the progress of downloads, as the other set's.

        Returns:
            The dataset, images of the other's type, [n, canvas, canvas, c].

        Raises:
            UserError: If the other set cannot be read, its pixels are not from 0 to 1, the canvas is smaller
                than its images, or a change leaves nothing of them.
        """
        with self._told_from_here():
            found = self.source.load(report)
        if not found.bounded:
            raise UserError(
                f"{found.name}: got standardised images, expected pixels from 0 to 1, as changes know them; "
                "give the range that they have: data.source.range",
                argument="data.source.range",
            )
        shape = self._on_canvas(found.image_shape)
        for change in self.changes:
            change.check(shape)
        parts = {split: name for name, split in found.splits().items()}
        return found.map_splits(
            lambda split: self._changed(parts[split], split, shape, found.scale),
            name=f"{self.kind} {found.name}",
        )

    def shaped(self, image_shape: tuple[int, int, int]) -> Source:
        """Return the same with images of this shape; on a canvas they have the shape of the canvas."""
        if self.canvas is not None:
            return self
        return dataclasses.replace(self, source=self.source.shaped(image_shape))

    @contextlib.contextmanager
    def _told_from_here(self) -> Iterator[None]:
        """Name the other set's fields as they are called here: data.source.range for data.range."""
        names = "|".join(field.name for field in dataclasses.fields(self.source))

        def here(text: str) -> str:
            return re.sub(rf"\bdata\.(?=(?:{names})\b)", "data.source.", text)

        try:
            yield
        except UserError as error:
            argument = None if error.argument is None else here(error.argument)
            said = here(error.on_command_line)
            raise UserError(here(str(error)), on_command_line=said, argument=argument) from None

    def _on_canvas(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        h, w, c = image_shape
        if self.canvas is None:
            return image_shape
        if self.canvas < max(h, w):
            expected = f"{max(h, w)} or more, as images have {h} x {w} pixels"
            raise FieldError(type(self).__name__, "canvas", self.canvas, expected)
        return self.canvas, self.canvas, c

    def _changed(self, name: str, split: Split, shape: tuple[int, int, int], scale: float) -> Split:
        """Put the images of a split on the canvas, and change them if it is one of those that are changed."""
        zeros = [(n - m) for n, m in zip(shape[:2], split.images.shape[1:3], strict=True)]
        around = [(0, 0), *((n // 2, n - n // 2) for n in zeros), (0, 0)]
        images = np.pad(split.images, around)
        if not self.changes or name not in self.splits:
            return Split(images, split.labels)
        key = jax.random.fold_in(jax.random.key(self.seed), STREAMS[name])
        return Split(_in_blocks(self.changes, key, images, scale), split.labels)


@functools.partial(jax.jit, static_argnames=("changes", "scale"))  # compiled once for all splits
def _change(
    changes: tuple[Augmentation, ...],
    key: jax.Array,
    number: jax.Array,
    block: jax.Array,
    scale: float,
) -> jax.Array:
    return augment(changes, jax.random.fold_in(key, number), block, scale)


def _in_blocks(
    changes: tuple[Augmentation, ...], key: jax.Array, images: np.ndarray, scale: float
) -> np.ndarray:
    """Change images block by block, and bring pixels from 0 to 1 back to the type and unit that they had."""
    made, dtype = np.empty_like(images), images.dtype
    for number, start in enumerate(range(0, len(images), BLOCK)):
        block = images[start : start + BLOCK]
        # The last block is filled up: what becomes of an image depends on its place, not on their number.
        full = np.zeros((BLOCK, *block.shape[1:]), dtype)
        full[: len(block)] = block
        changed = np.asarray(_change(changes, key, jnp.uint32(number), full, scale))
        found = changed[: len(block)].astype(np.float64) / scale
        made[start : start + BLOCK] = np.rint(found) if dtype == np.uint8 else found
    return made
