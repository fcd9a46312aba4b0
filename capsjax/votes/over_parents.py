"""A scan over parents into arrays that are there, where zeros to begin with would cost memory."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

# Numbers in an array, 2 MB of them, up to which zeros to begin with are no matter, nor are copies.
LARGE = 2**19


def over_parents(
    step: Callable[[Any, Any, Any], tuple[Any, Any]],
    carry: Any,
    parents: Any,
    held: Any,
) -> tuple[Any, Any]:
    """Scan over parents, putting what is found in the place of what large arrays hold.

    A scan begins with zeros for what it is to find. The compiler makes one array of zeros for all scans of a
    program, at its beginning, holds it to the end, and copies it for each: of 1,000 parents 0.6 GB each time.
    And a scan does not write to an array that it reads: one that is added to would be copied first. Where no
    array is large it is a scan, and `step` is given what is held all the same.

    Args:
        step: from a carry, the arrays of one parent and what is held of it, to the next carry and what is
            found of that parent.
        carry: the first carry.
        parents: arrays of all of them, [j, ...].
        held: arrays of the shapes of what is found, [j, ...]: what is added to, or any numbers.

    Returns:
        The last carry, and what is found of all parents.
    """

    def one(state: tuple[Any, Any, Any], parent: Any) -> tuple[tuple[Any, Any, Any], None]:
        number, carry, found = state
        take, put = jax.lax.dynamic_index_in_dim, jax.lax.dynamic_update_index_in_dim
        before = jax.tree.map(lambda array: take(array, number, 0, keepdims=False), found)
        carry, more = step(carry, parent, before)
        found = jax.tree.map(lambda array, x: put(array, x, number, 0), found, more)
        return (number + 1, carry, found), None

    if not any(large(x) for x in jax.tree.leaves((parents, held))):
        return jax.lax.scan(lambda carry, given: step(carry, *given), carry, (parents, held))
    number = zeros_after(jax.tree.leaves(parents), jnp.zeros((), jnp.int32))
    return jax.lax.scan(one, (number, carry, held), parents)[0][1:]


def large(x: Any) -> bool:
    """Return whether an array has more numbers than `LARGE`; one whose sizes are symbols has not."""
    return all(isinstance(size, int) for size in x.shape) and x.size > LARGE


def any_numbers(
    after: Sequence[Float[Array, "..."]], shape: tuple[Any, ...]
) -> Float[Array, "..."]:
    """Return an array to be written to, which is not made before others are there.

    Args:
        after: the others; what is needed last among what is at hand, or it is made too early.
        shape: its shape.

    Returns:
        The same number everywhere, and nobody knows which.
    """
    return jnp.broadcast_to(_number(after), shape)


def zeros_after(
    after: Sequence[Float[Array, "..."]], like: Shaped[Array, "..."]
) -> Shaped[Array, "..."]:
    """Return zeros that nobody knows before, which are not made before other arrays are there.

    The compiler makes those that it knows at the very beginning, where they take memory to the end, and
    copies them for each loop that begins with them. And what such a loop begins with in a function that has a
    gradient of its own, numbers to count with too, JAX (0.10.2) takes for another array in the second
    derivative of a loop over that function.

    Args:
        after: the others, as for `any_numbers`.
        like: an array of their shape and type.

    Returns:
        Zeros.
    """
    # Of any x, NaN too, 0 x is not above 1.
    return jnp.broadcast_to((0 * _number(after) > 1).astype(like.dtype), like.shape)


def _number(after: Sequence[Float[Array, "..."]]) -> Float[Array, ""]:
    """Return a number that depends on each of the arrays."""
    first = (x[(slice(1),) * (x.ndim - 1)] for x in after)
    return functools.reduce(jnp.add, map(jnp.sum, first))
