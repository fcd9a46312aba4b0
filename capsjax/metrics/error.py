"""Which examples are classified as their labels say."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from capsjax.losses.labels import class_lengths, class_numbers
from capsjax.metrics.base import Metric
from capsjax.metrics.several import found
from capsjax.types import Batch, NetworkOutput


@dataclasses.dataclass(frozen=True, kw_only=True)
class ErrorRate(Metric):
    """Describe `error`, the share of examples whose longest class capsule is not that of their label.

    Of images that show k classes it is the share whose k longest capsules are not those of all k labels.

    Args:
        kind: its name in a configuration.
    """

    kind: Literal["error_rate"] = "error_rate"

    @property
    def name(self) -> str:
        """The column: `error`."""
        return "error"

    def __call__(self, output: NetworkOutput, batch: Batch) -> Float[Array, "b"]:
        """Return 1 for an example that is classified wrongly, and 0 for the others, [b]."""
        wrong = jnp.logical_not(_all_right(output, batch))
        return wrong.astype(output.lengths.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accuracy(Metric):
    """Describe the share of examples whose longest class capsule is that of their label: 1 - `error`.

    Args:
        kind: its name in a configuration.
    """

    kind: Literal["accuracy"] = "accuracy"

    def __call__(self, output: NetworkOutput, batch: Batch) -> Float[Array, "b"]:
        """Return 1 for an example that is classified rightly, and 0 for the others, float32, [b]."""
        return _all_right(output, batch).astype(jnp.float32)


def _all_right(output: NetworkOutput, batch: Batch) -> Bool[Array, "b"]:
    """Return which examples are taken for exactly what their labels say."""
    if batch.labels.ndim == 1:
        return correct(output.lengths, batch.labels)
    return found(output.lengths, batch.labels).all(axis=-1)


def correct(
    lengths: Float[Array, "*batch j"], labels: Int[Array, "*batch"]
) -> Bool[Array, "*batch"]:
    """Return whether the longest class capsule is that of the label.

    Args:
        lengths: lengths of the class capsules, [*batch, j].
        labels: class numbers from 0, [*batch].

    Returns:
        Truth values, [*batch]; among equally long capsules the first counts as the longest.

    Raises:
        UserError: If the labels are not class numbers, one for each example.
    """
    lengths = class_lengths("correct", lengths)  # [*batch, j]
    # [*batch]; argmax takes the first of equals.
    return jnp.argmax(lengths, axis=-1) == class_numbers("correct", labels, lengths)


def accuracy(lengths: Float[Array, "*batch j"], labels: Int[Array, "*batch"]) -> Float[Array, ""]:
    """Return the share of examples whose longest class capsule is that of their label, 0 to 1.

    Args:
        lengths: lengths of the class capsules, [*batch, j].
        labels: class numbers from 0, [*batch].

    Returns:
        The share, float32, [].

    Raises:
        UserError: If the labels are not class numbers, one for each example.
    """
    return jnp.mean(correct(lengths, labels).astype(jnp.float32))
