"""Linear votes as they are contracted: laid out once, before the iterations."""

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from capsjax import numerics
from capsjax.votes import contractions, squares
from capsjax.votes.base import Fit, Votes


@dataclasses.dataclass(frozen=True, repr=False)
class ColumnVotes(Votes):
    """Hold linear votes as columns, one for each example: for each parent its transformation matrices as one.

    Logits, couplings and agreements are [j, i, n]: parents first, to be gone over one by one. A class says
    what a column is by `pairs`, `batch_last` and `batch_first`.

    Args:
        u: child poses, [i, d, b]; b = p n, where p rows of a pose share its matrices.
        matrices: for each parent, the matrices W_ij below each other, [j, i d, e].
        masks: which children and parents are there; `mask` makes them.
    """

    u: Float[Array, "i d b"]
    matrices: Float[Array, "j id e"]

    @property
    def dtype(self) -> jnp.dtype:
        """The type that the votes would have."""
        return jnp.promote_types(self.u.dtype, self.matrices.dtype)

    @property
    def rows(self) -> int:
        """Rows of a pose, p: one, where it is a vector."""
        return 1

    @abc.abstractmethod
    def batch_last(self, x: Shaped[Array, "*batch m f"]) -> Shaped[Array, "m e b"]:
        """Return vectors, such as parents' poses [*batch, j, p e], as columns, [j, e, b]."""

    @abc.abstractmethod
    def batch_first(self, x: Float[Array, "m e b"]) -> Float[Array, "*batch m f"]:
        """Return columns, such as [j, e, b], as vectors, [*batch, j, p e]."""

    @abc.abstractmethod
    def numbers_last(self, x: Shaped[Array, "*batch"]) -> Shaped[Array, "n"]:
        """Return a number of each example as a line, [n]."""

    def combine(self, coupling: Float[Array, "j i n"]) -> Float[Array, "*batch j e"]:
        """Weigh and sum: s_j = sum_i c_ij vote_ij. Coupling [j, i, n]; returns s, [*batch, j, e]."""
        return self.batch_first(contractions.combine(coupling, self.u, self.matrices))

    def agreement(self, pose: Float[Array, "*batch j e"]) -> Float[Array, "j i n"]:
        """Compare: a_ij = vote_ij . v_j. Pose [*batch, j, e]; returns a, [j, i, n]."""
        return contractions.agreement(self.batch_last(pose), self.u, self.matrices, self.rows)

    def agreements(
        self, poses: Sequence[Float[Array, "*batch j e"]]
    ) -> list[Float[Array, "j i n"]]:
        """Compare several poses in one pass, each [*batch, j, e]; returns one [j, i, n] for each."""
        last = [self.batch_last(pose) for pose in poses]
        return contractions.agreements(last, self.u, self.matrices, self.rows)

    def adjoint(
        self,
        couplings: Sequence[Float[Array, "j i n"]],
        poses: Sequence[Float[Array, "*batch j e"]],
        accumulate: Any,
    ) -> tuple[Float[Array, "*batch j e"], Any]:
        """Differentiate T = sum_kij c_kij vote_ij . v_kj, in one pass over the parents.

        Args:
            couplings: c_k, each [j, i, n].
            poses: v_k, one for each coupling, [*batch, j, e].
            accumulate: votes of cotangents, to which those of u and the matrices are added, or None.

        Returns:
            `combine` of the first coupling, [*batch, j, e]; and the cotangents, in the arrays' places.
        """
        last = [self.batch_last(pose) for pose in poses]
        start = None if accumulate is None else (accumulate.u, accumulate.matrices)
        s, _, cotangents = contractions.adjoint(couplings, self.u, self.matrices, last, start)
        found = dataclasses.replace(accumulate or self, u=cotangents[0], matrices=cotangents[1])
        return self.batch_first(s), found

    def total(self) -> Float[Array, "*batch j e"]:
        """Sum the votes of the children that are there with equal weights: sum_i vote_ij, as one product."""
        u, children = self.u, self._masks().children
        if children is not None:
            here = self.pairs.by_child(children)[0]  # [i, n], the same for every parent
            u = jnp.where(contractions.for_rows(here, u)[:, None, :], u, 0)  # [i, d, b]
        return self.batch_first(contractions.total(u, self.matrices))

    def scatter(
        self,
        coupling: Float[Array, "j i n"],
        centre: Float[Array, "*batch j e"],
        unit: Float[Array, "*batch"] | None = None,
    ) -> Float[Array, "*batch j e"]:
        """Weigh and sum squared deviations, with the votes of one parent formed at a time, or none.

        Args:
            coupling: c_ij, [j, i, n].
            centre: m_j, [*batch, j, e].
            unit: what deviations of each example are measured in, [*batch]; None for 1.

        Returns:
            sum_i c_ij (vote_ijh - m_jh)^2 / unit^2, [*batch, j, e].
        """
        moments = self.batch_last(centre), self._unit(unit)
        return self.batch_first(squares.scatter(coupling, *moments, self.u, self.matrices))

    def distance(
        self,
        centre: Float[Array, "*batch j e"],
        precision: Float[Array, "*batch j e"],
        unit: Float[Array, "*batch"] | None = None,
    ) -> Float[Array, "j i n"]:
        """Measure weighted squared distances, with the votes of one parent formed at a time, or none.

        Args:
            centre: m_j, [*batch, j, e].
            precision: p_j, [*batch, j, e].
            unit: what deviations of each example are measured in, [*batch]; None for 1.

        Returns:
            sum_h p_jh (vote_ijh - m_jh)^2 / unit^2, [j, i, n].
        """
        moments = self.batch_last(centre), self.batch_last(precision), self._unit(unit)
        return squares.distance(*moments, self.u, self.matrices, self.rows)

    def fit(
        self,
        weight: Float[Array, "j i n"],
        share: Float[Array, "j i n"],
        floor: Float[Array, "*batch"],
        unit: Float[Array, "*batch"],
        distances: bool = False,
    ) -> Fit:
        """Fit a Gaussian to each parent's votes; its gradient forms those of one parent at a time.

        Args:
            weight: of each vote in its parent's mean, [j, i, n].
            share: of each squared deviation in its variance, [j, i, n].
            floor: what is added to variances, in squared units, [*batch].
            unit: what deviations of each example are measured in, [*batch].
            distances: whether they are asked for.

        Returns:
            Means and variances [*batch, j, e], and distances [j, i, n].
        """
        lines = self._unit(floor), self._unit(unit)
        rows = self.rows if distances else None
        m, s, apart = squares.fit(weight, share, *lines, self.u, self.matrices, rows)
        return Fit(self.batch_first(m), self.batch_first(s), apart)

    def bound(self) -> Float[Array, "*batch"]:
        """Return what no component of an example's votes exceeds in size: max_ij sqrt(d) |u_i| max |W_ij|."""
        i, d, _ = self.u.shape
        sizes = jnp.abs(self.matrices).reshape(-1, i, d, self.matrices.shape[-1])
        rows = contractions.reduce(jnp.maximum, sizes, axis=2)  # [j, i, e]
        matrices = math.sqrt(d) * jnp.max(rows, axis=-1, initial=0)  # [j, i]
        lengths = self._lengths()  # [i, n]
        pairs = self.pairs
        return pairs.max_abs(pairs.only_present(matrices[:, :, None] * lengths[None]))  # [j, i, n]

    def _lengths(self) -> Float[Array, "i n"]:
        """Return the length of each child's longest row."""
        lengths = numerics.safe_norm(self.u, axis=1)  # [i, b]
        if self.rows == 1:
            return lengths
        return contractions.reduce(
            jnp.maximum, lengths.reshape(lengths.shape[0], self.rows, -1), axis=1
        )

    def _unit(self, unit: Float[Array, "*batch"] | None) -> Float[Array, "b"]:
        if unit is None:
            return jnp.ones(self.u.shape[-1], self.dtype)
        return contractions.for_rows(self.numbers_last(unit), self.u)
