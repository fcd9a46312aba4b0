"""Batches cut from examples: pure functions, for inside compiled steps, and the shapes of what they take."""

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from capsjax.data.augment import Augmentation, Shift, augment
from capsjax.data.augment.base import augmented, judged
from capsjax.data.dataset import Split
from capsjax.data.overlap import TOGETHER, Others, Overlap, Pairs, draw_pairs, lay_over
from capsjax.data.transforms import shift, to_float
from capsjax.types import Batch


class Epoch(NamedTuple):
    """Hold what the batches of an epoch, or of a part of one, are cut from, on the device.

    Attributes:
        images: raw pixels of every example, [n, h, w, c].
        labels: class numbers, [n].
        order: the examples in the order in which they come, [n].
        first: the number of the first step that they are for, counted over all epochs, [].
        augment_key: what augmentations follow from, with the number of the step.
        others: where examples of other classes are; None where each image is an example.
    """

    images: Num[Array, "n h w c"]
    labels: Int[Array, "n"]
    order: Int[Array, "n"]
    first: Int[Array, ""]
    augment_key: Array
    others: Others | None = None


@dataclasses.dataclass(frozen=True)
class BatchSlicer:
    """Cut a step's batch from an epoch: a pure function, for inside compiled steps.

    Args:
        batch_size: examples in a batch.
        augmentations: how the images are changed, in this order.
        scale: factor that brings raw pixels to 0 to 1.
        total_steps: optimiser steps of the whole run.
        overlap: how each example of the epoch lies over one of another class that is drawn for it; both are
            augmented before, each by itself. None where each image is an example.
    """

    batch_size: int
    augmentations: tuple[Augmentation, ...]
    scale: float
    total_steps: int = 1
    overlap: Overlap | None = None

    def __call__(self, epoch: Epoch, step: int | Int[Array, ""]) -> Batch:
        """Return the batch of a step of that epoch; steps are counted over all epochs."""
        with jax.named_scope("batch"):
            return self._batch(epoch, step)

    def _batch(self, epoch: Epoch, step: int | Int[Array, ""]) -> Batch:
        start = (step - epoch.first) * self.batch_size
        chosen = jax.lax.dynamic_slice_in_dim(epoch.order, start, self.batch_size)  # [b]
        key = jax.random.fold_in(epoch.augment_key, step)
        weights = jnp.ones(self.batch_size, jnp.float32)
        progress = jnp.full(self.batch_size, step / self.total_steps, jnp.float32)
        if self.overlap is None:
            raw = epoch.images[chosen]
            made = augmented(self.augmentations, key, raw, self.scale)
            return Batch(made.images, epoch.labels[chosen], weights, progress, made.targets)
        assert epoch.others is not None
        drawing, changing = jax.random.split(key)
        places = draw_pairs(drawing, chosen, epoch.labels, epoch.others)  # [b, 2]
        moves = (Shift(pixels=self.overlap.shift),) if self.overlap.shift else ()
        raw = epoch.images[places.reshape(-1)]  # [2 b, h, w, c], pair after pair
        parts = augment((*self.augmentations, *moves), changing, raw, self.scale)
        return _overlaid(parts, epoch.labels[places], weights, progress)


def _overlaid(
    parts: Float[Array, "n h w c"],
    labels: Int[Array, "b k"],
    weights: Float[Array, "b"],
    progress: Float[Array, "b"] | None = None,
) -> Batch:
    """Make a batch of images that lie over each other, k after k."""
    targets = parts.reshape(*labels.shape, *parts.shape[1:])  # [b, k, h, w, c]
    return Batch(lay_over(targets), labels, weights, progress, targets)


@partial(jax.jit, static_argnames=("scale", "size", "preparing", "offset"))
def slice_in_order(
    images: Num[Array, "n h w c"],
    labels: Int[Array, "n"],
    pairs: Pairs | None,
    start: int | Int[Array, ""],
    scale: float,
    size: int,
    preparing: tuple[Augmentation, ...],
    offset: tuple[int, int],
) -> Batch:
    """Cut a batch from examples in their order.

    Args:
        images: raw pixels.
        labels: class numbers.
        pairs: which of them lie over each other, or None.
        start: the first of the batch.
        scale: factor that brings raw pixels to 0 to 1.
        size: how many are in it; beyond the last it is filled up with weight 0.
        preparing: augmentations as far as nothing is random.
        offset: pixels down and to the right of the middle, where parts are cut out.

    Returns:
        The batch.
    """
    index = start + jnp.arange(size)
    inside = index < labels.shape[0]
    chosen = jnp.where(inside, index, 0)  # padding repeats the first example, with weight 0
    weights = inside.astype(jnp.float32)
    if pairs is None:
        made = judged(preparing, to_float(images[chosen], scale), offset)
        return Batch(made.images, labels[chosen], weights, targets=made.targets)
    places, offsets = pairs.places[chosen], pairs.offsets[chosen]  # [b, 2], [b, 2, 2]
    moved = shift(images[places.reshape(-1)], offsets.reshape(-1, 2))
    return _overlaid(to_float(moved, scale), labels[places], weights)


def epoch_shapes(split: Split, overlap: Overlap | None = None, count: int | None = None) -> Epoch:
    """Describe an epoch as `TrainFeed` makes it, without bringing its examples to a device.

    Args:
        split: the examples.
        overlap: how two of them make one, or None.
        count: how many are there at once; None for all.
    """
    count = len(split) if count is None else count

    def make(images: Array, labels: Array) -> Epoch:
        order, first = jnp.arange(count), jnp.zeros((), jnp.int32)
        others = None if overlap is None else Others(*(jnp.zeros(count, jnp.int32),) * 3)
        return Epoch(images, labels, order, first, jax.random.key(0), others)

    return jax.eval_shape(make, _shape(split.images, count), _shape(split.labels, count))


def batch_shapes(
    split: Split,
    count: int,
    overlap: Overlap | None = None,
    augmentations: tuple[Augmentation, ...] = (),
) -> Batch:
    """Describe a batch as `EvalFeed` makes it.

    Args:
        split: the examples.
        count: how many are in a batch.
        overlap: how two of them make one, or None.
        augmentations: those of training, which prepare images.
    """

    def make(images: Array, labels: Array) -> Batch:
        pairs = None
        if overlap is not None:
            places = jnp.zeros((len(split), TOGETHER), jnp.int32)
            pairs = Pairs(places, jnp.zeros((*places.shape, 2), jnp.int32))
        ways = 1.0, count, augmentations, (0, 0)
        return slice_in_order(images, labels, pairs, 0, *ways)

    whole = len(split)
    return jax.eval_shape(make, _shape(split.images, whole), _shape(split.labels, whole))


def _shape(array: np.ndarray, count: int) -> jax.ShapeDtypeStruct:
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    return jax.ShapeDtypeStruct((count, *array.shape[1:]), dtype)
