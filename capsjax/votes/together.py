"""The contractions of linear votes with all parents in one product, for GPUs and TPUs.

A CPU goes over the parents one by one (`contractions`); a GPU would start several kernels for each of them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

TOGETHER = 2**24  # numbers that parents which are treated together may take for each of two arrays

Cotangents = tuple[Float[Array, "i d b"], Float[Array, "j id e"]]


def combine(
    c: Float[Array, "j i b"], u: Float[Array, "i d b"], W: Float[Array, "j id e"]
) -> Float[Array, "j e b"]:
    """Weigh and sum over children, s_j = sum_i c_ij W_ij u_i.

    Args:
        c: coupling, [j, i, b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].

    Returns:
        s, [j, e, b].
    """

    def some(nothing: None, parents: tuple[Array, Array]) -> tuple[None, Array]:
        coupling, matrices = parents
        return nothing, jnp.einsum("jxe,jxb->jeb", matrices, _weigh(coupling, u))  # [j, e, b]

    return _in_groups(some, None, (c, W), u.size)[1]


def agreements(
    v: Sequence[Float[Array, "j e b"]], u: Float[Array, "i d b"], W: Float[Array, "j id e"]
) -> list[Float[Array, "j i b"]]:
    """Compare every vote with several poses, a_ij = u_i . (W_ij^T v_j).

    Args:
        v: parent poses, each [j, e, b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].

    Returns:
        One agreement for each, [j, i, b].
    """

    def some(nothing: None, parents: tuple[list[Array], Array]) -> tuple[None, list[Array]]:
        poses, matrices = parents
        return nothing, [jnp.sum(_pull(pose, matrices, u) * u[None], axis=2) for pose in poses]

    return _in_groups(some, None, (list(v), W), u.size)[1]


def adjoint(
    c: Sequence[Float[Array, "j i b"]],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
    v: Sequence[Float[Array, "j e b"]],
    accumulate: Cotangents,
) -> tuple[Float[Array, "j e b"], Float[Array, "j i b"], Cotangents]:
    """Differentiate T = sum_kij c_kij (W_ij u_i) . v_kj with respect to all it is made of.

    Args:
        c: couplings, each [j, i, b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].
        v: poses, one for each coupling, each [j, e, b].
        accumulate: what dT/du, [i, d, b], and dT/dW, [j, i d, e], are added to.

    Returns:
        dT/dv_0, [j, e, b], and dT/dc_0, [j, i, b], of the first term; and dT/du and dT/dW of all terms, added
        to `accumulate`.
    """

    def some(u_bar: Array, parents: Any) -> tuple[Array, tuple[Array, Array, Array]]:
        couplings, matrices, poses, W_bar = parents
        weighed = [_weigh(coupling, u) for coupling in couplings]  # each [j, i d, b]
        pulled = [_pull(pose, matrices, u) for pose in poses]  # each [j, i, d, b]
        for coupling, back, x, pose in zip(couplings, pulled, weighed, poses, strict=True):
            u_bar = u_bar + jnp.sum(coupling[:, :, None, :] * back, axis=0)
            W_bar = W_bar + jnp.einsum("jxb,jeb->jxe", x, pose)  # [j, i d, e]
        s = jnp.einsum("jxe,jxb->jeb", matrices, weighed[0])  # [j, e, b]
        return u_bar, (s, jnp.sum(pulled[0] * u[None], axis=2), W_bar)

    u_bar, (s, a, W_bar) = _in_groups(
        some, accumulate[0], (list(c), W, list(v), accumulate[1]), u.size
    )
    return s, a, (u_bar, W_bar)


def _weigh(c: Float[Array, "j i b"], u: Float[Array, "i d b"]) -> Float[Array, "j id b"]:
    return (c[:, :, None, :] * u[None]).reshape(c.shape[0], u.shape[0] * u.shape[1], u.shape[2])


def _pull(
    v: Float[Array, "j e b"], W: Float[Array, "j id e"], u: Float[Array, "i d b"]
) -> Float[Array, "j i d b"]:
    """Pull the parents' poses back to their children: W_ij^T v_j."""
    return jnp.einsum("jxe,jeb->jxb", W, v).reshape(W.shape[0], *u.shape)  # [j, i, d, b]


def _in_groups(
    step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, parents: Any, numbers: int
) -> tuple[Any, Any]:
    """Scan over parents, as many at a time as fit into `TOGETHER`.

    Args:
        step: from a carry and arrays of some parents to the next carry and arrays of the same parents.
        carry: the first carry.
        parents: arrays of all of them, [j, ...].
        numbers: how many numbers a parent takes.

    Returns:
        The last carry, and arrays of all parents.
    """
    j = jax.tree.leaves(parents)[0].shape[0]
    # A symbol, under `jax.export`, has no size yet: one parent at a time fits as well as it ever will.
    group = max(1, min(j, TOGETHER // max(1, numbers))) if isinstance(numbers, int) else 1
    if group == j:
        return step(carry, parents)
    whole = j // group * group

    def split(x: Array) -> Array:
        return x[:whole].reshape(whole // group, group, *x.shape[1:])

    def joined(x: Array) -> Array:
        return x.reshape(math.prod(x.shape[:2]), *x.shape[2:])

    carry, found = jax.lax.scan(step, carry, jax.tree.map(split, parents))
    found = jax.tree.map(joined, found)
    if whole == j:
        return carry, found
    carry, rest = step(carry, jax.tree.map(lambda x: x[whole:], parents))
    return carry, jax.tree.map(lambda *parts: jnp.concatenate(parts), found, rest)
