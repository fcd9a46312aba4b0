"""Labels that are not among the most active classes."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from capsjax.checks import UserError, check_int
from capsjax.losses.labels import class_lengths, class_numbers
from capsjax.metrics.base import Metric
from capsjax.types import Batch, NetworkOutput


@dataclasses.dataclass(frozen=True, kw_only=True)
class TopKError(Metric):
    """Describe the share of examples whose label is not among the k longest class capsules.

    Args:
        k: how many of the longest capsules count, from 1 to one less than there are classes.
        kind: its name in a configuration.

    Raises:
        FieldError: If k is not an integer of at least 1.
    """

    k: int = 5
    kind: Literal["top_k_error"] = "top_k_error"

    def __post_init__(self):
        check_int(self, "k", low=1)

    @property
    def name(self) -> str:
        """The column, such as `top_5_error`."""
        return f"top_{self.k}_error"

    def __call__(self, output: NetworkOutput, batch: Batch) -> Float[Array, "b"]:
        """Return `top_k_error` of each example, [b]."""
        return top_k_error(output.lengths, batch.labels, self.k)


def top_k_error(
    lengths: Float[Array, "*batch j"], labels: Int[Array, "*batch"], k: int
) -> Float[Array, "*batch"]:
    """Return 1 where the label is not among the k longest class capsules, and 0 elsewhere.

    Args:
        lengths: lengths of the class capsules, [*batch, j].
        labels: class numbers from 0, [*batch].
        k: how many of the longest capsules count, below j; among equally long ones the first comes first, as
            in `correct`.

    Returns:
        Zeros and ones, float32, [*batch].

    Raises:
        UserError: If the labels are not class numbers, one for each example, or k is not below j.
    """
    lengths = class_lengths("top_k_error", lengths)
    lengths = jnp.where(
        jnp.isnan(lengths), jnp.inf, lengths
    )  # argmax takes NaN for the largest too
    numbers = class_numbers("top_k_error", labels, lengths)
    if not 0 < k < lengths.shape[-1]:
        raise UserError(
            f"top_k_error: k: got {k} for {lengths.shape[-1]} class capsules, expected an integer from 1 to "
            f"{lengths.shape[-1] - 1}: among all of them every label is found",
            argument="k",
        )
    own = jnp.take_along_axis(lengths, numbers[..., None], axis=-1)  # [*batch, 1]
    place = jax.lax.broadcasted_iota(jnp.int32, lengths.shape, lengths.ndim - 1)  # [*batch, j]
    earlier = place < numbers[..., None]  # [*batch, j]
    before = (lengths > own) | ((lengths == own) & earlier)  # [*batch, j]
    return (before.sum(axis=-1) >= k).astype(jnp.float32)
