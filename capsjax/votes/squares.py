"""Sums of squared deviations of votes that are never formed together, with the batch last.

`scatter` and `distance` are derivatives of D = sum_ij c_ij sum_h p_jh ((W_ij u_i - m_j)_h / unit)^2, with
respect to p and to c; `fit` is a weighted mean, the scatter about it, and the distances from it in units of
that. All have one adjoint, with a loop that forms the votes of one parent, [i, e, b]. Arrays are those of
`contractions`. On a CPU all sums but cotangents of children and matrices come from `written_out`, where it
has them, and form no votes. Where it has not, all are made for one parent at a time; there products are
written out over d and e, and sums over the children by groups: the compiler's own take three to seven times
as long.
"""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax.numerics import reverse_only
from capsjax.votes import written_out
from capsjax.votes.contractions import (
    UNROLLED,
    accelerated,
    agreement,
    combine,
    for_rows,
    reduce,
    rows_of,
    sum_apart,
    sum_rows,
)
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
    if (written := _written_out(c, unit, u, W, rows_of(c, u))) is not None:
        return written.scatter(c, m)

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
    u_bar, W_bar, back = _adjoint(m, unit, u, W, Terms(c=c, s_bar=cotangent))
    return back.c, back.m, _of_unit(cotangent * found, unit), u_bar, W_bar


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def _distance(m: Array, p: Array, unit: Array, u: Array, W: Array, rows: int) -> Array:
    if (written := _written_out(p, unit, u, W, rows)) is not None:
        return written.distance(m, p)

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
    u_bar, W_bar, back = _adjoint(m, unit, u, W, Terms(p=p, a_bar=cotangent))
    return back.m, back.p, _of_unit(back.p * p, unit), u_bar, W_bar


@partial(jax.custom_vjp, nondiff_argnums=(6,))
def _fit(
    w: Array, c: Array, floor: Array, unit: Array, u: Array, W: Array, rows: int | None
) -> tuple[Array, Array, Array | None]:
    if (written := _written_out(w, unit, u, W, rows_of(w, u))) is not None:
        m = combine(w, u, W)
        s = written.scatter(c, m) + floor[None, None]
        return m, s, None if rows is None else written.distance(m, 1 / s)

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
    u_bar, W_bar, back = _adjoint(m, unit, u, W, Terms(c, s_bar, p, a_bar, w, m_bar))
    # Both are made of squares in units of the unit; where the distances are, `back.s` has gone through p.
    of_squares = (s - floor[None, None]) * back.s
    if p is not None:
        of_squares += back.p * p
    floor_bar = jnp.sum(back.s, axis=(0, 1))
    return back.w, back.c, floor_bar, _of_unit(of_squares, unit), u_bar, W_bar


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


class Found(NamedTuple):
    """Hold the cotangents that are sums over children or components; None where there is no such term.

    Attributes:
        m: of the centre, with what was given, [j, e, b].
        c: of the weights of the scatter, [j, i, n].
        p: of the precisions, [j, e, b].
        w: of the weights of the mean, [j, i, n].
        s: of the scatter, with what comes by p = 1 / s, [j, e, b].
    """

    m: Any
    c: Any
    p: Any
    w: Any
    s: Any


class Sums(NamedTuple):
    """Hold how sums over deviations D_ij = (W_ij u_i - m_j) / unit are made, of all parents or of one.

    Attributes:
        scatter: sum_i c_ij D_ij^2, of c.
        distance: sum_h p_jh D_ijh^2, of p.
        deviation: sum_ik w_kij f_kj D_ij, of lists of w and f.
        agreement: (W_ij u_i) . v_j, of v.
    """

    scatter: Callable[[Any], Array]
    distance: Callable[[Any], Array]
    deviation: Callable[[Any, Any], Array]
    agreement: Callable[[Any], Array]


def _adjoint(
    m: Float[Array, "j e b"],
    unit: Float[Array, "b"],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
    terms: Terms,
) -> tuple[Float[Array, "i d b"], Float[Array, "j id e"], Found]:
    """Pull back cotangents of scatter, distances and mean, in one pass over the parents.

    Sums that are written out are made before it.

    Args:
        m: centres, [j, e, b].
        unit: what deviations are measured in, [b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].
        terms: of which there are cotangents.

    Returns:
        The cotangents of u, of W, and of the rest.
    """
    weights = terms.a_bar if terms.c is None else terms.c
    rows = rows_of(weights, u)
    before = None  # what is found before the pass
    if (written := _written_out(weights, unit, u, W, rows)) is not None:
        sums = Sums(
            scatter=lambda c: written.scatter(c, m),
            distance=lambda p: written.distance(m, p),
            deviation=lambda w, f: written.deviation(w, f, m),
            agreement=lambda v: agreement(v, u, W, rows),
        )
        before = _found(terms, unit, sums)

    def spread(x: Array) -> Array:
        return for_rows(x, u)[:, None, :]  # [i, 1, b]

    def weigh(weights: Any, factors: Any) -> Array:
        pairs = zip(weights, factors, strict=True)
        return functools.reduce(jnp.add, (spread(w) * f[None] for w, f in pairs))  # [i, e, b]

    def one(u_bar: Array, parent: Any, _: Any) -> tuple[Array, tuple[Array, Found | None]]:
        centre, matrix, given, found = parent
        deviations = _deviations(centre, unit, u, matrix)
        squares = jnp.square(deviations)

        def of_child(x: Array) -> Array:
            return sum_rows(reduce(jnp.add, x, axis=1), rows)

        if found is None:
            sums = Sums(
                scatter=lambda c: sum_apart(spread(c) * squares),
                distance=lambda p: of_child(p[None] * squares),
                deviation=lambda w, f: sum_apart(weigh(w, f) * deviations),
                agreement=lambda v: of_child((matrix @ v).reshape(u.shape) * u),
            )
            found = _found(given, unit, sums)
        votes_bar = weigh(*_by_vote(given, found.s, unit)) * deviations
        if given.w is not None:
            votes_bar = votes_bar + spread(given.w) * found.m[None]
        # The only sum over examples.
        W_bar = jnp.einsum("idb,ieb->ide", u, votes_bar).reshape(matrix.shape)
        matrices = matrix.reshape(*u.shape[:2], -1).swapaxes(1, 2)  # [i, e, d]
        return u_bar + _products(matrices, votes_bar), (W_bar, None if before else found)

    given, held = jax.tree.leaves((terms, before)), None
    if before is None:
        numbers = any_numbers(given, weights.shape)
        each = (terms.c, numbers), (terms.p, m), (terms.w, numbers), (terms.s_bar, m)
        held = Found(m, *(x if there is not None else None for there, x in each))
    parents, held = (m, W, terms, before), (any_numbers(given, W.shape), held)
    u_bar, (W_bar, after) = over_parents(one, zeros_after(given, u), parents, held)
    return u_bar, W_bar, before or after


def _found(terms: Terms, unit: Float[Array, "b"], sums: Sums) -> Found:
    """Return the cotangents that are sums, of all parents or of one."""
    p_bar = c_bar = None
    s_bar = terms.s_bar
    if terms.a_bar is not None:
        p_bar = sums.scatter(terms.a_bar)
        if terms.w is not None:
            s_bar = s_bar - jnp.square(terms.p) * p_bar
    if terms.c is not None:
        c_bar = sums.distance(s_bar)
    by_centre = -sums.deviation(*_by_vote(terms, s_bar, unit))
    if terms.w is None:
        return Found(by_centre, c_bar, p_bar, None, s_bar)
    m_bar = terms.m_bar + by_centre
    return Found(m_bar, c_bar, p_bar, sums.agreement(m_bar), s_bar)


def _by_vote(terms: Terms, s_bar: Any, unit: Float[Array, "b"]) -> tuple[list[Any], list[Any]]:
    """Return weights and factors, whose products times its deviation are a vote's cotangent."""
    pairs = (terms.a_bar, terms.p), (terms.c, s_bar)
    there = [(w, f) for w, f in pairs if w is not None]
    return [w for w, _ in there], [2 * f / jnp.broadcast_to(unit, f.shape) for _, f in there]


def _written_out(
    x: Array, unit: Array, u: Array, W: Array, rows: int
) -> written_out.Deviations | None:
    """Return what makes sums over deviations, for such weights or precisions; None for a GPU."""
    return None if accelerated() else written_out.deviations(x, unit, u, W, rows)


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
