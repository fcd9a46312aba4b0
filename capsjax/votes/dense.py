"""Votes that are held as an array."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax.checks import UserError
from capsjax.numerics import as_array, described
from capsjax.votes.base import Masks, Votes, is_placeholder


@dataclasses.dataclass(frozen=True, repr=False)
class DenseVotes(Votes):
    """Hold the votes themselves, as an array.

    Args:
        array: vote of child i for parent j, [*batch, i, j, e].
        masks: which children and parents are there; `mask` makes them.

    Raises:
        UserError: If it is not an array of floating-point numbers with at least three axes, or there is no
            parent.
    """

    array: Float[Array, "*batch i j e"]

    def __post_init__(self):
        if not is_placeholder(self.array):
            self._check_array()

    def _check_array(self) -> None:
        kind, shape = getattr(self.array, "dtype", None), getattr(self.array, "shape", ())
        fits = len(shape) >= 3 and 0 not in shape[-2:]
        if kind is None or not fits or not jnp.issubdtype(kind, jnp.floating):
            raise UserError(
                f"votes: got {described(self.array)}, expected a floating-point array [*batch, i, j, e]: "
                "children, at least one parent, and its pose on the last three axes"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array, (*batch, i, j, e)."""
        self._check_array()
        return self.array.shape

    @property
    def dtype(self) -> jnp.dtype:
        """The type of the array."""
        self._check_array()
        return self.array.dtype

    def combine(self, coupling: Float[Array, "*batch i j"]) -> Float[Array, "*batch j e"]:
        """Weigh and sum: s_j = sum_i c_ij vote_ij. Coupling [*batch, i, j]; returns s, [*batch, j, e]."""
        self._check_pairs(coupling)
        return jnp.einsum("...ij,...ije->...je", coupling, self.array)  # [*batch, j, e]

    def agreement(self, pose: Float[Array, "*batch j e"]) -> Float[Array, "*batch i j"]:
        """Compare: a_ij = vote_ij . v_j. Pose [*batch, j, e]; returns a, [*batch, i, j]."""
        self._check_poses(pose)
        return jnp.einsum("...ije,...je->...ij", self.array, pose)  # [*batch, i, j]

    def adjoint(
        self,
        couplings: Sequence[Float[Array, "*batch i j"]],
        poses: Sequence[Float[Array, "*batch j e"]],
        accumulate: Any,
    ) -> tuple[Float[Array, "*batch j e"], Any]:
        """Differentiate T = sum_kij c_kij vote_ij . v_kj: a vote's cotangent is sum_k c_kij v_kj.

        Args:
            couplings: c_k, each [*batch, i, j].
            poses: v_k, one for each coupling, [*batch, j, e].
            accumulate: votes of cotangents, to which those of these votes' array are added, or None.

        Returns:
            `combine` of the first coupling, [*batch, j, e]; and the cotangents, in the array's place.
        """
        pairs = zip(couplings, poses, strict=True)
        outer = [jnp.einsum("...ij,...je->...ije", *pair) for pair in pairs]  # [*batch, i, j, e]
        before = [] if accumulate is None else [accumulate.array]
        array = functools.reduce(jnp.add, before + outer)
        return self.combine(couplings[0]), dataclasses.replace(accumulate or self, array=array)

    def uniform(self, leaky: bool = False) -> Float[Array, "*batch j e"]:
        """Return the sum under the first coupling: every child has the same parents, so it is one sum."""
        array, children = self.array, self._masks().children
        if children is not None:
            array = jnp.where(children[..., None, None], array, 0)  # [*batch, i, j, e]
        return self._shared(jnp.sum(array, axis=-3), leaky)

    def dense(self) -> Float[Array, "*batch i j e"]:
        """Return the array."""
        return self.array

    def cleared(self) -> "DenseVotes":
        """Return the votes with zeros where the masks leave out a child or a parent."""
        array, (children, parents) = self.array, self.masks or Masks()
        if children is not None:
            array = jnp.where(children[..., None, None], array, 0)  # [*batch, i, j, e]
        if parents is not None:
            array = jnp.where(parents[..., None, :, None], array, 0)  # [*batch, i, j, e]
        return dataclasses.replace(self, array=array)


def as_votes(votes: Votes | Float[Array, "*batch i j e"]) -> Votes:
    """Take votes as they are, or an array [*batch, i, j, e] as dense votes."""
    return votes if isinstance(votes, Votes) else DenseVotes(as_array("votes", votes))
