"""Linear votes with the batch last."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from capsjax.votes import attention
from capsjax.votes.columns import ColumnVotes
from capsjax.votes.pairs import ParentsFirst


@dataclasses.dataclass(frozen=True, repr=False)
class ParentsFirstVotes(ColumnVotes):
    """Hold linear votes with the batch last: a column is an example.

    Args:
        u: child poses, [i, d, b], all leading axes in b.
        matrices: for each parent, the matrices W_ij below each other, [j, i d, e].
        batch: the leading axes, (*batch).
        masks: which children and parents are there; `mask` makes them.
    """

    batch: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that the votes would have, (*batch, i, j, e)."""
        parents, _, dim = self.matrices.shape
        return (*self.batch, self.u.shape[0], parents, dim)

    @property
    def pairs(self) -> ParentsFirst:
        """Every child votes for every parent; a number for each pair is held as [j, i, b]."""
        return ParentsFirst(self.shape[:-1], *self._masks())

    def attend(
        self, total: Float[Array, "*batch j e"], leaky: bool = False
    ) -> Float[Array, "*batch j e"]:
        """Weigh by agreement and sum, on a GPU in one pass over the children.

        Args:
            total: S, [*batch, j, e].
            leaky: adds a zero logit for "none of the parents".

        Returns:
            s, [*batch, j, e].
        """
        if self.masks is not None:
            return super().attend(total, leaky)
        last = self.batch_last(total)
        return self.batch_first(attention.attend(last, self.u, self.matrices, leaky))

    def attend_adjoint(
        self,
        total: Float[Array, "*batch j e"],
        s_bar: Float[Array, "*batch j e"],
        accumulate: Any,
        leaky: bool = False,
    ) -> tuple[Float[Array, "*batch j e"], Any]:
        """Pull a cotangent of `attend` back to S, u and the matrices, on a GPU in two passes.

        Args:
            total: S, [*batch, j, e].
            s_bar: the cotangent, [*batch, j, e].
            accumulate: votes of cotangents, to which those of u and the matrices are added.
            leaky: as in `attend`.

        Returns:
            The cotangent of S, [*batch, j, e]; and the cotangents, in the arrays' places.
        """
        if self.masks is not None:
            return super().attend_adjoint(total, s_bar, accumulate, leaky)
        last = self.batch_last(total), self.batch_last(s_bar)
        start = accumulate.u, accumulate.matrices
        found, ended = attention.attend_adjoint(*last, self.u, self.matrices, start, leaky)
        return self.batch_first(found), dataclasses.replace(
            accumulate, u=ended[0], matrices=ended[1]
        )

    def uniform(self, leaky: bool = False) -> Float[Array, "*batch j e"]:
        """Return the sum under the first coupling: every child has the same parents, so it is one product."""
        return self._shared(self.total(), leaky)

    def dense(self) -> Float[Array, "*batch i j e"]:
        """Form every vote, vote_ij = W_ij u_i, [*batch, i, j, e]."""
        i, d, _ = self.u.shape
        matrices = self.matrices.reshape(-1, i, d, self.matrices.shape[-1])  # [j, i, d, e]
        return jnp.einsum("idb,jide->bije", self.u, matrices).reshape(self.shape)  # [b, i, j, e]

    def batch_last(self, x: Shaped[Array, "*batch m n"]) -> Shaped[Array, "m n b"]:
        """Return vectors, such as parents' poses [*batch, j, e], as columns, [j, e, b]."""
        return x.reshape(math.prod(self.batch), *x.shape[-2:]).transpose(1, 2, 0)  # [m, n, b]

    def batch_first(self, x: Float[Array, "j e b"]) -> Float[Array, "*batch j e"]:
        """Return columns, such as [j, e, b], as vectors, [*batch, j, e]."""
        return x.transpose(2, 0, 1).reshape(*self.batch, *x.shape[:-1])  # [*batch, j, e]

    def numbers_last(self, x: Shaped[Array, "*batch"]) -> Shaped[Array, "b"]:
        """Return a number of each example as a line, [b]."""
        return x.reshape(math.prod(self.batch))
