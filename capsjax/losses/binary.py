"""The cross entropy of each class by itself: present or not."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from capsjax.losses.base import Loss
from capsjax.losses.labels import class_lengths, labels_of, presence
from capsjax.numerics import compute_dtype
from capsjax.types import Batch, NetworkOutput


@dataclasses.dataclass(frozen=True, kw_only=True)
class BinaryLoss(Loss):
    """Describe the cross entropy of each class by itself, of activations that are probabilities.

    For images of several classes, and a head that ends in a sigmoid.

    Args:
        reconstruction_weight: what the sum of squared pixel differences is multiplied by.
        class_weights: what each class counts in training, as `Loss` has it.
        kind: its name in a configuration.

    Reference:
        Sabour, Frosst and Hinton 2017, section 6, the baseline on MultiMNIST.
    """

    separate = True
    probabilities = True

    kind: Literal["binary_cross_entropy"] = "binary_cross_entropy"

    def of_classes(self, output: NetworkOutput, batch: Batch) -> Float[Array, "b"]:
        """Measure the class capsules' activations by `binary_cross_entropy_loss`.

        Args:
            output: what the network knows of the batch.
            batch: images, labels and, in training, its progress.

        Returns:
            The loss of each example, [b].
        """
        return binary_cross_entropy_loss(output.lengths, labels_of(batch, output.lengths))


def binary_cross_entropy_loss(
    activation: Float[Array, "*batch j"], labels: Num[Array, "..."]
) -> Float[Array, "*batch"]:
    """Return the sum over classes of the cross entropy of whether each is present, in nats.

    L = -sum_k T_k log a_k + (1 - T_k) log(1 - a_k)

    Args:
        activation: activations of the class capsules, 0 to 1, [*batch, j].
        labels: class numbers, integers [*batch], or T itself, [*batch, j], as `margin_loss` takes them.

    Returns:
        The loss of each example, of the activations' type, [*batch]; in float32 at least, and finite, as an
        activation below the square root of the smallest normal number counts as that, and one within rounding
        of 1 as that far from it.

    Raises:
        UserError: If the shape, type or numbers of the labels do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> round(binary_cross_entropy_loss(jnp.array([[0.8, 0.5]]), jnp.array([0])).item(), 4)
        0.9163
    """
    activation = class_lengths("binary_cross_entropy_loss", activation, argument="activation")
    wide = activation.astype(compute_dtype(activation.dtype))
    present = presence("binary_cross_entropy_loss", labels, wide)  # T, [*batch, j]
    # Floats are dense about 0 and not about 1: a sigmoid tells -20 from -30 there, and keeps its gradient.
    # The inverse of the least one, which the gradient multiplies by, does not overflow.
    there = jnp.log(jnp.maximum(wide, jnp.finfo(wide.dtype).tiny ** 0.5))
    absent = jnp.log1p(-jnp.minimum(wide, 1 - jnp.finfo(wide.dtype).eps))
    loss = -jnp.sum(present * there + (1 - present) * absent, axis=-1)
    return loss.astype(activation.dtype)
