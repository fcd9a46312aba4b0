"""Sums of squared deviations of votes that are never formed, with the batch last, one parent at a time.

Both are derivatives of D = sum_ij c_ij sum_h p_jh ((W_ij u_i - m_j)_h / unit)^2: `scatter` with respect to p,
`distance` with respect to c. So is what their adjoints are made of, in one pass over the parents. Arrays are
those of `contractions`. Of the votes one parent's are formed at a time, [i, e, b]. On a CPU products are
written out over d and e, and sums over the children by groups: the compiler's own take three to seven
times as long.
"""

import functools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax.numerics import reverse_only
from capsjax.votes.contractions import GROUP, UNROLLED, accelerated, for_rows, reduce, sum_rows
from capsjax.votes.over_parents import any_numbers, over_parents


def scatter(
    c: Float[Array, "j i n"],
    m: Float[Array, "j e b"],
    unit: Float[Array, "b"],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
) -> Float[Array, "j e b"]:
    """Return sum_i c_ij ((W_ij u_i - m_j) / unit)^2.

    Args:
        c: weights, [j, i, n].
        m: centres, [j, e, b].
        unit: what deviations are measured in, [b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].

    Returns:
        The sums, [j, e, b].
    """
    return _scatter(*reverse_only((c, m, unit, u, W)))


def distance(
    m: Float[Array, "j e b"],
    p: Float[Array, "j e b"],
    unit: Float[Array, "b"],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
    rows: int = 1,
) -> Float[Array, "j i n"]:
    """Return sum_h p_jh ((W_ij u_i - m_j)_h / unit)^2.

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
    return _distance(*reverse_only((m, p, unit, u, W)), rows)


@jax.custom_vjp
def _scatter(c: Array, m: Array, unit: Array, u: Array, W: Array) -> Array:
    def one(parent: tuple[Array, Array, Array]) -> Array:
        weights, centre, matrix = parent
        squares = jnp.square(_deviations(centre, unit, u, matrix))
        return _sum_children(for_rows(weights, u)[:, None, :] * squares)  # [e, b]

    return jax.lax.map(one, (c, m, W))


def _scatter_forward(*args: Array) -> tuple[Array, tuple[Array, ...]]:
    found = _scatter(*args)
    return found, (*args, found)


def _scatter_backward(saved: tuple[Array, ...], cotangent: Array) -> tuple[Array, ...]:
    c, m, unit, u, W, found = saved
    _, c_bar, m_bar, u_bar, W_bar = _adjoint(c, cotangent, m, unit, u, W)
    return c_bar, m_bar, _of_unit(cotangent * found, unit), u_bar, W_bar


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def _distance(m: Array, p: Array, unit: Array, u: Array, W: Array, rows: int) -> Array:
    def one(parent: tuple[Array, Array, Array]) -> Array:
        centre, precision, matrix = parent
        squares = jnp.square(_deviations(centre, unit, u, matrix))
        return sum_rows(reduce(jnp.add, precision[None] * squares, axis=1), rows)  # [i, b / p]

    return jax.lax.map(one, (m, p, W))


def _distance_forward(*args: Any) -> tuple[Array, tuple[Array, ...]]:
    return _distance(*args), args[:-1]


def _distance_backward(rows: int, saved: tuple[Array, ...], cotangent: Array) -> tuple[Array, ...]:
    del rows  # the cotangent has its columns
    m, p, unit, u, W = saved
    p_bar, _, m_bar, u_bar, W_bar = _adjoint(cotangent, p, m, unit, u, W)
    return m_bar, p_bar, _of_unit(p_bar * p, unit), u_bar, W_bar


_scatter.defvjp(_scatter_forward, _scatter_backward)
_distance.defvjp(_distance_forward, _distance_backward)


def _adjoint(
    c: Float[Array, "j i n"],
    p: Float[Array, "j e b"],
    m: Float[Array, "j e b"],
    unit: Float[Array, "b"],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
) -> tuple[Array, Array, Array, Array, Array]:
    """Differentiate D with respect to p, c, m, u and W, in one pass.

    The compiler drops what is not used.
    """
    n, b = c.shape[-1], u.shape[-1]
    rows = 1 if n == b else b // n  # equal sizes may be symbols, or 0

    def one(u_bar: Array, parent: Any) -> tuple[Array, tuple[Array, Array, Array, Array]]:
        weights, precision, centre, matrix = parent
        deviations = _deviations(centre, unit, u, matrix)
        squares, weights = jnp.square(deviations), for_rows(weights, u)[:, None, :]
        of_precision = _sum_children(weights * squares)  # [e, b]
        of_weights = sum_rows(reduce(jnp.add, precision[None] * squares, axis=1), rows)
        votes_bar = weights * (2 * precision / unit[None])[None] * deviations  # [i, e, b]
        found = of_precision, of_weights, -_sum_children(votes_bar)
        # The only sum over examples.
        W_bar = jnp.einsum("idb,ieb->ide", u, votes_bar).reshape(matrix.shape)
        matrices = matrix.reshape(*u.shape[:2], -1).swapaxes(1, 2)  # [i, e, d]
        return u_bar + _products(matrices, votes_bar), (*found, W_bar)

    def held() -> tuple[Array, Array, Array, Array]:
        return p, any_numbers(p, c.shape), p, any_numbers(p, W.shape)

    u_bar, found = over_parents(one, jnp.zeros_like(u), (c, p, m, W), held)
    p_bar, c_bar, m_bar, W_bar = found
    return p_bar, c_bar, m_bar, u_bar, W_bar


def _of_unit(found: Float[Array, "j e b"], unit: Float[Array, "b"]) -> Float[Array, "b"]:
    """Return the cotangent of the unit, with whose square everything is divided."""
    return -2 * jnp.sum(found, axis=(0, 1)) / unit


def _sum_children(x: Float[Array, "i e b"]) -> Float[Array, "e b"]:
    """Sum over the children, by groups that are written out: each group's sum is a row of one array."""
    i = x.shape[0]
    if accelerated() or i <= UNROLLED:
        return reduce(jnp.add, x)
    groups, rest = divmod(i, GROUP)
    parts = x[: groups * GROUP].reshape(groups, GROUP, *x.shape[1:])
    # Fused with the next sum, each would be computed again for every term of it.
    sums = jax.lax.optimization_barrier(reduce(jnp.add, parts, axis=1))
    found = reduce(jnp.add, sums)
    return found + reduce(jnp.add, x[groups * GROUP :]) if rest else found


def _deviations(
    m: Float[Array, "e b"],
    unit: Float[Array, "b"],
    u: Float[Array, "i d b"],
    matrix: Float[Array, "id e"],
) -> Float[Array, "i e b"]:
    """Return (W_ij u_i - m_j) / unit for one parent."""
    votes = _products(matrix.reshape(*u.shape[:2], -1), u)  # [i, e, b]
    return (votes - m[None]) / unit[None, None]


def _products(matrices: Float[Array, "i m n"], x: Float[Array, "i m b"]) -> Float[Array, "i n b"]:
    """Multiply each child's columns by the transpose of its matrix."""
    m = matrices.shape[1]
    if accelerated() or m > UNROLLED:
        return jnp.einsum("imn,imb->inb", matrices, x)
    terms = (matrices[:, k, :, None] * x[:, k, None, :] for k in range(m))
    return functools.reduce(jnp.add, terms)
