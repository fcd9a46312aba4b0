"""Sums of squared deviations of votes that are never formed, with the batch last, one parent at a time.

`scatter` and `distance` are derivatives of D = sum_ij c_ij sum_h p_jh ((W_ij u_i - m_j)_h / unit)^2, with
respect to p and to c; `fit` is a weighted mean, the scatter about it, and the distances from it in units of
that. All have one adjoint, which forms the votes of a parent once, [i, e, b]. Arrays are those of
`contractions`. On a CPU products are written out over d and e, and sums over the children by groups: the
compiler's own take three to seven times as long.
"""

import functools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax.numerics import reverse_only
from capsjax.votes.contractions import UNROLLED, accelerated, for_rows, reduce, sum_apart, sum_rows
from capsjax.votes.over_parents import any_numbers, over_parents, zeros_after


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


def fit(
    w: Float[Array, "j i n"],
    c: Float[Array, "j i n"],
    floor: Float[Array, "b"],
    unit: Float[Array, "b"],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
    rows: int | None,
) -> tuple[Float[Array, "j e b"], Float[Array, "j e b"], Float[Array, "j i n"] | None]:
    """Fit a Gaussian to each parent's votes, and measure how far from it each vote is.

    Args:
        w: weights of the mean, [j, i, n].
        c: weights of the squared deviations, [j, i, n].
        floor: what is added to their sums, in squared units, [b].
        unit: what deviations are measured in, [b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].
        rows: p, rows of a pose; None where no distances are asked for.

    Returns:
        Means m_j = sum_i w_ij W_ij u_i and variances s_j = sum_i c_ij ((W_ij u_i - m_j) / unit)^2 + floor,
        [j, e, b] each; and distances sum_h ((W_ij u_i - m_j)_h / unit)^2 / s_jh, [j, i, n].
    """
    return _fit(*reverse_only((w, c, floor, unit, u, W)), rows)


@jax.custom_vjp
def _scatter(c: Array, m: Array, unit: Array, u: Array, W: Array) -> Array:
    def one(parent: tuple[Array, Array, Array]) -> Array:
        weights, centre, matrix = parent
        squares = jnp.square(_deviations(centre, unit, u, matrix))
        return sum_apart(for_rows(weights, u)[:, None, :] * squares)  # [e, b]

    return jax.lax.map(one, (c, m, W))


def _scatter_forward(*args: Array) -> tuple[Array, tuple[Array, ...]]:
    found = _scatter(*args)
    return found, (*args, found)


def _scatter_backward(saved: tuple[Array, ...], cotangent: Array) -> tuple[Array, ...]:
    c, m, unit, u, W, found = saved
    back = _adjoint(m, unit, u, W, Terms(c=c, s_bar=cotangent))
    return back.c, back.m, _of_unit(cotangent * found, unit), back.u, back.W


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
    back = _adjoint(m, unit, u, W, Terms(p=p, a_bar=cotangent))
    return back.m, back.p, _of_unit(back.p * p, unit), back.u, back.W


@partial(jax.custom_vjp, nondiff_argnums=(6,))
def _fit(
    w: Array, c: Array, floor: Array, unit: Array, u: Array, W: Array, rows: int | None
) -> tuple[Array, Array, Array | None]:
    def one(parent: tuple[Array, Array, Array]) -> tuple[Array, Array, Array | None]:
        of_mean, of_squares, matrix = parent
        votes = _votes(u, matrix)
        m = sum_apart(for_rows(of_mean, u)[:, None, :] * votes)  # [e, b]
        squares = jnp.square((votes - m[None]) / unit[None, None])
        s = sum_apart(for_rows(of_squares, u)[:, None, :] * squares) + floor[None]
        if rows is None:
            return m, s, None
        return m, s, sum_rows(reduce(jnp.add, squares / s[None], axis=1), rows)  # [i, b / p]

    return jax.lax.map(one, (w, c, W))


def _fit_forward(*args: Any) -> tuple[Any, tuple[Array, ...]]:
    m, s, a = _fit(*args)
    return (m, s, a), (*args[:-1], m, s)


def _fit_backward(rows: int | None, saved: tuple[Array, ...], cotangents: Any) -> tuple[Array, ...]:
    w, c, floor, unit, u, W, m, s = saved
    m_bar, s_bar, a_bar = cotangents
    p = None if rows is None else 1 / s
    back = _adjoint(m, unit, u, W, Terms(c, s_bar, p, a_bar, w, m_bar))
    # Both are made of squares in units of the unit; where the distances are, `back.s` has gone through p.
    of_squares = (s - floor[None, None]) * back.s
    if p is not None:
        of_squares += back.p * p
    floor_bar = jnp.sum(back.s, axis=(0, 1))
    return back.w, back.c, floor_bar, _of_unit(of_squares, unit), back.u, back.W


_scatter.defvjp(_scatter_forward, _scatter_backward)
_distance.defvjp(_distance_forward, _distance_backward)
_fit.defvjp(_fit_forward, _fit_backward)


class Terms(NamedTuple):
    """Hold what the adjoint is of; None where there is no such term.

    Attributes:
        c: weights of the scatter, [j, i, n].
        s_bar: its cotangent, [j, e, b].
        p: precisions of the distances, [j, e, b]; with a mean they are 1 / s.
        a_bar: their cotangents, [j, i, n].
        w: weights of the mean, [j, i, n]; else the centre is given.
        m_bar: its cotangent, [j, e, b].
    """

    c: Any = None
    s_bar: Any = None
    p: Any = None
    a_bar: Any = None
    w: Any = None
    m_bar: Any = None


class Pulled(NamedTuple):
    """Hold what the adjoint finds; None where there is no such term.

    Attributes:
        u: [i, d, b].
        m: of the centre, with what was given, [j, e, b].
        W: [j, i d, e].
        c: of the weights of the scatter, [j, i, n].
        p: of the precisions, [j, e, b].
        w: of the weights of the mean, [j, i, n].
        s: of the scatter, with what comes by p = 1 / s, [j, e, b].
    """

    u: Array
    m: Array
    W: Array
    c: Any
    p: Any
    w: Any
    s: Any


def _adjoint(
    m: Float[Array, "j e b"],
    unit: Float[Array, "b"],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
    terms: Terms,
) -> Pulled:
    """Pull back cotangents of scatter, distances and mean, in one pass over the parents.

    Args:
        m: centres, [j, e, b].
        unit: what deviations are measured in, [b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].
        terms: of which there are cotangents.

    Returns:
        The cotangents of all that they are made of.
    """
    pairs = (terms.a_bar if terms.c is None else terms.c).shape
    n, b = pairs[-1], u.shape[-1]
    rows = 1 if n == b else b // n  # equal sizes may be symbols, or 0

    def spread(x: Array) -> Array:
        return for_rows(x, u)[:, None, :]  # [i, 1, b]

    def one(u_bar: Array, parent: Any, _: Any) -> tuple[Array, tuple[Array | None, ...]]:
        centre, matrix, (c, s_bar, p, a_bar, w, m_bar) = parent
        deviations = _deviations(centre, unit, u, matrix)
        squares = jnp.square(deviations)
        c_bar = p_bar = w_bar = None
        by_vote = []  # whose sum times its deviation is a vote's cotangent, each [i, e, b]
        if a_bar is not None:
            p_bar = sum_apart(spread(a_bar) * squares)  # [e, b]
            by_vote.append(spread(a_bar) * (2 * p / unit[None])[None])
            if w is not None:
                s_bar = s_bar - jnp.square(p) * p_bar
        if c is not None:
            c_bar = sum_rows(reduce(jnp.add, s_bar[None] * squares, axis=1), rows)
            by_vote.append(spread(c) * (2 * s_bar / unit[None])[None])
        votes_bar = functools.reduce(jnp.add, by_vote) * deviations
        found = -sum_apart(votes_bar)
        if w is not None:
            m_bar = m_bar + found
            pulled = (matrix @ m_bar).reshape(u.shape)
            w_bar = sum_rows(reduce(jnp.add, pulled * u, axis=1), rows)
            votes_bar = votes_bar + spread(w) * m_bar[None]
        else:
            m_bar = found
        # The only sum over examples.
        W_bar = jnp.einsum("idb,ieb->ide", u, votes_bar).reshape(matrix.shape)
        matrices = matrix.reshape(*u.shape[:2], -1).swapaxes(1, 2)  # [i, e, d]
        return u_bar + _products(matrices, votes_bar), (m_bar, W_bar, c_bar, p_bar, w_bar, s_bar)

    given = jax.tree.leaves(terms)
    numbers = any_numbers(given, pairs)
    each = (terms.c, numbers), (terms.p, m), (terms.w, numbers), (terms.s_bar, m)
    of_terms = (x if there is not None else None for there, x in each)
    held = m, any_numbers(given, W.shape), *of_terms
    u_bar, found = over_parents(one, zeros_after(given, u), (m, W, terms), held)
    return Pulled(u_bar, *found)


def _of_unit(found: Float[Array, "j e b"], unit: Float[Array, "b"]) -> Float[Array, "b"]:
    """Return the cotangent of the unit, with whose square everything is divided."""
    return -2 * jnp.sum(found, axis=(0, 1)) / unit


def _deviations(
    m: Float[Array, "e b"],
    unit: Float[Array, "b"],
    u: Float[Array, "i d b"],
    matrix: Float[Array, "id e"],
) -> Float[Array, "i e b"]:
    """Return (W_ij u_i - m_j) / unit for one parent."""
    return (_votes(u, matrix) - m[None]) / unit[None, None]


def _votes(u: Float[Array, "i d b"], matrix: Float[Array, "id e"]) -> Float[Array, "i e b"]:
    """Return W_ij u_i for one parent."""
    return _products(matrix.reshape(*u.shape[:2], -1), u)


def _products(matrices: Float[Array, "i m n"], x: Float[Array, "i m b"]) -> Float[Array, "i n b"]:
    """Multiply each child's columns by the transpose of its matrix."""
    m = matrices.shape[1]
    if accelerated() or m > UNROLLED:
        return jnp.einsum("imn,imb->inb", matrices, x)
    terms = (matrices[:, k, :, None] * x[:, k, None, :] for k in range(m))
    return functools.reduce(jnp.add, terms)
