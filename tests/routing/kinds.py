"""Every kind of votes that the conformance matrix routes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from capsjax.votes import AllPairs, DenseVotes, Votes, mask, predict

Allowed = tuple[tuple[bool, ...], ...]


@dataclasses.dataclass(frozen=True)
class SomePairs(AllPairs):
    """Of all pairs only those that are allowed, as in a convolution: children have 1, 2 and 4 parents."""

    allowed: Allowed = ()

    def softmax(self, logits, leaky):
        low = jnp.where(self._allowed(), logits, jnp.finfo(logits.dtype).min)
        return jnp.where(self._allowed(), super().softmax(low, leaky), 0)

    def _allowed(self):
        return jnp.broadcast_to(np.array(self.allowed), self.shape)


@dataclasses.dataclass(frozen=True, repr=False)
class RaggedVotes(Votes):
    """Votes that write what a class has to write, and nothing else: the rest is derived from `combine`."""

    array: jax.Array
    allowed: Allowed | None = dataclasses.field(default=None, metadata={"static": True})

    @property
    def shape(self):
        return self.array.shape

    @property
    def dtype(self):
        return self.array.dtype

    @property
    def pairs(self):
        pairs = super().pairs
        if self.allowed is None:
            return pairs
        return SomePairs(pairs.shape, pairs.children, pairs.parents, self.allowed)

    def combine(self, coupling):
        return jnp.sum(coupling[..., None] * self.array, axis=-3)


def formed(u, W):
    return jnp.einsum("...id,ijde->...ije", u, W)


def masked(u, W):
    """Linear votes under masks of all True."""
    votes = predict(u, W)
    *batch, i, j, _ = votes.shape
    return mask(votes, children=jnp.ones((*batch, i), bool), parents=jnp.ones((*batch, j), bool))


@dataclasses.dataclass(frozen=True)
class Kind:
    """Describe a kind of votes.

    Args:
        name: what its tests are called by.
        make: (u, W, allowed) -> votes.
        allowed: which child may vote for which parent, [i][j]; None for all.
    """

    name: str
    make: Callable[..., Any]
    allowed: Allowed | None = None

    def __call__(self, u, W):
        return self.make(u, W, self.allowed)

    def rearranged(self, children=None, parents=None):
        """The same for children and parents in another order."""
        if self.allowed is None:
            return self
        allowed = np.array(self.allowed)
        allowed = allowed if children is None else allowed[children]
        allowed = allowed if parents is None else allowed[:, parents]
        return dataclasses.replace(self, allowed=tuple(map(tuple, allowed.tolist())))


MASKED = Kind("masked", lambda u, W, allowed: masked(u, W))
KINDS = (
    Kind("dense", lambda u, W, allowed: DenseVotes(formed(u, W))),
    Kind("linear", lambda u, W, allowed: predict(u, W)),
    Kind(
        "ragged",
        lambda u, W, allowed: RaggedVotes(formed(u, W), allowed),
        (
            (False, True, False, False),
            (True, False, True, False),
            (True, True, True, True),
        ),
    ),
)
