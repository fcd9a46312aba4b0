"""The contractions of linear votes as a pass over the children that keeps nothing, in Pallas for CUDA.

A child's votes are formed in registers, d multiplications each, from its pose and its matrices, which are
read once; they are weighed or compared, and forgotten. Only sums over children cross them: one partial sum
for each tile of children. So nothing of the size of the votes is ever in memory, however many iterations.

Since agreement is linear in the pose, the logits of dynamic routing are one agreement with the sum S of the
poses so far. A child can therefore be routed in the same pass, by S alone: `attend` and its reverse mode keep
neither logits nor couplings.

Inside a kernel arrays have sizes that are powers of two: [J, E, t] for parents, components and a tile of the
batch. What is beyond the real sizes is read as 0, and not written.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float

TILE = 32  # children for each partial sum, and examples at most for each program
REGISTERS = 8192  # numbers of one array [J, E, t] that a program holds
LARGEST_DIM = 32  # components of a child's pose: they are written out
FEWEST = 2**20  # votes from which on a pass is worth a kernel of its own

Cotangents = tuple[Float[Array, "i d b"], Float[Array, "j id e"]]
Weights = Callable[["Child", Array], Array]


def fits(u: Float[Array, "i d b"], W: Float[Array, "j id e"]) -> bool:
    """Return whether the kernels can take arrays, and are worth it.

    Args:
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].

    Returns:
        False for other types than float32, for sizes that are not known yet, for so many parents that a tile
        of 16 examples would not fit into registers, for long child poses and for few votes.
    """
    sizes = (*u.shape, W.shape[0], W.shape[2])
    if u.dtype != jnp.float32 or W.dtype != jnp.float32:
        return False
    if not all(isinstance(size, int) for size in sizes) or u.shape[1] > LARGEST_DIM:
        return False
    i, _, b, j, e = sizes
    return i * b * j * e >= FEWEST and _power(j) * _power(e) * 16 <= REGISTERS


class Sizes(NamedTuple):
    """Hold the sizes of the arrays, and those of tiles.

    Attributes:
        i: children.
        d: components of a child's pose.
        b: examples.
        j: parents.
        e: components of a parent's pose.
    """

    i: int
    d: int
    b: int
    j: int
    e: int

    @classmethod
    def of(cls, u: Float[Array, "i d b"], W: Float[Array, "j id e"]) -> "Sizes":
        """Take them from arrays.

        Args:
            u: child poses, [i, d, b].
            W: transformation matrices, [j, i d, e].

        Returns:
            The sizes.
        """
        (i, d, b), (j, _, e) = u.shape, W.shape
        return cls(i, d, b, j, e)

    @property
    def parents(self) -> tuple[int, int]:
        """J and E, parents and components as powers of two."""
        return _power(self.j), _power(self.e)

    @property
    def tile(self) -> int:
        """Examples for each program."""
        return min(TILE, _power(self.b), REGISTERS // math.prod(self.parents))


class Child(NamedTuple):
    """Hold what a kernel knows of one child and a tile of examples.

    Attributes:
        number: which child, [].
        u: its pose, d arrays [t].
        W: its matrices, d arrays [J, E].
        votes: its votes, [J, E, t].
        there: which parents are real, [J, t].
    """

    number: Any
    u: list[Array]
    W: list[Array]
    votes: Array
    there: Array


def combine(
    c: Float[Array, "j i b"],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
    *,
    interpret: bool = False,
) -> Float[Array, "j e b"]:
    """Weigh and sum over children, s_j = sum_i c_ij W_ij u_i.

    Args:
        c: coupling, [j, i, b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].
        interpret: run it without a GPU, to test it.

    Returns:
        s, [j, e, b].
    """
    return _sum(_given, (c,), u, W, interpret)


def agreements(
    v: Sequence[Float[Array, "j e b"]],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
    *,
    interpret: bool = False,
) -> list[Float[Array, "j i b"]]:
    """Compare every vote with several poses, a_ij = (W_ij u_i) . v_j.

    Args:
        v: parent poses, each [j, e, b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].
        interpret: run it without a GPU, to test it.

    Returns:
        One agreement for each, [j, i, b].
    """
    sizes = Sizes.of(u, W)

    def kernel(u_ref: Any, W_ref: Any, *refs: Any) -> None:
        poses, outs = refs[: len(v)], refs[len(v) :]
        first, at = pl.program_id(0) * TILE, pl.program_id(1) * sizes.tile
        held = [_poses(ref, at, sizes) for ref in poses]

        def one(k: Any, nothing: Any) -> Any:
            child = _child(u_ref, W_ref, first + k, at, sizes)
            for pose, out in zip(held, outs, strict=True):
                where, mask = _pair(out, child, at, sizes)
                triton.store(where, jnp.sum(child.votes * pose, 1), mask=mask)
            return nothing

        jax.lax.fori_loop(0, TILE, one, 0)

    shape = jax.ShapeDtypeStruct((sizes.j, sizes.i, sizes.b), u.dtype)
    call = _call(kernel, _grid(sizes), [shape] * len(v), interpret)
    return list(call(_rows(u), W, *v))


def adjoint(
    c: Sequence[Float[Array, "j i b"]],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
    v: Sequence[Float[Array, "j e b"]],
    accumulate: Cotangents,
    *,
    interpret: bool = False,
) -> tuple[Float[Array, "j e b"], Float[Array, "j i b"], Cotangents]:
    """Differentiate T = sum_kij c_kij (W_ij u_i) . v_kj with respect to all it is made of.

    Three kernels: the compiler drops those whose result is not used.

    Args:
        c: couplings, each [j, i, b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].
        v: poses, one for each coupling, each [j, e, b].
        accumulate: what dT/du, [i, d, b], and dT/dW, [j, i d, e], are added to.
        interpret: run it without a GPU, to test it.

    Returns:
        dT/dv_0, [j, e, b], and dT/dc_0, [j, i, b], of the first term; and dT/du and dT/dW of all terms, added
        to `accumulate`.
    """
    sizes, terms = Sizes.of(u, W), len(c)

    def outer(child: Child, at: Any, *refs: Any) -> Array:
        x = jnp.zeros(child.votes.shape, child.votes.dtype)
        for coupling, pose in zip(refs[:terms], refs[terms:], strict=True):
            x = x + _given(child, at, sizes, coupling)[:, None, :] * _poses(pose, at, sizes)
        return x

    s = combine(c[0], u, W, interpret=interpret)
    a = agreements(v[:1], u, W, interpret=interpret)[0]
    return s, a, _collect(outer, (*c, *v), u, W, accumulate, interpret)


def attend(
    total: Float[Array, "j e b"],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
    *,
    leaky: bool,
    interpret: bool = False,
) -> Float[Array, "j e b"]:
    """Weigh by agreement and sum: s_j = sum_i c_ij W_ij u_i for c = softmax over parents of (W_ij u_i) . S_j.

    Args:
        total: S, [j, e, b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].
        leaky: whether a zero logit stands for "none of the parents".
        interpret: run it without a GPU, to test it.

    Returns:
        s, [j, e, b].
    """

    def weights(child: Child, at: Any, sizes: Sizes, total: Any) -> Array:
        return _couple(child, _poses(total, at, sizes), leaky)

    return _sum(weights, (total,), u, W, interpret)


def attend_adjoint(
    total: Float[Array, "j e b"],
    s_bar: Float[Array, "j e b"],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
    accumulate: Cotangents,
    *,
    leaky: bool,
    interpret: bool = False,
) -> tuple[Float[Array, "j e b"], Cotangents]:
    """Pull a cotangent of `attend` back to all that it is made of.

    Args:
        total: S, [j, e, b].
        s_bar: the cotangent, [j, e, b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].
        accumulate: what those of u, [i, d, b], and of W, [j, i d, e], are added to.
        leaky: as in `attend`.
        interpret: run it without a GPU, to test it.

    Returns:
        That of S, [j, e, b]; and those of u and W, added to `accumulate`.
    """

    def pulled(child: Child, at: Any, sizes: Sizes, total: Any, bar: Any) -> Array:
        c = _couple(child, _poses(total, at, sizes), leaky)
        return _couple_adjoint(child, c, _poses(bar, at, sizes))

    def outer(child: Child, at: Any, total: Any, bar: Any) -> Array:
        held, cotangent = _poses(total, at, sizes), _poses(bar, at, sizes)
        c = _couple(child, held, leaky)
        b_bar = _couple_adjoint(child, c, cotangent)
        return c[:, None, :] * cotangent + b_bar[:, None, :] * held

    sizes = Sizes.of(u, W)
    total_bar = _sum(pulled, (total, s_bar), u, W, interpret)
    return total_bar, _collect(outer, (total, s_bar), u, W, accumulate, interpret)


def _sum(
    weights: Callable[..., Array],
    given: tuple[Array, ...],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
    interpret: bool,
) -> Float[Array, "j e b"]:
    """Sum the votes over children, weighed by [J, t] for each."""
    sizes = Sizes.of(u, W)

    def kernel(u_ref: Any, W_ref: Any, *refs: Any) -> None:
        *held, out = refs
        tile, at = pl.program_id(0), pl.program_id(1) * sizes.tile
        first = tile * TILE

        def one(k: Any, total: Array) -> Array:
            child = _child(u_ref, W_ref, first + k, at, sizes)
            return total + weights(child, at, sizes, *held)[:, None, :] * child.votes

        start = jnp.zeros((*sizes.parents, sizes.tile), u.dtype)
        total = jax.lax.fori_loop(0, TILE, one, start)
        where = out.at[(tile, *_at_parents(at, sizes))]
        triton.store(where, total, mask=_mask(at, sizes))

    tiles = _grid(sizes)[0]
    shape = jax.ShapeDtypeStruct((tiles, sizes.j, sizes.e, sizes.b), u.dtype)
    (partial,) = _call(kernel, _grid(sizes), [shape], interpret)(_rows(u), W, *given)
    return jnp.sum(partial, axis=0)


def _collect(
    outer: Callable[..., Array],
    given: tuple[Array, ...],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
    accumulate: Cotangents,
    interpret: bool,
) -> Cotangents:
    """Pull cotangents of the votes, [J, E, t] for each child, back to u and W.

    A program has a child with all examples, as those are what W's cotangent sums over.
    """
    sizes = Sizes.of(u, W)

    def kernel(u_ref: Any, W_ref: Any, *refs: Any) -> None:
        *held, u_onto, W_onto, u_out, W_out = refs
        number = pl.program_id(0)

        def some(n: Any, W_bar: tuple[Array, ...]) -> tuple[Array, ...]:
            at = n * sizes.tile
            child = _child(u_ref, W_ref, number, at, sizes)
            x = outer(child, at, *held)  # [J, E, t]
            for d in range(sizes.d):
                where, mask = _part(number, d, at, sizes)
                u_bar = jnp.sum(jnp.sum(child.W[d][:, :, None] * x, 1), 0)
                before = triton.load(u_onto.at[where], mask=mask, other=0)
                triton.store(u_out.at[where], before + u_bar, mask=mask)
            more = (jnp.sum(part[None, None, :] * x, 2) for part in child.u)
            return tuple(map(jnp.add, W_bar, more))

        chunks, nothing = -(-sizes.b // sizes.tile), jnp.zeros(sizes.parents, u.dtype)
        found = jax.lax.fori_loop(0, chunks, some, (nothing,) * sizes.d)
        for d, W_bar in enumerate(found):
            where, mask = _matrix(number, d, sizes)
            before = triton.load(W_onto.at[where], mask=mask, other=0)
            triton.store(W_out.at[where], before + W_bar, mask=mask)

    start = _rows(accumulate[0]), accumulate[1]
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in start]
    u_bar, W_bar = _call(kernel, (sizes.i,), shapes, interpret)(_rows(u), W, *given, *start)
    return u_bar.reshape(u.shape), W_bar


def _couple(child: Child, total: Array, leaky: bool) -> Array:
    """Return the coupling under a sum of poses, [J, t]."""
    logits = jnp.where(child.there, jnp.sum(child.votes * total, 1), -jnp.inf)
    largest = jnp.max(logits, 0)
    largest = jnp.maximum(largest, 0) if leaky else largest
    shares = jnp.exp(logits - largest[None])
    whole = jnp.sum(shares, 0)
    return shares / (whole + jnp.exp(-largest) if leaky else whole)[None]


def _couple_adjoint(child: Child, coupling: Array, pose_bar: Array) -> Array:
    """Pull the cotangent of a sum of votes back to the logits, [J, t]."""
    c_bar = jnp.sum(child.votes * pose_bar, 1)
    return coupling * (c_bar - jnp.sum(coupling * c_bar, 0)[None])


def _given(child: Child, at: Any, sizes: Sizes, coupling: Any) -> Array:
    """Read a child's coupling, [J, t]."""
    where, mask = _pair(coupling, child, at, sizes)
    return triton.load(where, mask=mask, other=0)


def _child(u_ref: Any, W_ref: Any, number: Any, at: Any, sizes: Sizes) -> Child:
    """Read a child's pose and matrices, and form its votes."""
    pose, matrices = [], []
    for d in range(sizes.d):
        where, mask = _part(number, d, at, sizes)
        pose.append(triton.load(u_ref.at[where], mask=mask, other=0))
        where, mask = _matrix(number, d, sizes)
        matrices.append(triton.load(W_ref.at[where], mask=mask, other=0))
    parts = [m[:, :, None] * x[None, None, :] for m, x in zip(matrices, pose, strict=True)]
    there = jax.lax.broadcasted_iota(jnp.int32, (sizes.parents[0], sizes.tile), 0) < sizes.j
    return Child(number, pose, matrices, functools.reduce(jnp.add, parts), there)


def _part(number: Any, d: int, at: Any, sizes: Sizes) -> tuple[Any, Array]:
    """Return where component d of a child's pose is, [t], and what of it is there."""
    where = number * sizes.d + d, pl.ds(at, sizes.tile)
    return where, (_examples(at, sizes) < sizes.b) & (number < sizes.i)


def _matrix(number: Any, d: int, sizes: Sizes) -> tuple[Any, Array]:
    """Return where row d of a child's matrices is, [J, E], and what of it is there."""
    J, E = sizes.parents
    parents, parts = (jax.lax.broadcasted_iota(jnp.int32, (J, E), axis) for axis in (0, 1))
    mask = (parents < sizes.j) & (parts < sizes.e) & (number < sizes.i)
    return (pl.ds(0, J), number * sizes.d + d, pl.ds(0, E)), mask


def _pair(ref: Any, child: Child, at: Any, sizes: Sizes) -> tuple[Any, Array]:
    """Return where what is held for a child's pairs is, [J, t], and what of it is there."""
    where = ref.at[pl.ds(0, sizes.parents[0]), child.number, pl.ds(at, sizes.tile)]
    examples = (_examples(at, sizes) < sizes.b)[None, :]
    return where, child.there & examples & (child.number < sizes.i)


def _poses(ref: Any, at: Any, sizes: Sizes) -> Array:
    """Read parent poses, [J, E, t]."""
    return triton.load(ref.at[_at_parents(at, sizes)], mask=_mask(at, sizes), other=0)


def _at_parents(at: Any, sizes: Sizes) -> tuple[Any, ...]:
    J, E = sizes.parents
    return pl.ds(0, J), pl.ds(0, E), pl.ds(at, sizes.tile)


def _mask(at: Any, sizes: Sizes) -> Array:
    """Return which of [J, E, t] are real."""
    shape = (*sizes.parents, sizes.tile)
    j, e, b = (jax.lax.broadcasted_iota(jnp.int32, shape, axis) for axis in range(3))
    return (j < sizes.j) & (e < sizes.e) & (b + at < sizes.b)


def _examples(at: Any, sizes: Sizes) -> Array:
    return at + jax.lax.iota(jnp.int32, sizes.tile)


def _rows(u: Float[Array, "i d b"]) -> Float[Array, "id b"]:
    return u.reshape(u.shape[0] * u.shape[1], u.shape[2])


def _grid(sizes: Sizes) -> tuple[int, int]:
    """Return the tiles of children and of examples."""
    return -(-sizes.i // TILE), -(-sizes.b // sizes.tile)


def _call(kernel: Any, grid: tuple[int, ...], out_shape: list[Any], interpret: bool) -> Any:
    # One tile of [J, E, t] takes half the registers of 128 threads; there is nothing to prefetch.
    params = None if interpret else triton.CompilerParams(num_warps=4, num_stages=1)
    return pl.pallas_call(kernel, out_shape, grid=grid, interpret=interpret, compiler_params=params)


def _power(size: int) -> int:
    """Return the least power of two that is no smaller."""
    return 1 << (size - 1).bit_length()
