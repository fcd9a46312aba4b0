"""The contractions of votes that are never formed, with the batch last; on a CPU one parent at a time.

With u as [i, d, b], each step is a product of one matrix with a column for every example, or goes along
the examples: the longest axis, and the only one that nothing sums over but the gradient of W. The parents'
matrices W_j are one each, [i d, e]; couplings are [j, i, n], poses [j, e, b].

A pose matrix is p rows that share W and their coupling, and its rows are columns here: b is then p n, p times
as long as n, and all columns of the first row before those of the second.
"""

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from capsjax.numerics import reverse_only
from capsjax.votes import together, written_out
from capsjax.votes.over_parents import any_numbers, over_parents, zeros_after

UNROLLED = 32  # terms up to which a reduction over a leading axis is written out
GROUP = 16  # terms that are written out at a time, where there are more

Cotangents = tuple[Float[Array, "i d b"], Float[Array, "j id e"]]


def accelerated() -> bool:
    """Return whether programs of this process may be compiled for a GPU or TPU, and are written for one."""
    return jax.default_backend() != "cpu"


def combine(
    c: Float[Array, "j i n"], u: Float[Array, "i d b"], W: Float[Array, "j id e"]
) -> Float[Array, "j e b"]:
    """Weigh and sum over children: dT/dv, s_j = sum_i c_ij W_ij u_i.

    Not written out it is a product for each parent, of W_j^T, [e, i d], with c_ij u_i, [i d, b].

    Args:
        c: coupling, [j, i, n].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].

    Returns:
        s, [j, e, b].
    """
    return _combine(*reverse_only((c, u, W)))


def agreement(
    v: Float[Array, "j e b"], u: Float[Array, "i d b"], W: Float[Array, "j id e"], rows: int = 1
) -> Float[Array, "j i n"]:
    """Compare every vote with its parent's pose: dT/dc, a_ij = (W_ij u_i) . v_j = u_i . (W_ij^T v_j).

    Args:
        v: parent poses, [j, e, b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].
        rows: p, rows of a pose.

    Returns:
        a, [j, i, n].
    """
    return _agreement(*reverse_only((v, u, W)), rows)


def agreements(
    v: Sequence[Float[Array, "j e b"]],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
    rows: int = 1,
) -> list[Float[Array, "j i n"]]:
    """Compare every vote with several poses.

    Args:
        v: parent poses, each [j, e, b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].
        rows: p, rows of a pose.

    Returns:
        One agreement for each, [j, i, n].
    """
    if accelerated():
        return [sum_rows(a, rows) for a in together.agreements(v, u, W)]
    written = written_out.agreements(v, u, W, rows)
    if written is not None:
        return written

    def one(_: None, parent: tuple[list[Array], Array], __: Any) -> tuple[None, list[Array]]:
        poses, matrix = parent
        return None, [_compare(_pull(pose, matrix, u), u, rows) for pose in poses]

    pairs = W.shape[0], u.shape[0], u.shape[-1] // rows
    return over_parents(one, None, (list(v), W), [any_numbers(v, pairs) for _ in v])[1]


def adjoint(
    c: Sequence[Float[Array, "j i n"]],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
    v: Sequence[Float[Array, "j e b"]],
    accumulate: Cotangents | None = None,
) -> tuple[Float[Array, "j e b"], Float[Array, "j i n"], Cotangents]:
    """Differentiate T = sum_kij c_kij (W_ij u_i) . v_kj with respect to all it is made of.

    This is the reverse mode of both contractions at once. For `combine` v is the cotangent of s, and dT/dc is
    that of the coupling. For `agreement` c is the cotangent of a, and dT/dv is that of the pose. The compiler
    drops whichever of the two is not used.

    Args:
        c: couplings, each [j, i, n].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].
        v: poses, one for each coupling, each [j, e, b].
        accumulate: what dT/du, [i, d, b], and dT/dW, [j, i d, e], are added to; None for nothing.

    Returns:
        dT/dv_0, [j, e, b], and dT/dc_0, [j, i, n], of the first term; and dT/du and dT/dW of all terms, added
        to `accumulate`.
    """
    rows = rows_of(c[0], u)
    if accelerated():
        start = (jnp.zeros_like(u), jnp.zeros_like(W)) if accumulate is None else accumulate
        s, a, cotangents = together.adjoint([for_rows(x, u) for x in c], u, W, v, start)
        return s, sum_rows(a, rows), cotangents
    of_u, of_W = accumulate or (None, None)
    u_bar = written_out.children_bar(c, v, u, W, rows, of_u)
    if u_bar is None:
        return _adjoint_by_products(c, u, W, v, accumulate)
    W_bar = _matrices_bar(c, u, v, of_W)
    return combine(c[0], u, W), agreement(v[0], u, W, rows), (u_bar, W_bar)


def _matrices_bar(
    c: Sequence[Float[Array, "j i n"]],
    u: Float[Array, "i d b"],
    v: Sequence[Float[Array, "j e b"]],
    accumulate: Float[Array, "j id e"] | None,
) -> Float[Array, "j id e"]:
    """Return dT/dW of `adjoint`, by products of matrices for one parent at a time."""

    def one(_: None, parent: Any, held: Array) -> tuple[None, Array]:
        more = [_weigh(coupling, u) @ pose.T for coupling, pose in zip(*parent, strict=True)]
        return None, functools.reduce(jnp.add, more if accumulate is None else [held, *more])

    shape = c[0].shape[0], u.shape[0] * u.shape[1], v[0].shape[1]
    held = any_numbers([*c, *v], shape) if accumulate is None else accumulate
    return over_parents(one, None, (list(c), list(v)), held)[1]


def _adjoint_by_products(
    c: Sequence[Float[Array, "j i n"]],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
    v: Sequence[Float[Array, "j e b"]],
    accumulate: Cotangents | None,
) -> tuple[Float[Array, "j e b"], Float[Array, "j i n"], Cotangents]:
    """Return what `adjoint` returns, by products of matrices for one parent at a time."""
    rows = rows_of(c[0], u)

    # One parent at a time, and no finer: blocks of children that fit the cache took 1.3 to 1.7 times as long,
    # all parents in one array [b, i, j, e] five times (docs/decisions/0006).
    def one(u_bar: Array, parent: Any, held: Any) -> tuple[Array, tuple[Array, Array, Any]]:
        couplings, matrix, poses = parent
        W_bar = None if accumulate is None else held[2]
        weighed = [_weigh(coupling, u) for coupling in couplings]  # each [i d, b]
        pulled = [_pull(pose, matrix, u) for pose in poses]  # each [i, d, b]
        for coupling, back, x, pose in zip(couplings, pulled, weighed, poses, strict=True):
            u_bar = u_bar + for_rows(coupling, u)[:, None, :] * back
            more = x @ pose.T  # [i d, e], the only sum over examples
            W_bar = more if W_bar is None else W_bar + more
        return u_bar, (matrix.T @ weighed[0], _compare(pulled[0], u, rows), W_bar)

    given = *c, *v
    start, matrices = accumulate or (zeros_after(given, u), any_numbers(given, W.shape))
    held = v[0], any_numbers(given, c[0].shape), matrices
    u_bar, (s, a, W_bar) = over_parents(one, start, (list(c), W, list(v)), held)
    return s, a, (u_bar, W_bar)


def total(u: Float[Array, "i d b"], W: Float[Array, "j id e"]) -> Float[Array, "j e b"]:
    """Sum the votes with equal weights, sum_i W_ij u_i: then all parents are one matrix product.

    Args:
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].

    Returns:
        The sums, [j, e, b].
    """
    return _total(*reverse_only((u, W)))


def for_rows(x: Shaped[Array, "... n"], u: Float[Array, "i d b"]) -> Shaped[Array, "... b"]:
    """Repeat a number of each pose for all its rows, which are columns of u.

    Args:
        x: numbers, [..., n].
        u: child poses, [i, d, b], b = p n.

    Returns:
        The same for each column, [..., b].
    """
    n, b = x.shape[-1], u.shape[-1]
    return x if n == b else jnp.tile(x, [*[1] * (x.ndim - 1), b // n])


def rows_of(c: Float[Array, "j i n"], u: Float[Array, "i d b"]) -> int:
    """Return the rows of a pose.

    Args:
        c: a number for each pair, [j, i, n].
        u: child poses, [i, d, b], b = p n.

    Returns:
        p.
    """
    n, b = c.shape[-1], u.shape[-1]
    return 1 if n == b else b // n  # equal sizes may be symbols, or 0


def sum_rows(x: Float[Array, "... b"], rows: int) -> Float[Array, "... n"]:
    """Sum a number of each column over the rows of a pose.

    Args:
        x: numbers, [..., b], b = p n.
        rows: p.

    Returns:
        The sums, [..., n].
    """
    shape = *x.shape[:-1], rows, -1
    return x if rows == 1 else reduce(jnp.add, x.reshape(shape), axis=x.ndim - 1)


def _weigh(c: Float[Array, "i n"], u: Float[Array, "i d b"]) -> Float[Array, "id b"]:
    return _flat(for_rows(c, u)[:, None, :] * u)  # [i d, b]


def _flat(u: Float[Array, "i d b"]) -> Float[Array, "id b"]:
    return u.reshape(u.shape[0] * u.shape[1], u.shape[2])


def _pull(
    v: Float[Array, "e b"], matrix: Float[Array, "id e"], u: Float[Array, "i d b"]
) -> Float[Array, "i d b"]:
    """Pull a parent's pose back to its children: W_ij^T v_j."""
    return (matrix @ v).reshape(u.shape)  # [i d, b] -> [i, d, b]


def _compare(x: Float[Array, "i d b"], u: Float[Array, "i d b"], rows: int) -> Float[Array, "i n"]:
    """Sum the products over d, and over the rows of a pose."""
    return sum_rows(reduce(jnp.add, x * u, axis=1), rows)


def reduce(
    fold: Callable[[Array, Array], Array], x: Float[Array, "..."], axis: int = 0
) -> Float[Array, "..."]:
    """Reduce an axis that is not the last, written out: the compiler's own loop over it is slow.

    For a sum over 100 or 1,000 parents it takes 15 times as long.

    Args:
        fold: `jnp.add` or `jnp.maximum`.
        x: what is reduced.
        axis: which axis.

    Returns:
        The same without that axis.
    """
    count, group = x.shape[axis], GROUP
    if count <= UNROLLED:
        terms = [jax.lax.index_in_dim(x, k, axis, keepdims=False) for k in range(count)]
        return functools.reduce(fold, terms)
    if accelerated():
        return jnp.sum(x, axis) if fold is jnp.add else jnp.max(x, axis)

    def fold_from(start: int | Int[Array, ""], terms: int) -> Float[Array, "..."]:
        part = jax.lax.dynamic_slice_in_dim(x, start, terms, axis)
        return functools.reduce(
            fold, [jax.lax.index_in_dim(part, k, axis, keepdims=False) for k in range(terms)]
        )

    first = count % group or group

    def add(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        start, folded = state
        return (start + group, fold(folded, fold_from(start, group))), None

    state = first + zeros_after([x], jnp.zeros((), jnp.int32)), fold_from(0, first)
    return jax.lax.scan(add, state, length=(count - first) // group)[0][1]


def sum_apart(x: Float[Array, "m ..."]) -> Float[Array, "..."]:
    """Sum the first axis for what needs the sum at each of its places, such as a difference from the mean.

    What `reduce` writes out, a CPU's compiler fuses with what follows, and computes again at every place.
    Here groups are written out, and a loop goes over them.

    Args:
        x: what is summed, [m, ...].

    Returns:
        The same without that axis.
    """
    count = x.shape[0]
    if count < 2:
        return jnp.sum(x, axis=0)
    if accelerated():
        return reduce(jnp.add, x)
    groups, rest = divmod(count, GROUP)
    first, terms = zeros_after([x], x[0]), x
    if groups > 1:
        terms = reduce(jnp.add, x[: groups * GROUP].reshape(groups, GROUP, *x.shape[1:]), axis=1)
        first = reduce(jnp.add, x[groups * GROUP :]) if rest else first
    return jax.lax.scan(lambda found, term: (found + term, None), first, terms)[0]


@jax.custom_vjp
def _combine(c: Array, u: Array, W: Array) -> Array:
    if accelerated():
        return together.combine(for_rows(c, u), u, W)
    written = written_out.combine(c, u, W, rows_of(c, u))
    if written is not None:
        return written

    def one(parent: tuple[Array, Array]) -> Array:
        coupling, matrix = parent
        return matrix.T @ _weigh(coupling, u)

    return jax.lax.map(one, (c, W))


def _combine_forward(c: Array, u: Array, W: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    return combine(c, u, W), (c, u, W)


def _combine_backward(
    saved: tuple[Array, Array, Array], s_bar: Array
) -> tuple[Array, Array, Array]:
    c, u, W = saved
    # dT/dv, the first of what comes back, is the value itself.
    _, c_bar, cotangents = adjoint([c], u, W, [s_bar])
    return c_bar, *cotangents


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _agreement(v: Array, u: Array, W: Array, rows: int) -> Array:
    return agreements([v], u, W, rows)[0]


def _agreement_forward(
    v: Array, u: Array, W: Array, rows: int
) -> tuple[Array, tuple[Array, Array, Array]]:
    return agreement(v, u, W, rows), (v, u, W)


def _agreement_backward(
    rows: int, saved: tuple[Array, Array, Array], a_bar: Array
) -> tuple[Array, Array, Array]:
    del rows  # as many as b in v is longer than in a_bar
    v, u, W = saved
    v_bar, _, cotangents = adjoint([a_bar], u, W, [v])
    return v_bar, *cotangents


@jax.custom_vjp
def _total(u: Array, W: Array) -> Array:
    return jnp.einsum("jxe,xb->jeb", W, _flat(u))  # x for i d: [j, x, e] and [x, b] give [j, e, b]


def _total_forward(u: Array, W: Array) -> tuple[Array, tuple[Array, Array]]:
    return total(u, W), (u, W)


def _total_backward(saved: tuple[Array, Array], s_bar: Array) -> tuple[Array, Array]:
    u, W = saved
    # Written out: JAX's own, [b, i d] transposed, sums in another order, and runs would end otherwise.
    u_bar = jnp.einsum("jxe,jeb->xb", W, s_bar).reshape(u.shape)  # [i, d, b]
    return u_bar, jnp.einsum(
        "xb,jeb->jxe", _flat(u), s_bar
    )  # [i d, b] and [j, e, b] give [j, i d, e]


_combine.defvjp(_combine_forward, _combine_backward)
_agreement.defvjp(_agreement_forward, _agreement_backward)
_total.defvjp(_total_forward, _total_backward)
