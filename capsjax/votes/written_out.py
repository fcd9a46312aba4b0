"""The contractions of votes as sums of products that are written out, each one loop along the columns.

A matrix product for each parent writes and reads an array as large as the children, [i d, b], and one of its
sides is as short as a pose. A CPU spends its time on those arrays. Written out, all products for a place of
the result are one expression, and little stands in memory but the operands and the result
(docs/decisions/0025). Arrays are those of `contractions`. Each function returns None where products of
matrices are better, or where numbers are so short that sums need the accumulators of products.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata
from jaxtyping import Array, Float

READ = 200  # the compiler vectorises no loop that reads about 250 arrays or more
TERMS = 256  # of 512 over eight columns it ran out of memory
CHILDREN, MORE = (8, 9, 6, 7, 5, 4), 12  # at a time, the best first; but more where they are near
NEAR = 12 * 2**10  # numbers, 48 KB, that stay in a core's first cache
PARENTS = 72  # numbers of parents' poses and couplings that are read for each of a child
CALLS = 8  # passes over the children, each for some parents
# The length of a parent's pose up to which cotangents of children are better written out.
SHORT = 8
LARGE = 2**25  # numbers of an array, 128 MB


def agreements(
    v: Sequence[Float[Array, "j e b"]],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
    rows: int,
) -> list[Float[Array, "j i n"]] | None:
    """Compare every vote with several poses, a_ij = u_i . (W_ij^T v_j).

    Args:
        v: parent poses, each [j, e, b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].
        rows: p, rows of a pose.

    Returns:
        One agreement for each, [j, i, n].
    """
    if not _exact(*v, u, W) or not _few_terms(rows, 1, u, W):
        return None
    return [_alone(_agreement, rows, pose, u, W) for pose in v]


def _agreement(rows: int, v: Array, u: Array, W: Array) -> Float[Array, "j i n"]:
    (j, e, _), (i, d, _) = v.shape, u.shape
    poses, children = _by_row(v, rows), _by_row(u, rows)  # [j, e, p, n] and [i, d, p, n]
    matrices = W.reshape(j, i, d, e)

    def back(k: int, row: int) -> Float[Array, "j i n"]:
        return _sum(matrices[:, :, k, h, None] * poses[:, None, h, row] for h in range(e))

    places = ((k, row) for row in range(rows) for k in range(d))
    return _sum(back(k, row) * children[None, :, k, row] for k, row in places)


def combine(
    c: Float[Array, "j i n"], u: Float[Array, "i d b"], W: Float[Array, "j id e"], rows: int
) -> Float[Array, "j e b"] | None:
    """Weigh and sum over children, s_j = sum_i c_ij W_ij u_i, a few children at a time.

    Args:
        c: coupling, [j, i, n].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].
        rows: p, rows of a pose.

    Returns:
        s, [j, e, b].
    """
    sizes = _of_children(rows, u, W)
    if sizes is None or not _exact(c, u, W):
        return None
    return _add_up(_alone(_combine, sizes, c, u, W))


def _combine(sizes: tuple[int, int], c: Array, u: Array, W: Array) -> Float[Array, "g j e p n"]:
    return _over_children(sizes, jnp.multiply, [c], u, W)


class Deviations(NamedTuple):
    """Make sums over the deviations of votes, D_ij = (W_ij u_i - m_j) / unit.

    Attributes:
        inverse: 1 / unit, [b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].
        sizes: p, rows of a pose, and how many children are added up at a time.
    """

    inverse: Float[Array, "b"]
    u: Float[Array, "i d b"]
    W: Float[Array, "j id e"]
    sizes: tuple[int, int]

    def scatter(self, c: Float[Array, "j i n"], m: Float[Array, "j e b"]) -> Float[Array, "j e b"]:
        """Weigh and sum squares over children.

        Args:
            c: weights, [j, i, n].
            m: centres, [j, e, b].

        Returns:
            sum_i c_ij D_ij^2, [j, e, b].
        """
        return _add_up(_alone(_scatter, self.sizes, [c], m, self.inverse, self.u, self.W))

    def deviation(
        self,
        weights: Sequence[Float[Array, "j i n"]],
        factors: Sequence[Float[Array, "j e b"]],
        m: Float[Array, "j e b"],
    ) -> Float[Array, "j e b"]:
        """Weigh and sum deviations over children.

        Args:
            weights: w_k, each [j, i, n].
            factors: f_k, one for each, [j, e, b].
            m: centres, [j, e, b].

        Returns:
            sum_ik w_kij f_kj D_ij, [j, e, b].
        """
        given = list(weights), m, self.inverse, self.u, self.W, *factors
        return _add_up(_alone(_deviation, self.sizes, *given))

    def distance(self, m: Float[Array, "j e b"], p: Float[Array, "j e b"]) -> Float[Array, "j i n"]:
        """Weigh and sum squares over components.

        Args:
            m: centres, [j, e, b].
            p: precisions, [j, e, b].

        Returns:
            sum_h p_jh D_ijh^2, [j, i, n].
        """
        return _alone(_distance, self.sizes[0], m, p, self.inverse, self.u, self.W)


def deviations(
    x: Float[Array, "..."],
    unit: Float[Array, "b"],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
    rows: int,
) -> Deviations | None:
    """Return what makes sums over the deviations of votes; where it is there, `combine` is written out too.

    Args:
        x: weights or precisions, of which only the type counts.
        unit: what deviations are measured in, [b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].
        rows: p, rows of a pose.

    Returns:
        The sums.
    """
    sizes = _of_children(rows, u, W)
    if sizes is None or not _few_terms(rows, 2, u, W) or not _exact(x, u, W):
        return None
    return Deviations(1 / unit, u, W, sizes)


def _scatter(
    sizes: tuple[int, int], c: list[Array], m: Array, inverse: Array, u: Array, W: Array
) -> Float[Array, "g j e p n"]:
    apart = _apart(sizes[0], m, inverse)
    return _over_children(sizes, lambda c, vote: c * jnp.square(apart(vote)), c, u, W)


def _deviation(
    sizes: tuple[int, int],
    weights: list[Array],
    m: Array,
    inverse: Array,
    u: Array,
    W: Array,
    *factors: Array,
) -> Float[Array, "g j e p n"]:
    apart, each = _apart(sizes[0], m, inverse), [_by_row(x, sizes[0])[None] for x in factors]

    def weigh(*given: Array) -> Array:
        *weights, vote = given
        return _sum(w * f for w, f in zip(weights, each, strict=True)) * apart(vote)

    return _over_children(sizes, weigh, weights, u, W)


def _apart(rows: int, m: Array, inverse: Array) -> Callable[[Array], Array]:
    """Return what makes a deviation of a vote, [g, j, e, p, n]."""
    centres, inverse = _by_row(m, rows)[None], inverse.reshape(1, 1, 1, rows, -1)
    return lambda vote: (vote - centres) * inverse


def _distance(
    rows: int, m: Array, p: Array, inverse: Array, u: Array, W: Array
) -> Float[Array, "j i n"]:
    (j, e, _), (i, d, _) = m.shape, u.shape
    centres, precisions, children = (_by_row(x, rows) for x in (m, p, u))
    matrices, inverse = W.reshape(j, i, d, e), inverse.reshape(1, 1, rows, -1)

    def term(h: int, row: int) -> Float[Array, "j i n"]:
        votes = _sum(matrices[:, :, k, h, None] * children[None, :, k, row] for k in range(d))
        deviations = (votes - centres[:, None, h, row]) * inverse[:, :, row]
        return precisions[:, None, h, row] * jnp.square(deviations)

    return _sum(term(h, row) for row in range(rows) for h in range(e))


def _of_children(rows: int, u: Array, W: Array) -> tuple[int, int] | None:
    """Return the rows of a pose, and how many children at a time; None where products are better."""
    (i, d, b), (j, _, e) = u.shape, W.shape
    near = isinstance(b, int) and MORE * (d + 1) * (b // rows) <= NEAR
    sizes = (MORE, *CHILDREN) if near else CHILDREN
    size = next((k for k in sizes if i and i % k == 0 and k * (d + 1) <= READ), 0)
    return (rows, size) if size and _numbers(i // size, j, e, b) <= LARGE else None


def _few_terms(rows: int, poses: int, u: Array, W: Array) -> bool:
    """Return whether sums for each pair are short, which read some poses of the parent beside the child's."""
    d, e = u.shape[1], W.shape[-1]
    return rows * d * e <= TERMS and rows * (d + poses * e) <= READ


def _over_children(
    sizes: tuple[int, int],
    weigh: Callable[..., Array],
    weights: Sequence[Float[Array, "j i n"]],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
) -> Float[Array, "g j e p n"]:
    """Add up what is made of the weights of each vote and the vote, over the children of each group."""
    rows, size = sizes
    (i, d, _), (j, _, e) = u.shape, W.shape
    groups = i // size
    children = _by_row(u, rows).reshape(groups, size, d, rows, -1)
    each = [x.reshape(j, groups, size, -1) for x in weights]
    matrices = W.reshape(j, groups, size, d, e)

    def vote(child: int) -> Float[Array, "g j e p n"]:
        return _sum(
            matrices[:, :, child, k].swapaxes(0, 1)[..., None, None]
            * children[:, None, None, child, k]
            for k in range(d)
        )

    def weights_of(child: int) -> list[Float[Array, "g j 1 1 n"]]:
        return [x[:, :, child].swapaxes(0, 1)[:, :, None, None] for x in each]

    return _sum(weigh(*weights_of(k), vote(k)) for k in range(size))


def children_bar(
    c: Sequence[Float[Array, "j i n"]],
    v: Sequence[Float[Array, "j e b"]],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
    rows: int,
    start: Float[Array, "i d b"] | None,
) -> Float[Array, "i d b"] | None:
    """Differentiate T = sum_kij c_kij (W_ij u_i) . v_kj with respect to u, a few parents at a time.

    Args:
        c: couplings, each [j, i, n].
        v: poses, one for each coupling, each [j, e, b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].
        rows: p, rows of a pose.
        start: what it is added to, [i, d, b]; None for nothing.

    Returns:
        dT/du, sum_kj c_kij W_ij^T v_kj, [i, d, b].
    """
    j, e, poses = W.shape[0], W.shape[-1], [_by_row(pose, rows) for pose in v]
    most = PARENTS // (len(c) * (e + 1))
    size = next((size for size in range(most, 0, -1) if j % size == 0), 0)
    if not _exact(*c, *v, u, W) or e > SHORT or not size or j // size > CALLS:
        return None
    # Rows apart to the end: for a loop over columns of all rows the compiler divides, and vectorises nothing.
    found: Any = None if start is None else _by_row(start, rows)
    for first in range(0, j, size):
        found = _alone(_children_bar, (u.shape[1], first, size), list(c), poses, W, found)
    return found.reshape(u.shape)


def _children_bar(
    sizes: tuple[int, ...], c: list[Array], v: list[Array], W: Array, start: Array | None
) -> Float[Array, "i d p n"]:
    d, first, size = sizes
    i, e = c[0].shape[1], W.shape[-1]
    terms = [] if start is None else [start]
    for parent in range(first, first + size):
        matrix = W[parent].reshape(i, d, e)
        for coupling, pose in zip(c, v, strict=True):
            each = (matrix[..., h, None, None] * pose[parent, None, None, h] for h in range(e))
            terms.append(_sum(each) * coupling[parent][:, None, None])
    return _sum(terms)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _called(work: Callable[..., Array], sizes: Any, *arrays: Any) -> Array:
    return work(sizes, *arrays)


def _alone(work: Callable[..., Array], sizes: Any, *arrays: Any) -> Array:
    """Do work as a function that the compiler calls, and into which it draws nothing of how arrays are made.

    It would make each number of an operand again wherever it is read, and loops would read too much.
    """
    with set_xla_metadata(inlineable="false"):
        return _called(work, sizes, *arrays)


def _exact(*arrays: Float[Array, "..."]) -> bool:
    """Return whether numbers are long enough to be added up one by one."""
    return all(jnp.finfo(x.dtype).bits >= 32 for x in arrays)


def _numbers(*sizes: int) -> int:
    """Return how many numbers an array has; 0 where a size is a symbol."""
    return math.prod(sizes) if all(isinstance(x, int) for x in sizes) else 0


def _by_row(x: Float[Array, "m d b"], rows: int) -> Float[Array, "m d p n"]:
    return x.reshape(*x.shape[:2], rows, x.shape[-1] // rows)


def _sum(terms: Iterable[Array]) -> Array:
    return functools.reduce(jnp.add, terms)


def _add_up(parts: Float[Array, "g j e p n"]) -> Float[Array, "j e b"]:
    """Add up the groups by a loop: into it the compiler draws nothing of how they are made."""
    start = (0 * parts[0] > 1).astype(parts.dtype)  # zeros, of NaN too, that lie where the parts do
    whole = jax.lax.scan(lambda found, part: (found + part, None), start, parts)[0]
    return whole.reshape(*whole.shape[:2], whole.shape[2] * whole.shape[3])
