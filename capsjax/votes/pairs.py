"""Which child may vote for which parent, and how a number for each such pair is laid out."""

import abc
import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Shaped

from capsjax import numerics
from capsjax.types import PerPair
from capsjax.votes import couplings


@dataclasses.dataclass(frozen=True)
class Pairs(abc.ABC):
    """Define which child may vote for which parent, and the layout in which logits and couplings are held.

    Hashable where nothing is masked. A class writes `to_array` and `from_array`, and `softmax` with its
    adjoint where a child's parents are not the last axis of the array; the rest follows, and is overridden
    where the layout allows something faster.

    Args:
        shape: (*batch, i, j), the shape of `to_array`.
        children: which children are there, [*batch, i]; None for all.
        parents: which parents are there, [*batch, j]; None for all.
    """

    shape: tuple[int, ...]
    children: Bool[Array, "*batch i"] | None = None
    parents: Bool[Array, "*batch j"] | None = None

    @abc.abstractmethod
    def to_array(self, x: Shaped[Array, "..."]) -> Shaped[Array, "*batch i j"]:
        """Return what is held for each pair as [*batch, i, j]."""

    @abc.abstractmethod
    def from_array(self, x: Shaped[Array, "*batch i j"]) -> Shaped[Array, "..."]:
        """Return [*batch, i, j] as it is held."""

    def present(self) -> Bool[Array, "..."] | None:
        """Return which pairs have both a child and a parent that are there, as held; None for all."""
        masks = ((self.by_child, self.children), (self.by_parent, self.parents))
        found = [bring(mask) for bring, mask in masks if mask is not None]
        return functools.reduce(jnp.logical_and, found) if found else None

    def zeros(self, dtype: DTypeLike) -> PerPair:
        """Return the logits that every forward pass starts from, all zero, as held."""
        # Behind a barrier: else the compiler spends seconds to evaluate the first softmax itself.
        held = jax.eval_shape(self.from_array, jax.ShapeDtypeStruct(self.shape, dtype))
        return jax.lax.optimization_barrier(jnp.zeros(held.shape, held.dtype))

    def couple(self, logits: PerPair, leaky: bool = False) -> PerPair:
        """Normalise logits over each child's parents, those that it really has.

        Args:
            logits: b_ij, as held.
            leaky: adds a zero logit for "none of the parents".

        Returns:
            c_ij, as held; exactly 0 for a child or a parent that is not there.
        """
        present = self.present()
        if present is None:
            return self.softmax(logits, leaky)
        # The lowest number, not -inf: where no parent is there, differences stay finite.
        lowest = jnp.where(present, logits, jnp.finfo(logits.dtype).min)
        return self.only_present(self.softmax(lowest, leaky))

    def softmax(self, logits: PerPair, leaky: bool) -> PerPair:
        """Normalise logits over all parents that a child could have, without regard to masks.

        Args:
            logits: b_ij, as held.
            leaky: adds a zero logit for "none of the parents".

        Returns:
            c_ij, as held.
        """
        return self.from_array(numerics.couple(self.to_array(logits), leaky))

    def couple_vjp(self, coupling: PerPair, cotangent: PerPair) -> PerPair:
        """Pull a cotangent of `couple` back to the logits: b_bar = c (c_bar - sum_j c c_bar).

        Args:
            coupling: c_ij, as held.
            cotangent: c_bar, as held.

        Returns:
            b_bar, as held.
        """
        return self.softmax_vjp(coupling, self.only_present(cotangent))

    def softmax_vjp(self, coupling: PerPair, cotangent: PerPair) -> PerPair:
        """Pull a cotangent of `softmax` back to the logits: b_bar = c (c_bar - sum_j c c_bar).

        Args:
            coupling: c_ij, as held.
            cotangent: c_bar, as held.

        Returns:
            b_bar, as held.
        """
        found = numerics.couple_adjoint(self.to_array(coupling), self.to_array(cotangent))
        return self.from_array(found)

    def only_present(self, x: PerPair) -> PerPair:
        """Return x with zeros, through which no gradient passes, for pairs that are not there."""
        present = self.present()
        return x if present is None else jnp.where(present, x, 0)

    def sum(self, x: PerPair) -> Float[Array, "*batch"]:
        """Return the sum over each example's pairs, [*batch]."""
        return jnp.sum(self.to_array(x), axis=(-2, -1))

    def max_abs(self, x: PerPair) -> Float[Array, "*batch"]:
        """Return the largest |x_ij| of each example's pairs, [*batch]; 0 where there are none."""
        return jnp.max(jnp.abs(self.to_array(x)), axis=(-2, -1), initial=0)

    def broadcast(self, x: Shaped[Array, "*batch"]) -> Shaped[Array, "..."]:
        """Broadcast one number of each example, [*batch], to the layout of logits; for masks of examples."""
        return self.from_array(jnp.broadcast_to(x[..., None, None], self.shape))  # [*batch, 1, 1]

    def by_child(self, x: Shaped[Array, "*batch i"]) -> Shaped[Array, "..."]:
        """Repeat a number of each child, [*batch, i], for all its parents."""
        return self.from_array(jnp.broadcast_to(x[..., None], self.shape))  # [*batch, i, 1]

    def by_parent(self, x: Shaped[Array, "*batch j"]) -> Shaped[Array, "..."]:
        """Repeat a number of each parent, [*batch, j], for all its children."""
        return self.from_array(jnp.broadcast_to(x[..., None, :], self.shape))  # [*batch, 1, j]

    def sum_children(self, x: PerPair) -> Float[Array, "*batch j"]:
        """Sum over each parent's children, [*batch, j]."""
        return jnp.sum(self.to_array(x), axis=-2)


@dataclasses.dataclass(frozen=True)
class AllPairs(Pairs):
    """Let every child vote for every parent, held as [*batch, i, j]."""

    def to_array(self, x: Shaped[Array, "*batch i j"]) -> Shaped[Array, "*batch i j"]:
        """Return it as it is."""
        return x

    def from_array(self, x: Shaped[Array, "*batch i j"]) -> Shaped[Array, "*batch i j"]:
        """Return it as it is."""
        return x


@dataclasses.dataclass(frozen=True)
class ParentsFirst(Pairs):
    """Let every child vote for every parent, held as [j, i, b]: parents one by one, the batch last."""

    def to_array(self, x: Shaped[Array, "j i b"]) -> Shaped[Array, "*batch i j"]:
        """Bring parents to the end and the batch to the front."""
        return x.transpose(2, 1, 0).reshape(self.shape)  # [b, i, j] -> [*batch, i, j]

    def from_array(self, x: Shaped[Array, "*batch i j"]) -> Shaped[Array, "j i b"]:
        """Bring parents to the front and the batch to the end."""
        return x.reshape(math.prod(self.shape[:-2]), *self.shape[-2:]).transpose(2, 1, 0)

    def softmax(self, logits: Float[Array, "j i b"], leaky: bool) -> Float[Array, "j i b"]:
        """Normalise over the leading axis, with its sums written out.

        Args:
            logits: b_ij, [j, i, b].
            leaky: adds a zero logit for "none of the parents".

        Returns:
            c_ij, [j, i, b].
        """
        return couplings.couple(logits, leaky)

    def softmax_vjp(
        self, coupling: Float[Array, "j i b"], cotangent: Float[Array, "j i b"]
    ) -> Float[Array, "j i b"]:
        """Pull a cotangent of `softmax` back to the logits, with sums written out.

        Args:
            coupling: c_ij, [j, i, b].
            cotangent: c_bar, [j, i, b].

        Returns:
            b_bar, [j, i, b].
        """
        return couplings.couple_adjoint(coupling, cotangent)

    def by_child(self, x: Shaped[Array, "*batch i"]) -> Shaped[Array, "j i b"]:
        """Repeat a number of each child, [*batch, i], for all its parents; its adjoint sums written out."""
        i, j = self.shape[-2:]
        return couplings.for_parents(x.reshape(math.prod(self.shape[:-2]), i).T, j)

    def by_parent(self, x: Shaped[Array, "*batch j"]) -> Shaped[Array, "j i b"]:
        """Repeat a number of each parent, [*batch, j], for all its children."""
        i, j = self.shape[-2:]
        parents = x.reshape(math.prod(self.shape[:-2]), j).T  # [j, b]
        return jnp.broadcast_to(parents[:, None], (j, i, parents.shape[1]))

    def sum(self, x: Float[Array, "j i b"]) -> Float[Array, "*batch"]:
        """Return the sum over each example's pairs, [*batch]."""
        return jnp.sum(x, axis=(0, 1)).reshape(self.shape[:-2])  # [b] -> [*batch]

    def max_abs(self, x: Float[Array, "j i b"]) -> Float[Array, "*batch"]:
        """Return the largest |x_ij| of each example's pairs, [*batch]; 0 where there are none."""
        return jnp.max(jnp.abs(x), axis=(0, 1), initial=0).reshape(self.shape[:-2])

    def sum_children(self, x: Float[Array, "j i b"]) -> Float[Array, "*batch j"]:
        """Sum over each parent's children, [*batch, j]."""
        return jnp.sum(x, axis=1).T.reshape(*self.shape[:-2], self.shape[-1])
