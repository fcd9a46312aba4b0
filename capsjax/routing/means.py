"""Means of votes, weighed by couplings."""

import jax.numpy as jnp

from capsjax import numerics
from capsjax.routing.base import Parents
from capsjax.types import PerPair
from capsjax.votes import Votes


def means_of(votes: Votes, weight: PerPair) -> Parents:
    """Read the parents out as means: v_j = sum_i w_ij V_ij / sum_i w_ij, a_j = sum_i w_ij / sum_ik w_ik.

    Args:
        votes: the votes, of shape (*batch, i, j, e).
        weight: w_ij, at least 0, as held.

    Returns:
        Means [*batch, j, e], 0 where nothing is weighed; activations [*batch, j], which add up to 1.
    """
    pairs = votes.pairs
    mass = pairs.sum_children(weight)  # [*batch, j]
    whole = jnp.sum(mass, axis=-1, keepdims=True)  # [*batch, 1]
    # Divided before the sum: the weights of a parent add up to 1, so nothing overflows.
    pose = votes.combine(weight / pairs.by_parent(numerics.at_least_tiny(mass)))
    return Parents(pose, mass / numerics.at_least_tiny(whole))
