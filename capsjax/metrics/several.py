"""Labels of images that show several classes: which of them are among the longest capsules."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from capsjax.metrics.base import Metric
from capsjax.types import Batch, NetworkOutput

LABEL_ERROR = "label_error"  # its name in `metrics.jsonl`


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelError(Metric):
    """Describe the share of labels that are not among as many of the longest class capsules.

    Of an image that shows two classes, one that is found counts half: a half-credit measure, never above
    `error`, for which both have to be found. Of images that show one class it is `error`.

    Args:
        kind: its name in a configuration.
    """

    kind: Literal["label_error"] = "label_error"

    def __call__(self, output: NetworkOutput, batch: Batch) -> Float[Array, "b"]:
        """Return the share of each example's labels that are not found, 0 to 1, float32, [b]."""
        labels = batch.labels.reshape(batch.labels.shape[0], -1)  # [b, k]
        return 1 - found(output.lengths, labels).mean(axis=-1, dtype=jnp.float32)


def found(
    lengths: Float[Array, "*batch j"], labels: Int[Array, "*batch k"]
) -> Bool[Array, "*batch k"]:
    """Return which labels are among the k longest class capsules, k being how many labels there are.

    Args:
        lengths: lengths of the class capsules, [*batch, j].
        labels: numbers of k different classes for each example, [*batch, k].

    Returns:
        Truth values, [*batch, k]; all of an example are true where its labels are exactly what the network
        takes it for.
    """
    return longer(lengths, labels) < labels.shape[-1]


def longer(
    lengths: Float[Array, "*batch j"], labels: Int[Array, "*batch k"]
) -> Int[Array, "*batch k"]:
    """Count the capsules that are longer than that of each label; of equally long ones, those before it.

    Args:
        lengths: lengths of the class capsules, [*batch, j]; NaN is longer than all.
        labels: class numbers from 0, [*batch, k].

    Returns:
        The counts, 0 for the longest, [*batch, k].
    """
    lengths = jnp.where(
        jnp.isnan(lengths), jnp.inf, lengths
    )  # argmax takes NaN for the largest too
    own = jnp.take_along_axis(lengths, labels, axis=-1)[..., None]  # [*batch, k, 1]
    others = lengths[..., None, :]  # [*batch, 1, j]
    place = jax.lax.broadcasted_iota(jnp.int32, others.shape, others.ndim - 1)
    earlier = place < labels[..., None]  # [*batch, k, j]
    return ((others > own) | ((others == own) & earlier)).sum(axis=-1)
