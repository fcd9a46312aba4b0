"""Votes by matrices that all children share, never formed: a set of points, or of behaviours."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax.checks import UserError
from capsjax.numerics import as_array
from capsjax.votes.base import Masks, Votes, check_floating, is_placeholder


@dataclasses.dataclass(frozen=True, repr=False)
class SharedVotes(Votes):
    """Hold children's poses and the matrices that they share: vote_ij = W_j u_i, or W u_i for every parent.

    A sum of votes is (sum_i c_ij u_i) W_j, so that it takes i j d and j d e products, where matrices of
    each pair's own take i j d e; and there may be any number of children.

    Args:
        u: child poses, [*batch, i, d].
        W: matrices, one for each parent, [j, d, e], or one for all, [d, e]: W[j] is the transpose of the W_j
            that stands before u_i.
        parents: how many parents there are, j.
        masks: which children and parents are there; `mask` makes them.
    """

    u: Float[Array, "*batch i d"]
    W: Float[Array, "j d e"] | Float[Array, "d e"]
    parents: int = dataclasses.field(metadata={"static": True})

    def __post_init__(self):
        if not (is_placeholder(self.u) and is_placeholder(self.W)):
            self._check_fit()

    def _check_fit(self) -> None:
        check_floating("shared_votes", self.u, self.W)
        u, W = self.u.shape, self.W.shape
        fits = len(u) >= 2 and len(W) in (2, 3) and W[-2] == u[-1] and W[-1] > 0
        if not fits or (len(W) == 3 and W[0] != self.parents):
            raise UserError(
                f"shared_votes: got u {list(u)} and W {list(W)} for {self.parents} parents, expected u "
                "[*batch, i, d] and W [j, d, e] or [d, e]: the same child dimension d, and a matrix for each "
                "parent or one for all"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that the votes would have, (*batch, i, j, e)."""
        self._check_fit()
        return (*self.u.shape[:-1], self.parents, self.W.shape[-1])

    @property
    def dtype(self) -> jnp.dtype:
        """The type that the votes would have."""
        return jnp.promote_types(self.u.dtype, self.W.dtype)

    def combine(self, coupling: Float[Array, "*batch i j"]) -> Float[Array, "*batch j e"]:
        """Weigh and sum: s_j = (sum_i c_ij u_i) W_j. Coupling [*batch, i, j]; returns s, [*batch, j, e]."""
        self._check_pairs(coupling)
        gathered = jnp.einsum("...ij,...id->...jd", coupling, self.u)  # [*batch, j, d]
        if self.W.ndim == 2:
            return gathered @ self.W  # [*batch, j, e]
        return jnp.einsum("...jd,jde->...je", gathered, self.W)  # [*batch, j, e]

    def agreement(self, pose: Float[Array, "*batch j e"]) -> Float[Array, "*batch i j"]:
        """Compare: a_ij = u_i . (W_j v_j). Pose [*batch, j, e]; returns a, [*batch, i, j]."""
        self._check_poses(pose)
        one = "de" if self.W.ndim == 2 else "jde"
        pulled = jnp.einsum(f"...je,{one}->...jd", pose, self.W)  # [*batch, j, d]
        return jnp.einsum("...id,...jd->...ij", self.u, pulled)  # [*batch, i, j]

    def dense(self) -> Float[Array, "*batch i j e"]:
        """Form every vote, [*batch, i, j, e]."""
        if self.W.ndim == 2:
            return jnp.broadcast_to((self.u @ self.W)[..., None, :], self.shape)
        return jnp.einsum("...id,jde->...ije", self.u, self.W)  # [*batch, i, j, e]

    def cleared(self) -> "SharedVotes":
        """Return the votes with zeros for masked children, and for parents that no example has."""
        children, parents = self.masks or Masks()
        u, W = self.u, self.W
        if children is not None:
            u = jnp.where(children[..., None], u, 0)  # [*batch, i, d]
        if parents is not None and W.ndim == 3:
            kept = jnp.any(parents, axis=tuple(range(parents.ndim - 1)))  # [j]
            W = jnp.where(kept[:, None, None], W, 0)  # [j, d, e]
        return dataclasses.replace(self, u=u, W=W)


def shared_votes(
    u: Float[Array, "*batch i d"],
    W: Float[Array, "j d e"] | Float[Array, "d e"],
    *,
    parents: int | None = None,
) -> SharedVotes:
    """Predict parents' poses by matrices that all children share: vote_ij = W_j u_i.

    With one matrix for each parent these are the shared transformations of Gu and Tresp 2020. With one for
    all, [d, e], a child votes alike for every parent, and what tells parents apart is where routing begins,
    such as the centres of `SoftKMeansRouting`. The votes are never formed.

    Args:
        u: child poses, [*batch, i, d].
        W: matrices, [j, d, e], or one, [d, e].
        parents: how many parents there are; to be given with one matrix, and only then.

    Returns:
        The votes, of shape (*batch, i, j, e).

    Raises:
        UserError: If the shapes do not fit, or the number of parents is missing or not a positive integer.

    Example:
        >>> import jax.numpy as jnp
        >>> shared_votes(jnp.ones([4, 6, 8]), jnp.ones([3, 8, 16])).shape
        (4, 6, 3, 16)
        >>> shared_votes(jnp.ones([4, 6, 8]), jnp.ones([8, 16]), parents=3).shape
        (4, 6, 3, 16)

    Reference:
        Gu and Tresp 2020, "Improving the robustness of capsule networks to image affine transformations";
        Li et al. 2019, "Multi-interest network with dynamic routing for recommendation at Tmall", section 4.
    """
    u, W = as_array("shared_votes: u", u), as_array("shared_votes: W", W)
    return SharedVotes(u, W, _number(parents, W))


def _number(parents: Any, W: jax.Array) -> int:
    """Return the number of parents, which a matrix for each of them tells."""
    each = W.ndim == 3
    expected = f"None, as W {list(W.shape)} has a matrix for each"
    if each and parents is None and W.shape[0] > 0:
        return W.shape[0]
    if not each or W.shape[0] == 0:
        expected = "a positive integer: how many parents the one matrix [d, e] is for"
    whole = isinstance(parents, int) and not isinstance(parents, bool)
    if each or not whole or parents < 1:
        raise UserError(f"shared_votes: got parents {parents!r}, expected {expected}")
    return parents
