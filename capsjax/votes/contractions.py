"""The contractions of votes that are never formed, one parent at a time, with the batch last.

With u as [i, d, b], each step is a product of one matrix with a column for every example, or goes along
the examples: the longest axis, and the only one that nothing sums over but the gradient of W. The parents'
matrices W_j are one each, [i d, e]; couplings are [j, i, b], poses [j, e, b].
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

UNROLLED = 32  # terms up to which a reduction over a leading axis is written out

Bars = tuple[Float[Array, "i d b"], Float[Array, "j id e"]]


@jax.custom_vjp
def combine(
    c: Float[Array, "j i b"], u: Float[Array, "i d b"], W: Float[Array, "j id e"]
) -> Float[Array, "j e b"]:
    """dT/dv: s_j = sum_i c_ij W_ij u_i, the product of W_j^T, [e, i d], with (c_ij u_i), [i d, b]."""

    def one(parent: tuple[Array, Array]) -> Array:
        coupling, matrix = parent
        return matrix.T @ _weigh(coupling, u)

    return jax.lax.map(one, (c, W))


@jax.custom_vjp
def agreement(
    v: Float[Array, "j e b"], u: Float[Array, "i d b"], W: Float[Array, "j id e"]
) -> Float[Array, "j i b"]:
    """dT/dc: a_ij = (W_ij u_i) . v_j, as u_i . (W_ij^T v_j)."""
    return agreements([v], u, W)[0]


def agreements(
    v: Sequence[Float[Array, "j e b"]], u: Float[Array, "i d b"], W: Float[Array, "j id e"]
) -> list[Float[Array, "j i b"]]:
    """Return dT/dc of several poses, in one pass over the parents."""

    def one(parent: tuple[list[Array], Array]) -> list[Array]:
        poses, matrix = parent
        return [_compare(_pull(pose, matrix, u), u) for pose in poses]

    return jax.lax.map(one, (list(v), W))


def adjoint(
    c: Sequence[Float[Array, "j i b"]],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
    v: Sequence[Float[Array, "j e b"]],
    onto: Bars,
) -> tuple[Float[Array, "j e b"], Float[Array, "j i b"], Bars]:
    """Return dT/dv and dT/dc of the first term, dT/du and dT/dW of all, in one pass over the parents.

    T is the sum over several couplings and poses. Reverse mode of `combine` needs dT/dc, where v is its
    cotangent; that of `agreement` dT/dv, where c is; the compiler drops the one that nobody uses.

    Args:
        c: couplings, each [j, i, b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].
        v: poses, as many as couplings, each [j, e, b].
        onto: what dT/du and dT/dW are added to.
    """

    def one(u_bar: Array, parent: Any) -> tuple[Array, tuple[Array, Array, Array]]:
        couplings, matrix, poses, W_bar = parent
        weighed = [_weigh(coupling, u) for coupling in couplings]
        pulled = [_pull(pose, matrix, u) for pose in poses]
        for coupling, back, x, pose in zip(couplings, pulled, weighed, poses, strict=True):
            u_bar = u_bar + coupling[:, None, :] * back
            W_bar = W_bar + x @ pose.T
        return u_bar, (matrix.T @ weighed[0], _compare(pulled[0], u), W_bar)

    u_bar, (s, a, W_bar) = jax.lax.scan(one, onto[0], (list(c), W, list(v), onto[1]))
    return s, a, (u_bar, W_bar)


def total(u: Float[Array, "i d b"], W: Float[Array, "j id e"]) -> Float[Array, "j e b"]:
    """Return sum_i W_ij u_i: with equal weights all parents are one matrix product."""
    return jnp.einsum("jxe,xb->jeb", W, u.reshape(u.shape[0] * u.shape[1], u.shape[2]))


def scatter(
    c: Float[Array, "j i b"],
    m: Float[Array, "j e b"],
    unit: Float[Array, "b"],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
) -> Float[Array, "j e b"]:
    """Return sum_i c_ij ((W_ij u_i - m_j) / unit)^2, one parent's votes at a time.

    Args:
        c: weights, [j, i, b].
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
        return jnp.einsum("ib,ieb->eb", coupling, squares)  # [e, b]

    return jax.lax.map(one, (c, m, W))


def distance(
    m: Float[Array, "j e b"],
    p: Float[Array, "j e b"],
    unit: Float[Array, "b"],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
) -> Float[Array, "j i b"]:
    """Return sum_h p_jh ((W_ij u_i - m_j)_h / unit)^2, one parent's votes at a time.

    Args:
        m: centres, [j, e, b].
        p: precisions, [j, e, b].
        unit: what deviations are measured in, [b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].

    Returns:
        The distances, [j, i, b].
    """

    @jax.checkpoint
    def one(parent: tuple[Array, Array, Array]) -> Array:
        centre, precision, matrix = parent
        squares = jnp.square(_deviations(centre, unit, u, matrix))
        return jnp.einsum("eb,ieb->ib", precision, squares)  # [i, b]

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


def couple(logits: Float[Array, "j i b"], leaky: bool) -> Float[Array, "j i b"]:
    """Return the softmax over parents; `leaky` adds a zero logit for none of them."""
    largest = jax.lax.stop_gradient(_reduce(jnp.maximum, logits))
    largest = jnp.maximum(largest, 0) if leaky else largest
    shares = jnp.exp(logits - largest[None])
    whole = _reduce(jnp.add, shares)
    whole = whole + jnp.exp(-largest) if leaky else whole
    return shares / whole[None]


def couple_adjoint(
    coupling: Float[Array, "j i b"], cotangent: Float[Array, "j i b"]
) -> Float[Array, "j i b"]:
    """Return b_bar = c (c_bar - sum_j c c_bar)."""
    return coupling * (cotangent - _reduce(jnp.add, coupling * cotangent)[None])


def _weigh(c: Float[Array, "i b"], u: Float[Array, "i d b"]) -> Float[Array, "id b"]:
    return (c[:, None, :] * u).reshape(u.shape[0] * u.shape[1], u.shape[2])


def _pull(
    v: Float[Array, "e b"], matrix: Float[Array, "id e"], u: Float[Array, "i d b"]
) -> Float[Array, "i d b"]:
    """Pull a parent's pose back to its children: W_ij^T v_j."""
    return (matrix @ v).reshape(u.shape)


def _compare(x: Float[Array, "i d b"], u: Float[Array, "i d b"]) -> Float[Array, "i b"]:
    """Sum the products over d."""
    return _reduce(jnp.add, x * u, axis=1)


def _reduce(
    fold: Callable[[Array, Array], Array], x: Float[Array, "..."], axis: int = 0
) -> Float[Array, "..."]:
    """Reduce an axis that is not the last, written out: the compiler's own loop over it is slow."""
    terms = [jax.lax.index_in_dim(x, k, axis, keepdims=False) for k in range(x.shape[axis])]
    if len(terms) <= UNROLLED:
        return functools.reduce(fold, terms)
    return jnp.sum(x, axis) if fold is jnp.add else jnp.max(x, axis)


def _combine_forward(c: Array, u: Array, W: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    return combine(c, u, W), (c, u, W)


def _combine_backward(
    saved: tuple[Array, Array, Array], s_bar: Array
) -> tuple[Array, Array, Array]:
    c, u, W = saved
    _, c_bar, bars = adjoint([c], u, W, [s_bar], (jnp.zeros_like(u), jnp.zeros_like(W)))
    return c_bar, *bars


def _agreement_forward(v: Array, u: Array, W: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    return agreement(v, u, W), (v, u, W)


def _agreement_backward(
    saved: tuple[Array, Array, Array], a_bar: Array
) -> tuple[Array, Array, Array]:
    v, u, W = saved
    v_bar, _, bars = adjoint([a_bar], u, W, [v], (jnp.zeros_like(u), jnp.zeros_like(W)))
    return v_bar, *bars


combine.defvjp(_combine_forward, _combine_backward)
agreement.defvjp(_agreement_forward, _agreement_backward)
