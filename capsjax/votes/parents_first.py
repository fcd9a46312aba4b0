"""Linear votes as they are contracted: laid out once, before the iterations."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from capsjax import numerics
from capsjax.votes import contractions
from capsjax.votes.base import Votes
from capsjax.votes.pairs import ParentsFirst


@dataclasses.dataclass(frozen=True, repr=False)
class ParentsFirstVotes(Votes):
    """Hold linear votes with the batch last, and each parent's transformation matrices as one.

    Logits, couplings and agreements are [j, i, b]: parents first, to be gone over one by one.

    Args:
        u: child poses, [i, d, b], all leading axes in b.
        matrices: for each parent, the matrices W_ij below each other, [j, i d, e].
        batch: the leading axes, (*batch).
        masks: which children and parents are there; `mask` makes them.
    """

    u: Float[Array, "i d b"]
    matrices: Float[Array, "j id e"]
    batch: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that the votes would have, (*batch, i, j, e)."""
        parents, _, dim = self.matrices.shape
        return (*self.batch, self.u.shape[0], parents, dim)

    @property
    def dtype(self) -> jnp.dtype:
        """The type that the votes would have."""
        return jnp.promote_types(self.u.dtype, self.matrices.dtype)

    @property
    def pairs(self) -> ParentsFirst:
        """Every child votes for every parent; a number for each pair is held as [j, i, b]."""
        return ParentsFirst(self.shape[:-1], *self._masks())

    def combine(self, coupling: Float[Array, "j i b"]) -> Float[Array, "*batch j e"]:
        """Weigh and sum: s_j = sum_i c_ij vote_ij. Coupling [j, i, b]; returns s, [*batch, j, e]."""
        return self._poses(contractions.combine(coupling, self.u, self.matrices))

    def agreement(self, pose: Float[Array, "*batch j e"]) -> Float[Array, "j i b"]:
        """Compare: a_ij = vote_ij . v_j. Pose [*batch, j, e]; returns a, [j, i, b]."""
        return contractions.agreement(self._batch_last(pose), self.u, self.matrices)

    def agreements(
        self, poses: Sequence[Float[Array, "*batch j e"]]
    ) -> list[Float[Array, "j i b"]]:
        """Compare several poses in one pass, each [*batch, j, e]; returns one [j, i, b] for each."""
        last = [self._batch_last(pose) for pose in poses]
        return contractions.agreements(last, self.u, self.matrices)

    def adjoint(
        self,
        couplings: Sequence[Float[Array, "j i b"]],
        poses: Sequence[Float[Array, "*batch j e"]],
        accumulate: Any,
    ) -> tuple[Float[Array, "*batch j e"], Any]:
        """Differentiate T = sum_kij c_kij vote_ij . v_kj, in one pass over the parents.

        Args:
            couplings: c_k, each [j, i, b].
            poses: v_k, one for each coupling, [*batch, j, e].
            accumulate: votes of cotangents, to which those of u and the matrices are added.

        Returns:
            `combine` of the first coupling, [*batch, j, e]; and the cotangents, in the arrays' places.
        """
        last = [self._batch_last(pose) for pose in poses]
        start = accumulate.u, accumulate.matrices
        s, _, cotangents = contractions.adjoint(couplings, self.u, self.matrices, last, start)
        return self._poses(s), dataclasses.replace(
            accumulate, u=cotangents[0], matrices=cotangents[1]
        )

    def uniform(self, leaky: bool = False) -> Float[Array, "*batch j e"]:
        """Return the sum under the first coupling: every child has the same parents, so it is one product."""
        u, children = self.u, self._masks().children
        if children is not None:
            u = jnp.where(self._batch_last(children[..., None]), u, 0)  # [i, d, b]
        return self._shared(self._poses(contractions.total(u, self.matrices)), leaky)

    def dense(self) -> Float[Array, "*batch i j e"]:
        """Form every vote, vote_ij = W_ij u_i, [*batch, i, j, e]."""
        i, d, _ = self.u.shape
        matrices = self.matrices.reshape(-1, i, d, self.matrices.shape[-1])  # [j, i, d, e]
        return jnp.einsum("idb,jide->bije", self.u, matrices).reshape(self.shape)  # [b, i, j, e]

    def scatter(
        self,
        coupling: Float[Array, "j i b"],
        centre: Float[Array, "*batch j e"],
        unit: Float[Array, "*batch"] | None = None,
    ) -> Float[Array, "*batch j e"]:
        """Weigh and sum squared deviations, forming the votes of one parent at a time.

        Args:
            coupling: c_ij, [j, i, b].
            centre: m_j, [*batch, j, e].
            unit: what deviations of each example are measured in, [*batch]; None for 1.

        Returns:
            sum_i c_ij (vote_ijh - m_jh)^2 / unit^2, [*batch, j, e].
        """
        moments = self._batch_last(centre), self._unit(unit)
        return self._poses(contractions.scatter(coupling, *moments, self.u, self.matrices))

    def distance(
        self,
        centre: Float[Array, "*batch j e"],
        precision: Float[Array, "*batch j e"],
        unit: Float[Array, "*batch"] | None = None,
    ) -> Float[Array, "j i b"]:
        """Measure weighted squared distances, forming the votes of one parent at a time.

        Args:
            centre: m_j, [*batch, j, e].
            precision: p_j, [*batch, j, e].
            unit: what deviations of each example are measured in, [*batch]; None for 1.

        Returns:
            sum_h p_jh (vote_ijh - m_jh)^2 / unit^2, [j, i, b].
        """
        moments = self._batch_last(centre), self._batch_last(precision), self._unit(unit)
        return contractions.distance(*moments, self.u, self.matrices)

    def bound(self) -> Float[Array, "*batch"]:
        """Return a number that no component of an example's votes exceeds in size: max_ij |u_i| |W_ij|."""
        i, d, _ = self.u.shape
        matrices = numerics.safe_norm(self.matrices.reshape(-1, i, d * self.matrices.shape[-1]))
        lengths = numerics.safe_norm(self.u, axis=1)  # [i, b]
        pairs = self.pairs
        return pairs.max_abs(pairs.only_present(matrices[:, :, None] * lengths[None]))  # [j, i, b]

    def _unit(self, unit: Float[Array, "*batch"] | None) -> Float[Array, "b"]:
        size = math.prod(self.batch)
        return jnp.ones(size, self.dtype) if unit is None else unit.reshape(size)

    def _batch_last(self, x: Shaped[Array, "*batch m n"]) -> Shaped[Array, "m n b"]:
        return x.reshape(math.prod(self.batch), *x.shape[-2:]).transpose(1, 2, 0)  # [m, n, b]

    def _poses(self, x: Float[Array, "j e b"]) -> Float[Array, "*batch j e"]:
        return x.transpose(2, 0, 1).reshape(*self.batch, *x.shape[:-1])  # [*batch, j, e]
