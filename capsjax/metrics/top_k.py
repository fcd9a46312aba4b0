"""Labels that are not among the most active classes."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from capsjax.checks import UserError, check_int
from capsjax.losses.labels import class_lengths, class_numbers
from capsjax.metrics.base import Metric
from capsjax.metrics.several import longer
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
        """Return `top_k_error` of each example, [b]; of several labels, 1 where any is not among the k."""
        if batch.labels.ndim == 1:
            return top_k_error(output.lengths, batch.labels, self.k)
        _check_k(self.k, output.lengths.shape[-1])
        missed = longer(output.lengths, batch.labels) >= self.k  # [b, labels]
        return missed.any(axis=-1).astype(jnp.float32)


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
    numbers = class_numbers("top_k_error", labels, lengths)
    _check_k(k, lengths.shape[-1])
    return (longer(lengths, numbers[..., None])[..., 0] >= k).astype(jnp.float32)


def _check_k(k: int, classes: int) -> None:
    if not 0 < k < classes:
        raise UserError(
            f"top_k_error: k: got {k} for {classes} class capsules, expected an integer from 1 to "
            f"{classes - 1}: among all of them every label is found",
            argument="k",
        )
