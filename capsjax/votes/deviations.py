"""Squared deviations of votes that are never formed from their parents' poses, with the batch last."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax.votes.contractions import for_rows, sum_rows


def scatter(
    c: Float[Array, "j i n"],
    m: Float[Array, "j e b"],
    unit: Float[Array, "b"],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
) -> Float[Array, "j e b"]:
    """Return sum_i c_ij ((W_ij u_i - m_j) / unit)^2, one parent's votes at a time.

    Args:
        c: weights, [j, i, n].
        m: centres, [j, e, b].
        unit: what deviations are measured in, [b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].

    Returns:
        The sums, [j, e, b].
    """

    # Computed again in the backward pass: kept, the deviations of all parents would be the votes.
    @jax.checkpoint
    def one(parent: tuple[Array, Array, Array]) -> Array:
        coupling, centre, matrix = parent
        squares = jnp.square(_deviations(centre, unit, u, matrix))
        return jnp.einsum("ib,ieb->eb", for_rows(coupling, u), squares)  # [e, b]

    return jax.lax.map(one, (c, m, W))


def distance(
    m: Float[Array, "j e b"],
    p: Float[Array, "j e b"],
    unit: Float[Array, "b"],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
    rows: int = 1,
) -> Float[Array, "j i n"]:
    """Return sum_h p_jh ((W_ij u_i - m_j)_h / unit)^2, one parent's votes at a time.

    Args:
        m: centres, [j, e, b].
        p: precisions, [j, e, b].
        unit: what deviations are measured in, [b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].
        rows: p, rows of a pose.

    Returns:
        The distances, [j, i, n].
    """

    @jax.checkpoint
    def one(parent: tuple[Array, Array, Array]) -> Array:
        centre, precision, matrix = parent
        squares = jnp.square(_deviations(centre, unit, u, matrix))
        return sum_rows(jnp.einsum("eb,ieb->ib", precision, squares), rows)  # [i, b / p]

    return jax.lax.map(one, (m, p, W))


def _deviations(
    m: Float[Array, "e b"],
    unit: Float[Array, "b"],
    u: Float[Array, "i d b"],
    matrix: Float[Array, "id e"],
) -> Float[Array, "i e b"]:
    """Return (W_ij u_i - m_j) / unit for one parent."""
    i, d, _ = u.shape
    votes = jnp.einsum("ide,idb->ieb", matrix.reshape(i, d, -1), u)  # [i, e, b]
    return (votes - m[None]) / unit[None, None]
