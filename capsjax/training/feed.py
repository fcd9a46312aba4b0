"""Batches cut on the device from a split that lives there."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from capsjax.data.augment import Augmentation, Shift, augment
from capsjax.data.augment.base import augmented, judged
from capsjax.data.dataset import Split
from capsjax.data.overlap import (
    TOGETHER,
    Others,
    Overlap,
    Pairs,
    draw_pairs,
    fixed_pairs,
    lay_over,
    others_of,
)
from capsjax.data.transforms import shift, to_float
from capsjax.types import Batch


class Epoch(NamedTuple):
    """Hold what the batches of an epoch are cut from, on the device.

    Attributes:
        images: raw pixels of every example, [n, h, w, c].
        labels: class numbers, [n].
        order: the examples in the order in which they come, [n].
        first: the number of the epoch's first step, counted over all epochs, [].
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


def epoch_shapes(split: Split, overlap: Overlap | None = None) -> Epoch:
    """Describe an epoch as `TrainFeed` makes it, without bringing its examples to a device.

    Args:
        split: the examples.
        overlap: how two of them make one, or None.
    """

    def make(images: Array, labels: Array) -> Epoch:
        order, first = jnp.arange(len(split)), jnp.zeros((), jnp.int32)
        others = None if overlap is None else Others(*(jnp.zeros(len(split), jnp.int32),) * 3)
        return Epoch(images, labels, order, first, jax.random.key(0), others)

    return jax.eval_shape(make, _shape(split.images), _shape(split.labels))


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
        return _slice_in_order(images, labels, pairs, 0, *ways)

    return jax.eval_shape(make, _shape(split.images), _shape(split.labels))


def _shape(array: np.ndarray) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, jax.dtypes.canonicalize_dtype(array.dtype))


_slice_batch = jax.jit(lambda slicer, epoch, step: slicer(epoch, step), static_argnums=0)


class TrainFeed:
    """Hold training examples: a new order every epoch, new changes of every example.

    Order and augmentations are functions of the seed and the step alone, so a run that resumes sees what an
    uninterrupted one would, and runs of one seed see the same. The examples at the end of an epoch that
    do not fill a batch are left out of that epoch.

    Args:
        split: the examples.
        slicer: how a batch is cut.
        seed: random seed of order and augmentations.
    """

    def __init__(self, split: Split, slicer: BatchSlicer, seed: int):
        self.images, self.labels = jnp.asarray(split.images), jnp.asarray(split.labels)
        self.slicer, self.steps_per_epoch = slicer, len(split) // slicer.batch_size
        # Two keys, so that the order does not depend on how images are changed.
        self._order_key, self._augment_key = jax.random.split(jax.random.key(seed))
        self._others = None if slicer.overlap is None else others_of(split.labels)

    def epoch(self, number: int) -> Epoch:
        """Return the epoch of a number, counted from 0."""
        return Epoch(
            self.images,
            self.labels,
            augment_key=self._augment_key,
            others=self._others,
            **self.epoch_order(number),
        )

    def epoch_order(self, number: int) -> dict[str, Array]:
        """Return what changes from epoch to epoch: the permutation `order`, and `first`, its first step."""
        order = jax.random.permutation(
            jax.random.fold_in(self._order_key, number), self.labels.shape[0]
        )
        return {"order": order, "first": jnp.asarray(number * self.steps_per_epoch, jnp.int32)}

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0 over all epochs."""
        return _slice_batch(self.slicer, self.epoch(step // self.steps_per_epoch), step)


class EvalFeed:
    """Cut every example of a split, once and in order; the last batch is filled up with weight 0.

    Args:
        split: the examples.
        scale: factor that brings raw pixels to 0 to 1.
        batch_size: examples in a batch.
        overlap: how each example lies over another, the same at every evaluation; None where each image is
            an example.
        augmentations: those of training, which prepare these images too as far as nothing is random.
        offset: pixels down and to the right of the middle, where parts are cut out.

    Attributes:
        pairs: which those are, or None.
    """

    def __init__(
        self,
        split: Split,
        scale: float,
        *,
        batch_size: int,
        overlap: Overlap | None = None,
        augmentations: tuple[Augmentation, ...] = (),
        offset: tuple[int, int] = (0, 0),
    ):
        # What prepares alone, so that runs that differ in what is random share what is compiled.
        self._preparing = tuple(each for each in augmentations if each.prepares), offset
        self.images, self.labels = jnp.asarray(split.images), jnp.asarray(split.labels)
        self.scale, self.batch_size = scale, min(batch_size, len(split))
        self.pairs = None if overlap is None else fixed_pairs(split.labels, overlap)

    def __len__(self) -> int:
        return -(-self.labels.shape[0] // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, self.labels.shape[0], self.batch_size):
            ways = self.scale, self.batch_size, *self._preparing
            yield _slice_in_order(self.images, self.labels, self.pairs, start, *ways)


@partial(jax.jit, static_argnames=("scale", "size", "preparing", "offset"))
def _slice_in_order(
    images: Num[Array, "n h w c"],
    labels: Int[Array, "n"],
    pairs: Pairs | None,
    start: int | Int[Array, ""],
    scale: float,
    size: int,
    preparing: tuple[Augmentation, ...],
    offset: tuple[int, int],
) -> Batch:
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
