"""Linear votes with the batch last."""

import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

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
