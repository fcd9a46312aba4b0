"""How far one gradient points where another does, one group of parameters at a time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from capsjax.training.state import NONE, Params, group_of
from capsjax.training.step import LossFunction, weighted_sums
from capsjax.types import Batch


class Alignment(NamedTuple):
    """Compare a gradient with a reference, over one group of parameters.

    Attributes:
        cosine: cosine of the angle between them, 1 where they point the same way; 0 if one is zero.
        norm_ratio: length of the gradient over that of the reference.
    """

    cosine: Any
    norm_ratio: Any


def align(gradient: Params, reference: Params) -> dict[str, Alignment]:
    """Compare two gradients, group by group and, as "all", together.

    Args:
        gradient: arrays under dotted parameter names.
        reference: the same for the gradient that is compared with.

    Returns:
        For each group, cosine and ratio of lengths.

    Example:
        >>> import jax.numpy as jnp
        >>> align({"a.b": jnp.array([2.0, 0.0])}, {"a.b": jnp.array([1.0, 0.0])})["a"].norm_ratio.item()
        2.0
    """
    groups: dict[str, list[str]] = {"all": list(gradient)}
    for name in gradient:
        groups.setdefault(group_of(name), []).append(name)
    return {group: _align(gradient, reference, names) for group, names in groups.items()}


def _align(gradient: Params, reference: Params, names: list[str]) -> Alignment:
    ours = jnp.concatenate([gradient[name].ravel() for name in names])  # [n]
    theirs = jnp.concatenate([reference[name].ravel() for name in names])  # [n]
    lengths = jnp.sqrt(jnp.sum(ours**2)), jnp.sqrt(jnp.sum(theirs**2))
    # A group that gets no gradient, such as a decoder's without reconstruction loss, has no direction.
    product = lengths[0] * lengths[1]
    cosine = jnp.where(product > 0, jnp.sum(ours * theirs) / jnp.where(product > 0, product, 1), 0)
    return Alignment(cosine, lengths[0] / jnp.where(lengths[1] > 0, lengths[1], 1))


def make_alignment(
    loss: LossFunction, reference: LossFunction
) -> Callable[..., dict[str, Alignment]]:
    """Make a function that compares the gradients of two losses at the same parameters and batch.

    Args:
        loss: from parameters and a batch to values of each example, `loss` among them.
        reference: the same, whose gradient is compared with.

    Returns:
        A compiled function from parameters, a batch and, where there are any, running statistics to the
        alignment of each group.
    """

    def gradient(function: LossFunction, params: Params, batch: Batch, fixed: Params) -> Params:
        def mean_loss(params: Params) -> Any:
            sums = weighted_sums(function(params | fixed, batch), batch.weights)
            return sums["loss"] / sums["count"]

        return jax.grad(mean_loss)(params)

    @jax.jit
    def alignment(params: Params, batch: Batch, statistics: Params = NONE) -> dict[str, Alignment]:
        found = (gradient(function, params, batch, statistics) for function in (loss, reference))
        return align(*found)

    return alignment
