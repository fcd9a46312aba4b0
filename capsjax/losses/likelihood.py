"""The negative log-likelihood of the labels, of activations that are shares of a whole."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from capsjax.losses.base import Loss
from capsjax.losses.labels import class_lengths, labels_of, presence
from capsjax.numerics import compute_dtype
from capsjax.types import Batch, NetworkOutput


@dataclasses.dataclass(frozen=True, kw_only=True)
class LikelihoodLoss(Loss):
    """Describe the negative log-likelihood of the labels, by the activations' shares of their sum.

    For activations that are a distribution: self-routing's, or those of a head that ends in a softmax, of
    which it is the cross entropy.

    Args:
        reconstruction_weight: what the sum of squared pixel differences is multiplied by.
        class_weights: what each class counts in training, as `Loss` has it.
        kind: its name in a configuration.

    Reference:
        Hahn, Pyeon and Kim 2019, section 4.1.
    """

    kind: Literal["likelihood"] = "likelihood"

    def of_classes(self, output: NetworkOutput, batch: Batch) -> Float[Array, "b"]:
        """Measure the class capsules' activations by `likelihood_loss`.

        Args:
            output: what the network knows of the batch.
            batch: images, labels and, in training, its progress.

        Returns:
            The loss of each example, [b].
        """
        return likelihood_loss(output.lengths, labels_of(batch, output.lengths))


def likelihood_loss(
    activation: Float[Array, "*batch j"], labels: Num[Array, "..."]
) -> Float[Array, "*batch"]:
    """Return the negative log-likelihood of the labels, in nats.

    L = -sum_t T_t log(a_t / sum_k a_k)

    Args:
        activation: activations of the class capsules, at least 0, [*batch, j].
        labels: class numbers, integers [*batch], or T itself, [*batch, j], as `margin_loss` takes them.

    Returns:
        The loss of each example, of the activations' type, [*batch]; in float32 at least, and finite, as an
        activation below the square root of the smallest normal number counts as that.

    Raises:
        UserError: If the shape, type or numbers of the labels do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> round(likelihood_loss(jnp.array([[0.6, 0.2]]), jnp.array([0])).item(), 4)
        0.2877
    """
    activation = class_lengths("likelihood_loss", activation, argument="activation")
    wide = activation.astype(compute_dtype(activation.dtype))
    present = presence("likelihood_loss", labels, wide)  # T, [*batch, j]
    # Its inverse, which the gradient multiplies by, does not overflow.
    a = jnp.maximum(wide, jnp.finfo(wide.dtype).tiny ** 0.5)
    share = jnp.log(a) - jnp.log(jnp.sum(a, axis=-1, keepdims=True))  # [*batch, j]
    return -jnp.sum(present * share, axis=-1).astype(activation.dtype)
