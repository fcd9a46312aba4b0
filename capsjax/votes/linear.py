"""Votes that are never formed: children's poses and transformation matrices."""

import dataclasses
import math

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from capsjax.checks import UserError
from capsjax.numerics import as_array
from capsjax.votes.base import Masks, Votes, check_floating, is_placeholder
from capsjax.votes.parents_first import ParentsFirstVotes


@dataclasses.dataclass(frozen=True, repr=False)
class LinearVotes(Votes):
    """Hold children's poses and transformation matrices, and never form the votes W_ij u_i.

    Under `jax.vmap` examples share W: map over u, or over votes with `in_axes=LinearVotes(0, None)`,
    where they are masked `LinearVotes(0, None, masks=0)`.

    Args:
        u: child poses, [*batch, i, d].
        W: transformation matrices, one for each child and parent, [i, j, d, e]: W[i, j] is the transpose of
            the W_ij that stands before u_i.
        masks: which children and parents are there; `mask` makes them.

    Raises:
        UserError: If the shapes do not fit, there is no parent, or these are not arrays of
            floating-point numbers.
    """

    u: Float[Array, "*batch i d"]
    W: Float[Array, "i j d e"]

    def __post_init__(self):
        if not (is_placeholder(self.u) and is_placeholder(self.W)):
            self._check_fit()

    def _check_fit(self) -> None:
        """Refuse what is not arrays that fit together, also where a transformation made them."""
        check_floating("predict", self.u, self.W)
        # `jax.vmap` over votes adds an axis to both arrays: to u it may be one of the batch, to W it may not.
        u, W = self.u.shape, self.W.shape
        fits = len(u) >= 2 and len(W) == 4 and u[-2:] == (W[0], W[2])
        if fits and W[1] > 0 and W[3] > 0:
            return
        expected = "the same number of children i and the same child dimension d"
        if fits:
            expected = "at least one parent j and one component e of its pose"
        elif len(W) == 5 or (len(W) == 3 and W[:1] != u[-2:-1] and W[1:2] == u[-1:]):
            expected += (
                ". jax.vmap repeats the W of votes that leave it: route inside, or form them there with "
                ".dense(); for votes that enter it, use in_axes=LinearVotes(0, None)"
            )
        raise UserError(
            f"predict: got u {list(u)} and W {list(W)}, expected u [*batch, i, d] and W [i, j, d, e]: "
            f"{expected}"
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that the votes would have, (*batch, i, j, e)."""
        self._check_fit()
        return (*self.u.shape[:-1], self.W.shape[1], self.W.shape[3])

    @property
    def dtype(self) -> jnp.dtype:
        """The type that the votes would have."""
        self._check_fit()
        return jnp.promote_types(self.u.dtype, self.W.dtype)

    def combine(self, coupling: Float[Array, "*batch i j"]) -> Float[Array, "*batch j e"]:
        """Weigh and sum: s_j = sum_i c_ij W_ij u_i. Coupling [*batch, i, j]; returns s, [*batch, j, e]."""
        self._check_pairs(coupling)
        votes = self._parents_first(jnp.promote_types(self.dtype, coupling.dtype))
        return votes.combine(votes.pairs.from_array(coupling.astype(votes.dtype)))

    def agreement(self, pose: Float[Array, "*batch j e"]) -> Float[Array, "*batch i j"]:
        """Compare: a_ij = (W_ij u_i) . v_j. Pose [*batch, j, e]; returns a, [*batch, i, j]."""
        self._check_poses(pose)
        votes = self._parents_first(jnp.promote_types(self.dtype, pose.dtype))
        return votes.pairs.to_array(votes.agreement(pose.astype(votes.dtype)))

    def dense(self) -> Float[Array, "*batch i j e"]:
        """Form every vote, vote_ij = W_ij u_i, [*batch, i, j, e]."""
        self._check_fit()
        return jnp.einsum("...id,ijde->...ije", self.u, self.W)  # [*batch, i, j, e]

    def cleared(self) -> "LinearVotes":
        """Return the votes with zeros for masked children, and for parents that no example has."""
        children, parents = self.masks or Masks()
        u, W = self.u, self.W
        if children is not None:
            u = jnp.where(children[..., None], u, 0)  # [*batch, i, d]
        if parents is not None:
            kept = jnp.any(parents, axis=tuple(range(parents.ndim - 1)))  # [j]
            W = jnp.where(kept[None, :, None, None], W, 0)  # [i, j, d, e]
        return dataclasses.replace(self, u=u, W=W)

    def arranged(self) -> ParentsFirstVotes:
        """Return equal votes with the batch last, and each parent's matrices as one."""
        return self._parents_first(self.dtype)

    def _parents_first(self, dtype: DTypeLike) -> ParentsFirstVotes:
        self._check_fit()
        i, j, d, e = self.W.shape
        batch = self.u.shape[:-2]
        u = self.u.reshape(math.prod(batch), i, d).transpose(1, 2, 0)  # [i, d, b]
        matrices = jnp.swapaxes(self.W, 0, 1).reshape(j, i * d, e)  # [j, i d, e]
        return ParentsFirstVotes(u.astype(dtype), matrices.astype(dtype), batch, masks=self.masks)


def predict(u: Float[Array, "*batch i d"], W: Float[Array, "i j d e"]) -> LinearVotes:
    """Predict each parent's pose from each child's: vote_ij = W_ij u_i.

    The result is an operator: routing needs only its two contractions, so the array
    [*batch, i, j, e] is not formed unless `.dense()` asks for it.

    Args:
        u: child poses, [*batch, i, d].
        W: transformation matrices, the trained parameter, [i, j, d, e].

    Returns:
        The votes, of shape (*batch, i, j, e).

    Raises:
        UserError: If the shapes do not fit, there is no parent, or these are not arrays of
            floating-point numbers.

    Example:
        >>> import jax.numpy as jnp
        >>> predict(jnp.ones([4, 6, 8]), jnp.ones([6, 3, 8, 16])).shape
        (4, 6, 3, 16)

    Reference:
        Sabour, Frosst and Hinton 2017, equation 2.
    """
    return LinearVotes(as_array("predict: u", u), as_array("predict: W", W))
