"""A scan over parents into arrays that are there, where zeros to begin with would cost memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def over_parents(
    step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, parents: Any, held: Any
) -> tuple[Any, Any]:
    """Scan over parents as `jax.lax.scan` does, putting what is found in the place of what arrays hold.

    A scan begins with zeros for what it is to find. The compiler makes one array of zeros for all scans of a
    program, at its beginning, holds it to the end, and copies it for each: of 1,000 parents 0.6 GB each time.

    Args:
        step: from a carry and the arrays of one parent to the next carry and what is found of that parent.
        carry: the first carry.
        parents: arrays of all of them, [j, ...].
        held: arrays of the shapes of what is found, [j, ...], of any numbers.

    Returns:
        The last carry, and what is found of all parents.
    """

    def one(state: tuple[Any, Any], given: tuple[Array, Any]) -> tuple[tuple[Any, Any], None]:
        (carry, found), (number, parent) = state, given
        carry, more = step(carry, parent)
        put = jax.lax.dynamic_update_index_in_dim
        return (carry, jax.tree.map(lambda all, x: put(all, x, number, 0), found, more)), None

    numbers = jnp.arange(jax.tree.leaves(parents)[0].shape[0])
    return jax.lax.scan(one, (carry, held), (numbers, parents))[0]


def any_numbers(after: Float[Array, "j e b"], shape: tuple[Any, ...]) -> Float[Array, "..."]:
    """Return an array to be written to, which is not made before another is there.

    Args:
        after: the other, small beside it.
        shape: its shape.

    Returns:
        The same number everywhere, and nobody knows which.
    """
    return jnp.broadcast_to(jnp.sum(after[:1, :1]), shape)
