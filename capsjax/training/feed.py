"""Batches cut on the device from a split that lives there."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from capsjax.data.augment import Augmentation
from capsjax.data.dataset import Split
from capsjax.data.overlap import Overlap, fixed_pairs, others_of
from capsjax.training.slicing import BatchSlicer, Epoch, slice_in_order
from capsjax.types import Batch

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
        self.images, self.labels = self._held(split)
        self.slicer, self.steps_per_epoch = slicer, len(split) // slicer.batch_size
        # Two keys, so that the order does not depend on how images are changed.
        self._order_key, self._augment_key = jax.random.split(jax.random.key(seed))
        self._others = None if slicer.overlap is None else others_of(split.labels)

    def _held(self, split: Split) -> tuple[Any, Any]:
        """Return the images and labels of a split where they are cut from: all of them, on the device."""
        return jnp.asarray(split.images), jnp.asarray(split.labels)

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

    def parts(
        self, start: int, stop: int, place: Callable[[Any], Any]
    ) -> Iterator[tuple[Epoch, int]]:
        """Give what the batches of some steps are cut from, epoch by epoch; images are placed once.

        Args:
            start: the first step.
            stop: the step after the last.
            place: puts arrays where steps take them from.

        Yields:
            Examples, and the step after the last that is cut from them.
        """
        examples = None
        while start < stop:
            number = start // self.steps_per_epoch
            if examples is None:
                examples = place(self.epoch(number))
            else:  # the images stay where they are
                examples = examples._replace(**place(self.epoch_order(number)))
            start = min((number + 1) * self.steps_per_epoch, stop)
            yield examples, start

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
        self.images, self.labels = self._held(split)
        self.scale, self.batch_size = scale, min(batch_size, len(split))
        self.pairs = None if overlap is None else fixed_pairs(split.labels, overlap)

    def _held(self, split: Split) -> tuple[Any, Any]:
        """Return the images and labels of a split where they are cut from: all of them, on the device."""
        return jnp.asarray(split.images), jnp.asarray(split.labels)

    def __len__(self) -> int:
        return -(-self.labels.shape[0] // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, self.labels.shape[0], self.batch_size):
            ways = self.scale, self.batch_size, *self._preparing
            yield slice_in_order(self.images, self.labels, self.pairs, start, *ways)
