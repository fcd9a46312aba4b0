"""A scan over parents into arrays that are there, where zeros to begin with would cost memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Numbers in an array, 128 MB of them, up to which zeros to begin with are no matter.
LARGE = 2**25


def over_parents(
    step: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
    parents: Any,
    held: Callable[[], Any],
) -> tuple[Any, Any]:
    """Scan over parents as `jax.lax.scan` does, putting what is found in the place of what arrays hold.

    A scan begins with zeros for what it is to find. The compiler makes one array of zeros for all scans of a
    program, at its beginning, holds it to the end, and copies it for each: of 1,000 parents 0.6 GB each time.

    Args:
        step: from a carry and the arrays of one parent to the next carry and what is found of that parent.
        carry: the first carry.
        parents: arrays of all of them, [j, ...].
        held: makes arrays of the shapes of what is found, [j, ...], of any numbers. Not called where all of
            the parents' arrays are small: what is found is then put where a scan puts it.

    Returns:
        The last carry, and what is found of all parents.
    """

    def one(state: tuple[Any, Any], given: tuple[Array, Any]) -> tuple[tuple[Any, Any], None]:
        (carry, found), (number, parent) = state, given
        carry, more = step(carry, parent)
        put = jax.lax.dynamic_update_index_in_dim
        return (carry, jax.tree.map(lambda all, x: put(all, x, number, 0), found, more)), None

    arrays = jax.tree.leaves(parents)
    if not any(large(x) for x in arrays):
        return jax.lax.scan(step, carry, parents)
    numbers = jnp.arange(arrays[0].shape[0])
    return jax.lax.scan(one, (carry, held()), (numbers, parents))[0]


def large(x: Any) -> bool:
    """Return whether an array has more numbers than `LARGE`; one whose sizes are symbols has not."""
    return all(isinstance(size, int) for size in x.shape) and x.size > LARGE


def any_numbers(after: Float[Array, "j e b"], shape: tuple[Any, ...]) -> Float[Array, "..."]:
    """Return an array to be written to, which is not made before another is there.

    Args:
        after: the other, small beside it.
        shape: its shape.

    Returns:
        The same number everywhere, and nobody knows which.
    """
    return jnp.broadcast_to(jnp.sum(after[:1, :1]), shape)
