"""Batches cut on the device from a split that lives there."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Num

from capsjax.data.dataset import Split
from capsjax.data.transforms import random_shift, to_float
from capsjax.training.state import Batch


class TrainFeed:
    """Cut training batches: a new order every epoch, a new shift for every example.

    Order and shifts are functions of the seed and the step alone, so a run that resumes sees what an
    uninterrupted one would, and runs of one seed see the same. The examples at the end of an epoch that
    do not fill a batch are left out of that epoch. Within an epoch nothing goes to the device: the
    number of the step is counted there.

    Args:
        split: the examples.
        scale: factor that brings raw pixels to 0 to 1.
        batch_size: examples in a batch.
        max_shift: pixels by which an image may move, in each direction.
        seed: what order and shifts follow from.
    """

    def __init__(self, split: Split, scale: float, *, batch_size: int, max_shift: int, seed: int):
        self.images, self.labels = jnp.asarray(split.images), jnp.asarray(split.labels)
        self.scale, self.batch_size, self.max_shift = scale, batch_size, max_shift
        self.steps_per_epoch = len(split) // batch_size
        self._order_key, self._shift_key = jax.random.split(jax.random.key(seed))
        self._epoch, self._order = -1, self.labels
        self._expected, self._counter = 0, jnp.zeros((), jnp.int32)

    def order(self, epoch: int) -> Int[Array, "n"]:
        """Return the order of the examples in an epoch, [n]."""
        key = jax.random.fold_in(self._order_key, epoch)
        return jax.random.permutation(key, self.labels.shape[0])

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0 over all epochs."""
        epoch = step // self.steps_per_epoch
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self.order(epoch)
        if step != self._expected:
            self._counter = jnp.asarray(step, jnp.int32)
        batch, self._counter = _cut(
            self.images,
            self.labels,
            self._order,
            self._counter,
            self._shift_key,
            scale=self.scale,
            size=self.batch_size,
            steps_per_epoch=self.steps_per_epoch,
            max_shift=self.max_shift,
        )
        self._expected = step + 1
        return batch


class EvalFeed:
    """Cut every example of a split, once and in order; the last batch is filled up with weight 0.

    Args:
        split: the examples.
        scale: factor that brings raw pixels to 0 to 1.
        batch_size: examples in a batch.
    """

    def __init__(self, split: Split, scale: float, *, batch_size: int):
        self.images, self.labels = jnp.asarray(split.images), jnp.asarray(split.labels)
        self.scale, self.batch_size = scale, min(batch_size, len(split))

    def __len__(self) -> int:
        return -(-self.labels.shape[0] // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, self.labels.shape[0], self.batch_size):
            yield _cut_in_order(
                self.images, self.labels, start, scale=self.scale, size=self.batch_size
            )


@partial(jax.jit, static_argnames=("scale", "size", "steps_per_epoch", "max_shift"))
def _cut(
    images: Num[Array, "n h w c"],
    labels: Int[Array, "n"],
    order: Int[Array, "n"],
    step: Int[Array, ""],
    key: Array,
    *,
    scale: float,
    size: int,
    steps_per_epoch: int,
    max_shift: int,
) -> tuple[Batch, Int[Array, ""]]:
    """Return a step's batch, and the number of the next step."""
    chosen = jax.lax.dynamic_slice_in_dim(order, step % steps_per_epoch * size, size)
    shifted = random_shift(jax.random.fold_in(key, step), images[chosen], max_shift)
    return Batch(to_float(shifted, scale), labels[chosen], jnp.ones(size)), step + 1


@partial(jax.jit, static_argnames=("scale", "size"))
def _cut_in_order(
    images: Num[Array, "n h w c"],
    labels: Int[Array, "n"],
    start: int | Int[Array, ""],
    *,
    scale: float,
    size: int,
) -> Batch:
    index = start + jnp.arange(size)
    inside = index < labels.shape[0]
    chosen = jnp.where(inside, index, 0)
    return Batch(to_float(images[chosen], scale), labels[chosen], inside.astype(jnp.float32))
