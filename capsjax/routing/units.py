"""Units in which neither the squares of huge votes overflow, nor the logits that are made of them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax import numerics
from capsjax.types import PerPair
from capsjax.votes import Votes

# Votes above this are measured in units of the largest, for squares that do not overflow.
LARGE = 2.0**20
# Logits as large as this differ by rounding alone, in float64 too, or the softmax over them is 0 and 1.
DECIDED = 2.0**60


def unit_of(votes: Votes) -> Float[Array, "*batch"]:
    """Return what deviations are measured in: 1, but for examples whose squares might overflow, [*batch]."""
    bound = jax.lax.stop_gradient(votes.bound())
    return jnp.where(bound > LARGE, bound, 1)


def in_squared_units(least: float, unit: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Return the least that a variance can be, in units of unit^2.

    Args:
        least: the same in units of the votes, above 0.
        unit: what deviations are measured in, [*batch].

    Returns:
        One number for each example, [*batch]: above 0 too where it is nothing beside the votes.
    """
    resolved = jnp.finfo(unit.dtype).eps ** 2
    return jnp.maximum(least / unit / unit, jnp.where(unit > 1, resolved, 0))


def squared_distance(
    votes: Votes, centre: Float[Array, "*batch j e"], factor: float
) -> tuple[PerPair, Float[Array, "*batch"]]:
    """Measure factor |vote_ij - m_j|^2, which is never above `DECIDED`.

    Args:
        votes: the votes, of shape (*batch, i, j, e).
        centre: m_j, [*batch, j, e].
        factor: what squares are multiplied by, above 0.

    Returns:
        One number for each pair, as held; and the factor that each example got, [*batch]: a smaller one
        where a softmax over these numbers is 0 and 1 anyway.
    """
    pairs, unit = votes.pairs, unit_of(votes)
    found = votes.distance(centre, jnp.ones_like(centre), unit)
    # Constants, as units are; of pairs that are there, as others may hold anything.
    seen = pairs.only_present(jax.lax.stop_gradient(found))
    largest = numerics.at_least_tiny(pairs.max_abs(seen))
    unit_used = jnp.minimum(unit, jnp.sqrt(DECIDED / factor / largest))
    scaled = found * pairs.broadcast(factor * jnp.square(unit_used))
    # Within a bound that changes nothing: a product that is fused with the softmax's difference is not
    # rounded, and huge ones would not cancel.
    return jnp.minimum(scaled, 2 * DECIDED), factor * jnp.square(unit_used / unit)
