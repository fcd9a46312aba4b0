"""Linear votes as they are contracted: laid out once, before the iterations."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from capsjax.votes import contractions
from capsjax.votes.base import Votes


@dataclasses.dataclass(frozen=True, repr=False)
class ArrangedVotes(Votes):
    """Hold linear votes with the batch last, and each parent's transformation matrices as one.

    Logits, couplings and agreements are [j, i, b]: parents first, to be gone over one by one.

    Args:
        children: child poses u, [i, d, b], all leading axes in b.
        matrices: for each parent, the matrices W_ij below each other, [j, i d, e].
        batch: the leading axes, (*batch).
    """

    children: Float[Array, "i d b"]
    matrices: Float[Array, "j id e"]
    batch: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that the votes would have, (*batch, i, j, e)."""
        parents, _, dim = self.matrices.shape
        return (*self.batch, self.children.shape[0], parents, dim)

    @property
    def dtype(self) -> jnp.dtype:
        """The type that the votes would have."""
        return jnp.promote_types(self.children.dtype, self.matrices.dtype)

    def combine(self, coupling: Float[Array, "j i b"]) -> Float[Array, "*batch j e"]:
        """Weigh and sum: s_j = sum_i c_ij vote_ij. Coupling [j, i, b]; returns s, [*batch, j, e]."""
        return self._poses(contractions.combine(coupling, self.children, self.matrices))

    def agreement(self, pose: Float[Array, "*batch j e"]) -> Float[Array, "j i b"]:
        """Compare: a_ij = vote_ij . v_j. Pose [*batch, j, e]; returns a, [j, i, b]."""
        return contractions.agreement(self._batch_last(pose), self.children, self.matrices)

    def dense(self) -> Float[Array, "*batch i j e"]:
        """Form every vote, vote_ij = W_ij u_i, [*batch, i, j, e]."""
        i, d, _ = self.children.shape
        matrices = self.matrices.reshape(-1, i, d, self.matrices.shape[-1])
        return jnp.einsum("idb,jide->bije", self.children, matrices).reshape(self.shape)

    def agreements(
        self, poses: Sequence[Float[Array, "*batch j e"]]
    ) -> list[Float[Array, "j i b"]]:
        """Compare several poses at once, each [*batch, j, e]; returns as many [j, i, b]."""
        last = [self._batch_last(pose) for pose in poses]
        return contractions.agreements(last, self.children, self.matrices)

    def adjoint(
        self,
        couplings: Sequence[Float[Array, "j i b"]],
        poses: Sequence[Float[Array, "*batch j e"]],
        onto: Any,
    ) -> tuple[Float[Array, "*batch j e"], Any]:
        """Return `combine` of the first coupling, and the derivatives by both arrays in their place."""
        last = [self._batch_last(pose) for pose in poses]
        operands = self.children, self.matrices
        start = onto.children, onto.matrices
        s, _, bars = contractions.adjoint(couplings, *operands, last, start)
        return self._poses(s), dataclasses.replace(self, children=bars[0], matrices=bars[1])

    def uniform(self, leaky: bool = False) -> Float[Array, "*batch j e"]:
        """Return sum_i vote_ij / j, one product as every child has every parent, [*batch, j, e]."""
        parents = self.matrices.shape[0]
        return self._poses(contractions.total(self.children, self.matrices)) / (parents + leaky)

    def zeros(self) -> Float[Array, "j i b"]:
        """Return the logits that every forward pass starts from, all zero, [j, i, b]."""
        i, _, b = self.children.shape
        return jax.lax.optimization_barrier(jnp.zeros([self.matrices.shape[0], i, b], self.dtype))

    def couple(self, logits: Float[Array, "j i b"], leaky: bool = False) -> Float[Array, "j i b"]:
        """Normalise logits [j, i, b] over each child's parents; see `numerics.couple`."""
        return contractions.couple(logits, leaky)

    def couple_adjoint(
        self, coupling: Float[Array, "j i b"], cotangent: Float[Array, "j i b"]
    ) -> Float[Array, "j i b"]:
        """Pull a cotangent of `couple` back to the logits, [j, i, b]."""
        return contractions.couple_adjoint(coupling, cotangent)

    def shown(self, x: Float[Array, "j i b"]) -> Float[Array, "*batch i j"]:
        """Return logits, a coupling or an agreement of these votes as [*batch, i, j]."""
        return x.transpose(2, 1, 0).reshape(*self.shape[:-1])

    def arrange(self, x: Float[Array, "*batch i j"]) -> Float[Array, "j i b"]:
        """Return what `shown` shows as [*batch, i, j] in the arrangement of these votes."""
        return self._batch_last(x).swapaxes(0, 1)

    def spread(self, x: Shaped[Array, "*batch"]) -> Shaped[Array, "j i b"]:
        """Repeat a value of each example, [*batch], for all its pairs, [j, i, b]."""
        i, _, b = self.children.shape
        return jnp.broadcast_to(x.reshape(b), [self.matrices.shape[0], i, b])

    def largest(self, x: Float[Array, "j i b"]) -> Float[Array, "*batch"]:
        """Return the largest |x_ij| of each example's pairs, [*batch]; 0 where there are none."""
        return jnp.max(jnp.abs(x), axis=(0, 1), initial=0).reshape(self.batch)

    def inner(self, x: Float[Array, "j i b"], y: Float[Array, "j i b"]) -> Float[Array, "*batch"]:
        """Return the sum of x_ij y_ij over each example's pairs, [*batch]."""
        return jnp.sum(x * y, axis=(0, 1)).reshape(self.batch)

    def _batch_last(self, x: Float[Array, "*batch m n"]) -> Float[Array, "m n b"]:
        return x.reshape(math.prod(self.batch), *x.shape[-2:]).transpose(1, 2, 0)

    def _poses(self, x: Float[Array, "j e b"]) -> Float[Array, "*batch j e"]:
        return x.transpose(2, 0, 1).reshape(*self.batch, *x.shape[:-1])
