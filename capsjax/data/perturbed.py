"""A set that is made from another: its images on a larger canvas, and changed."""

import dataclasses
import functools
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from capsjax.checks import FieldError, check_int
from capsjax.data.augment import Augmentation
from capsjax.data.augment.base import augment
from capsjax.data.dataset import Dataset, Split
from capsjax.data.derived import DerivedSource, in_words, put_on_canvas

BLOCK = 512  # images that are changed at once, on the device
STREAMS = {"train": 0, "validation": 1, "test": 2}  # of random numbers: a split has its own


@dataclasses.dataclass(frozen=True, kw_only=True)
class Perturbed(DerivedSource):
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

    of_arrays: ClassVar[tuple[str, ...]] = (*DerivedSource.of_arrays, "changes", "splits", "seed")

    changes: tuple[Augmentation, ...] = ()
    splits: tuple[Literal["train", "validation", "test"], ...] = ("train", "validation", "test")
    seed: int = 0
    kind: Literal["perturbed"] = "perturbed"

    def __post_init__(self):
        super().__post_init__()
        check_int(self, "seed", low=0, high=2**32 - 1)
        for change in self.changes:
            if change.prepares:
                expected = (
                    "changes that keep size and range; what prepares images belongs into augment"
                )
                raise FieldError(type(self).__name__, "changes", change.kind, expected)
        for name in self.splits:
            if name not in STREAMS:
                raise FieldError(
                    type(self).__name__, "splits", name, f"some of {', '.join(STREAMS)}"
                )

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """Check that images of this shape can be changed so."""
        for change in self.changes:
            change.check(shape)

    def _made(self, found: Dataset, shape: tuple[int, int, int]) -> Dataset:
        parts = {split: name for name, split in found.splits().items()}
        return found.map_splits(
            lambda split: self._changed(parts[split], split, shape, found.scale),
            name=", ".join([f"{self.kind} {found.name}", *map(in_words, self.changes)]),
        )

    def _changed(self, name: str, split: Split, shape: tuple[int, int, int], scale: float) -> Split:
        """Put the images of a split on the canvas, and change them if it is one of those that are changed."""
        whole = put_on_canvas(split, shape)
        if not self.changes or name not in self.splits:
            return whole
        key = jax.random.fold_in(jax.random.key(self.seed), STREAMS[name])
        return Split(_in_blocks(self.changes, key, whole.images, scale), split.labels)


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
