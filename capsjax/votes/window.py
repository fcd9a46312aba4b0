"""Votes of a convolution: matrices shared over positions, between a grid of children and one of parents."""

import dataclasses
import math

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

from capsjax.checks import UserError, nearest
from capsjax.numerics import as_array
from capsjax.votes.base import Masks, Votes, check_floating, is_placeholder
from capsjax.votes.columns import ColumnVotes
from capsjax.votes.grid import SHARES, Share, Window, WindowColumns, WindowPairs


@dataclasses.dataclass(frozen=True, repr=False)
class WindowVotes(Votes):
    """Hold capsules on a grid and the matrices of a convolution, and never form the votes.

    A parent at (y, x) has for children the capsules that its window sees, numbered by the place in the window
    and then by type, i = (k L + l) A + a for windows [K, L] and A types. Positions are leading axes, so the
    shape is (*batch, y, x, i, j, p e); only the coupling knows that windows share children.

    Under `jax.vmap` examples share W: map over u, or over votes with `in_axes=WindowVotes(0, None)`.

    Args:
        u: child poses, p rows of d components each, [*batch, h, w, a, p, d].
        W: matrices of each place in the window, type of child and type of parent, [k, l, a, j, d, e].
        stride: step between windows.
        share: what a child's couplings add up to 1 over: "child" for all its parents, at every position that
            sees it; "position" for the parents of each position by itself.
        masks: which children and parents are there; `mask` makes them.

    Raises:
        UserError: If the shapes do not fit, or these are not arrays of floating-point numbers.
    """

    u: Float[Array, "*batch h w a p d"]
    W: Float[Array, "k l a j d e"]
    stride: int = dataclasses.field(default=1, metadata={"static": True})
    share: Share = dataclasses.field(default="child", metadata={"static": True})

    def __post_init__(self):
        if not (is_placeholder(self.u) and is_placeholder(self.W)):
            self._check_fit()

    def _check_fit(self) -> None:
        """Refuse what is not arrays that fit together, also where a transformation made them."""
        check_floating("window_votes", self.u, self.W)
        if isinstance(self.stride, bool) or not isinstance(self.stride, int) or self.stride < 1:
            raise UserError(
                f"window_votes: got stride {self.stride!r}, expected an integer of at least 1"
            )
        if self.share not in SHARES:
            raise UserError(
                f"window_votes: got share {self.share!r}, expected one of {', '.join(SHARES)}"
                + nearest(str(self.share), SHARES)
            )
        u, W = self.u.shape, self.W.shape
        if len(u) >= 5 and len(W) == 6 and (u[-3], u[-1]) == (W[2], W[4]) and 0 not in W:
            if W[0] <= u[-5] and W[1] <= u[-4]:
                return
            raise UserError(
                f"window_votes: got children of {u[-3]} types on a grid {list(u[-5:-3])} and windows "
                f"{list(W[:2])}, expected windows that fit into the grid: smaller ones, or children with "
                "zeros around (jax.numpy.pad), as padding SAME of the layer conv_capsules puts them"
            )
        raise UserError(
            f"window_votes: got u {list(u)} and W {list(W)}, expected u [*batch, h, w, a, d], or "
            "[*batch, h, w, a, p, d] for pose matrices, and W [k, l, a, j, d, e]: the same types of children "
            f"a and the same child dimension d, and nothing of size 0 in W{_rows(u, W)}"
        )

    @property
    def window(self) -> Window:
        """Which children a parent sees."""
        rows, columns = self.W.shape[:2]
        h, w = self.u.shape[-5:-3]
        return Window((rows, columns), self.stride, (h, w))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that the votes would have, (*batch, y, x, k l a, j, p e)."""
        self._check_fit()
        i, (j, _, e) = math.prod(self.W.shape[:3]), self.W.shape[3:]
        return (*self.u.shape[:-5], *self.window.positions, i, j, self.u.shape[-2] * e)

    @property
    def dtype(self) -> jnp.dtype:
        """The type that the votes would have."""
        return jnp.promote_types(self.u.dtype, self.W.dtype)

    @property
    def pairs(self) -> WindowPairs:
        """A child votes for all parents whose windows see it, held as [*batch, y, x, i, j]."""
        masks = self._masks()
        return WindowPairs(self.shape[:-1], *masks, window=self.window, share=self.share)

    def seen(self, x: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        """Return what windows see of something of each child: what routings take as poses and activation.

        Args:
            x: [*batch, h, w, a, *rest], such as activations [*batch, h, w, a] or poses [*batch, h, w, a, d].

        Returns:
            The same for the children of each window, [*batch, y, x, i, *rest].

        Raises:
            UserError: If x is not on the grid of the children.
        """
        x = as_array("votes.seen", x)
        size, grid = self.u.ndim - 5, self.u.shape[:-2]
        if x.shape[: size + 3] != grid:
            raise UserError(
                f"votes.seen: got {list(x.shape)}, expected {list(grid)}, [*batch, h, w, a] of the children, "
                "and what there is of each behind it: padded as the poses are, and for every example "
                "(jax.numpy.broadcast_to) where one is meant for all"
            )
        batch, (h, w, a, *rest) = x.shape[:size], x.shape[size:]
        x = x.reshape(math.prod(batch), h, w, a, math.prod(rest)).transpose(3, 4, 1, 2, 0)
        found = self.window.gather(x).transpose(5, 3, 4, 0, 1, 2)  # [b, y, x, k l, a, rest]
        return found.reshape(*batch, *self.window.positions, math.prod(found.shape[3:5]), *rest)

    def combine(self, coupling: Float[Array, "*batch y x i j"]) -> Float[Array, "*batch y x j pe"]:
        """Weigh and sum, s_j = sum_i c_ij vote_ij: from [*batch, y, x, i, j] to [*batch, y, x, j, p e]."""
        self._check_pairs(coupling)
        votes = self._columns(jnp.promote_types(self.dtype, coupling.dtype))
        return votes.combine(votes.pairs.from_array(coupling.astype(votes.dtype)))

    def agreement(self, pose: Float[Array, "*batch y x j pe"]) -> Float[Array, "*batch y x i j"]:
        """Compare: a_ij = vote_ij . v_j. Pose [*batch, y, x, j, p e]; returns a, [*batch, y, x, i, j]."""
        self._check_poses(pose)
        votes = self._columns(jnp.promote_types(self.dtype, pose.dtype))
        return votes.pairs.to_array(votes.agreement(pose.astype(votes.dtype)))

    def dense(self) -> Float[Array, "*batch y x i j pe"]:
        """Form every vote, u W, [*batch, y, x, i, j, p e]."""
        seen = jnp.moveaxis(self.seen(self.u), -2, -3)  # [*batch, y, x, p, i, d]
        matrices = self.W.reshape(-1, *self.W.shape[3:])  # [i, j, d, e]
        votes = jnp.einsum("...id,ijde->...ije", seen, matrices)  # [*batch, y, x, p, i, j, e]
        return jnp.moveaxis(votes, -4, -2).reshape(self.shape)

    def cleared(self) -> "WindowVotes":
        """Return the votes with zeros for children that no window sees, and parents that are nowhere."""
        children, parents = self.masks or Masks()
        u, W = self.u, self.W
        if children is not None:
            window, *batch = self.window, *u.shape[:-5]
            sizes = *window.positions, window.places, u.shape[-3]
            here = children.reshape(math.prod(batch), *sizes).transpose(3, 4, 1, 2, 0)
            here = window.scatter(here, jnp.logical_or, False)  # [a, h, w, b]
            u = jnp.where(here.transpose(3, 1, 2, 0).reshape(u.shape[:-2])[..., None, None], u, 0)
        if parents is not None:
            kept = jnp.any(parents, axis=tuple(range(parents.ndim - 1)))  # [j]
            W = jnp.where(kept[:, None, None], W, 0)  # [k, l, a, j, d, e]
        return dataclasses.replace(self, u=u, W=W)

    def arranged(self) -> "WindowColumnVotes":
        """Return equal votes with what each window sees gathered once, examples last."""
        return self._columns(self.dtype)

    def _columns(self, dtype: DTypeLike) -> "WindowColumnVotes":
        self._check_fit()
        *batch, h, w, a, p, d = self.u.shape
        j, e = self.W.shape[3], self.W.shape[-1]
        u = self.u.reshape(math.prod(batch), h, w, a, p, d).transpose(3, 5, 4, 1, 2, 0)
        seen = self.window.gather(u)  # [k l, a, d, p, y, x, b]
        i = self.window.places * a
        matrices = jnp.swapaxes(self.W.reshape(i, j, d, e), 0, 1).reshape(j, i * d, e)
        return WindowColumnVotes(
            seen.reshape(i, d, math.prod(seen.shape[3:])).astype(dtype),
            matrices.astype(dtype),
            tuple(batch),
            self.window,
            self.share,
            p,
            masks=self.masks,
        )


@dataclasses.dataclass(frozen=True, repr=False)
class WindowColumnVotes(ColumnVotes):
    """Hold window votes as they are contracted: a column is a row of a pose at a position of an example.

    Args:
        u: what each window sees, [i, d, p y x b].
        matrices: for each type of parent, its matrices below each other, [j, i d, e].
        batch: the leading axes without positions, (*batch).
        window: which children a parent sees.
        share: what a child's couplings add up to 1 over.
        p: rows of a pose.
        masks: which children and parents are there; `mask` makes them.
    """

    batch: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    window: Window = dataclasses.field(metadata={"static": True})
    share: Share = dataclasses.field(metadata={"static": True})
    p: int = dataclasses.field(metadata={"static": True})

    @property
    def rows(self) -> int:
        """Rows of a pose, p."""
        return self.p

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that the votes would have, (*batch, y, x, i, j, p e)."""
        j, _, e = self.matrices.shape
        return (*self.batch, *self.window.positions, self.u.shape[0], j, self.rows * e)

    @property
    def pairs(self) -> WindowColumns:
        """A child votes for all parents whose windows see it, held as [j, i, n]."""
        masks = self._masks()
        return WindowColumns(self.shape[:-1], *masks, window=self.window, share=self.share)

    def uniform(self, leaky: bool = False) -> Float[Array, "*batch y x j pe"]:
        """Return the sum under the first coupling: one product where all children have j parents each.

        Args:
            leaky: whether a share is left for none of the parents.

        Returns:
            s, [*batch, y, x, j, p e].
        """
        # Windows that overlap give children in the middle more parents than those at the border.
        return super().uniform(leaky) if self.pairs.joined else self._shared(self.total(), leaky)

    def dense(self) -> Float[Array, "*batch y x i j pe"]:
        """Form every vote, [*batch, y, x, i, j, p e]."""
        i, d, _ = self.u.shape
        matrices = self.matrices.reshape(-1, i, d, self.matrices.shape[-1])  # [j, i, d, e]
        votes = jnp.einsum("idb,jide->ijeb", self.u, matrices)
        return self.batch_first(votes.reshape(-1, *votes.shape[2:])).reshape(self.shape)

    def batch_last(self, x: Shaped[Array, "*batch y x m pe"]) -> Shaped[Array, "m e pn"]:
        """Return vectors at positions, such as poses [*batch, y, x, j, p e], as columns, [j, e, p y x b]."""
        *_, m, f = x.shape
        x = x.reshape(math.prod(self.batch), *self.window.positions, m, self.rows, f // self.rows)
        x = x.transpose(3, 5, 4, 1, 2, 0)  # [m, e, p, y, x, b]
        return x.reshape(*x.shape[:2], math.prod(x.shape[2:]))

    def batch_first(self, x: Float[Array, "m e pn"]) -> Float[Array, "*batch y x m pe"]:
        """Return columns, such as [j, e, p y x b], as vectors at positions, [*batch, y, x, j, p e]."""
        m, e, _ = x.shape
        positions = self.window.positions
        x = x.reshape(m, e, self.rows, *positions, math.prod(self.batch))
        return x.transpose(5, 3, 4, 0, 2, 1).reshape(*self.batch, *positions, m, self.rows * e)

    def numbers_last(self, x: Shaped[Array, "*batch y x"]) -> Shaped[Array, "n"]:
        """Return a number of each position of each example as a line, [y x b]."""
        positions = self.window.positions
        x = x.reshape(math.prod(self.batch), *positions).transpose(1, 2, 0)
        return x.reshape(math.prod(positions) * math.prod(self.batch))


def window_votes(
    u: Float[Array, "..."],
    W: Float[Array, "k l a j d e"],
    *,
    stride: int = 1,
    share: Share = "child",
) -> WindowVotes:
    """Predict poses by a convolution: a parent's children are the capsules that its window sees.

    The child of type a at row y s + k, column x s + l has for the parent of type j at (y, x) the vote
    u W_klaj. Matrices are shared over positions, and windows share children. There is no padding: put zeros
    around u for more positions.

    A child at the border is seen by fewer windows and so has fewer parents. With `share="child"`, what the
    2018 paper says, the couplings of each child add up to 1 over all of them; with "position", as several
    public implementations have it, they add up to 1 at every position, so to 9 for a child in the middle of
    3 by 3 windows with stride 1.

    Args:
        u: child poses: vectors [*batch, h, w, a, d], or matrices of p rows [*batch, h, w, a, p, d]; what fits
            W, and where both do, that with a single batch axis. `WindowVotes` always has rows.
        W: transformation matrices, the trained parameter, [k, l, a, j, d, e].
        stride: step between windows.
        share: "child" or "position".

    Returns:
        The votes, of shape (*batch, y, x, k l a, j, p e), p = 1 for vectors. Routing gives poses
        [*batch, y, x, j, p e], and couplings [*batch, y, x, k l a, j], children in the order k, l, a.

    Raises:
        UserError: If the shapes do not fit, there is no parent, or these are not arrays of floating-point
            numbers.

    Example:
        >>> import jax.numpy as jnp
        >>> window_votes(jnp.ones([2, 5, 5, 3, 8]), jnp.ones([3, 3, 3, 4, 8, 16]), stride=2).shape
        (2, 2, 2, 27, 4, 16)

    Reference:
        Hinton, Sabour and Frosst 2018, section 4, "convolutional capsules".
    """
    u, W = as_array("window_votes: u", u), as_array("window_votes: W", W)
    check_floating("window_votes", u, W)  # before an axis that was not given
    if _are_vectors(u.shape, W.shape):
        u = u[..., None, :]  # [*batch, h, w, a, 1, d]
    return WindowVotes(u, W, stride, share)


def _are_vectors(u: tuple[int, ...], W: tuple[int, ...]) -> bool:
    """Return whether poses are vectors, by what fits: a type and a component, or p rows between them."""
    if len(W) != 6 or len(u) < 4:
        return False
    vector, matrix = ((u[at], u[-1]) == (W[2], W[4]) for at in (-2, -3))
    return len(u) == 5 if vector and matrix and len(u) >= 5 else vector


def _rows(u: tuple[int, ...], W: tuple[int, ...]) -> str:
    """Say how vectors become the pose matrices that W takes, where they may be meant."""
    flat = len(W) == 6 and len(u) in (4, 5) and u[-2] == W[2] and W[4] > 0
    if not flat or u[-1] in (0, W[4]) or u[-1] % W[4]:
        return ""
    p, d = u[-1] // W[4], W[4]
    # With one batch axis, where both readings fit, matrices are taken.
    batch = "1, " if _are_vectors((*u[:-1], p, d), W) else ""
    return f"; poses that are matrices of {p} rows are u.reshape({batch}*u.shape[:-1], {p}, {d})"
