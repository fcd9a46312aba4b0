"""The cross entropy of the labels and the class capsules' activations."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from capsjax.checks import check_float
from capsjax.losses.base import Loss
from capsjax.losses.labels import class_lengths, labels_of, presence
from capsjax.numerics import compute_dtype
from capsjax.types import Batch, NetworkOutput


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossEntropyLoss(Loss):
    """Describe the cross entropy of a softmax over the activations of the class capsules.

    Args:
        reconstruction_weight: what the sum of squared pixel differences is multiplied by.
        class_weights: what each class counts in training, as `Loss` has it.
        scale: what the activations are multiplied by before the softmax. They are from 0 to 1, so with 1 the
            right one of ten classes has at most the probability 0.23.
        kind: its name in a configuration.

    Raises:
        FieldError: If a number is out of range.
    """

    scale: float = 1.0
    kind: Literal["cross_entropy"] = "cross_entropy"

    def __post_init__(self):
        super().__post_init__()
        check_float(self, "scale", low=0.0, open_low=True)

    def of_classes(self, output: NetworkOutput, batch: Batch) -> Float[Array, "b"]:
        """Measure the class capsules' activations by `cross_entropy_loss`.

        Args:
            output: what the network knows of the batch.
            batch: images, labels and, in training, its progress.

        Returns:
            The loss of each example, [b].
        """
        labels = labels_of(batch, output.lengths)
        return cross_entropy_loss(output.lengths, labels, scale=self.scale)


def cross_entropy_loss(
    activation: Float[Array, "*batch j"],
    labels: Num[Array, "..."],
    *,
    scale: float = CrossEntropyLoss.scale,
) -> Float[Array, "*batch"]:
    """Return the cross entropy of the labels and the softmax of the activations, in nats.

    L = -sum_t T_t log softmax(scale a)_t

    Args:
        activation: activations of the class capsules, 0 to 1, [*batch, j].
        labels: class numbers, integers [*batch], or T itself, [*batch, j], as `margin_loss` takes them.
        scale: what the activations are multiplied by.

    Returns:
        The loss of each example, of the activations' type, [*batch]; computed in float32 at least.

    Raises:
        UserError: If the shape, type or numbers of the labels do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> round(cross_entropy_loss(jnp.array([[1.0, 0.0]]), jnp.array([0])).item(), 4)
        0.3133
    """
    activation = class_lengths("cross_entropy_loss", activation, argument="activation")
    wide = activation.astype(compute_dtype(activation.dtype))
    present = presence("cross_entropy_loss", labels, wide)  # T, [*batch, j]
    logs = jax.nn.log_softmax(scale * wide, axis=-1)  # [*batch, j]
    # What is not present counts nothing, even where a huge activation makes its logarithm infinite.
    loss = -jnp.sum(present * jnp.where(present == 0, 0, logs), axis=-1)
    return loss.astype(activation.dtype)
