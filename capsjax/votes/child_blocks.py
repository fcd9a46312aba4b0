"""Blocks of children, where a number for each pair of child and parent would take much memory.

What a child does depends on the other children only through the parents' poses. So logits, couplings and
contractions can be made of one block of children at a time and added up, and no array holds all pairs.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax.types import PerPair
from capsjax.votes import contractions
from capsjax.votes.base import Votes
from capsjax.votes.over_parents import zeros_after
from capsjax.votes.parents_first import ParentsFirstVotes

# Pairs of child and parent, of all examples, 128 MB of numbers, up to which there is one block.
TOGETHER = 2**25

Kind = TypeVar("Kind", bound=Votes)
Sum = Float[Array, "*batch j e"]


def count(votes: Votes) -> int:
    """Return the fewest equal blocks of children that have no more than `TOGETHER` pairs each.

    Args:
        votes: any votes.

    Returns:
        Their number; 1 where some capsules are masked, on a GPU or TPU, and of votes that are not linear.
    """
    if not isinstance(votes, ParentsFirstVotes) or votes.masks or contractions.accelerated():
        return 1
    *batch, children, parents, _ = votes.shape
    if not all(isinstance(size, int) for size in batch):  # a symbol, under `jax.export`
        return 1
    pairs = math.prod(batch) * parents
    sizes = (n for n in range(1, children + 1) if children % n == 0)
    return next((n for n in sizes if children // n * pairs <= TOGETHER), max(children, 1))


def total(of_block: Callable[[Votes], Sum], votes: Votes) -> Sum:
    """Add up over blocks of children.

    Args:
        of_block: from votes of some children to a sum over them, [*batch, j, e].
        votes: of all children.

    Returns:
        The sum over all, [*batch, j, e].
    """
    blocks = count(votes)
    if blocks == 1:
        return of_block(votes)
    nothing = jnp.zeros((*votes.shape[:-3], *votes.shape[-2:]), votes.dtype)

    def add(number: Array, found: Sum) -> Sum:
        return found + of_block(_block(votes, number, blocks))

    return jax.lax.fori_loop(0, blocks, add, nothing)


def accumulate(
    of_block: Callable[[Votes, list[PerPair], Any], tuple[Sum, Kind]],
    votes: Votes,
    pairs: list[PerPair],
    votes_bar: Kind | None,
) -> tuple[Sum, Kind]:
    """Add up over blocks of children, and to the cotangents of their own arrays.

    Args:
        of_block: from votes of some children, arrays of their pairs, and cotangents so far, to a sum over
            these children, [*batch, j, e], and the cotangents with theirs added.
        votes: of all children.
        pairs: arrays of all pairs, as held.
        votes_bar: cotangents of the votes' arrays, in their places; None for nothing.

    Returns:
        The sum over all children, [*batch, j, e]; and the cotangents with all of theirs added.
    """
    blocks = count(votes)
    if blocks == 1:
        return of_block(votes, pairs, votes_bar)
    nothing = jnp.zeros((*votes.shape[:-3], *votes.shape[-2:]), votes.dtype)
    size = votes.shape[-3] // blocks
    if votes_bar is None:
        votes_bar = jax.tree.map(lambda x: zeros_after(pairs, x), votes)

    def add(number: Array, carry: tuple[Sum, Any]) -> tuple[Sum, Any]:
        found, bar = carry
        some = [jax.lax.dynamic_slice_in_dim(x, number * size, size, 1) for x in pairs]  # [j, k, b]
        more, of_these = of_block(_block(votes, number, blocks), some, _block(bar, number, blocks))
        return found + more, _put(bar, number, of_these)

    return jax.lax.fori_loop(0, blocks, add, (nothing, votes_bar))


def _block(votes: Any, number: Array, blocks: int) -> Any:
    """Return the votes of one block of children."""
    votes = cast(ParentsFirstVotes, votes)
    i, d, _ = votes.u.shape
    size, take = i // blocks, jax.lax.dynamic_slice_in_dim
    u = take(votes.u, number * size, size)  # [k, d, b]
    matrices = take(votes.matrices, number * size * d, size * d, axis=1)  # [j, k d, e]
    return dataclasses.replace(votes, u=u, matrices=matrices)


def _put(votes: Any, number: Array, block: Any) -> Any:
    """Return the votes with a block's arrays in the place of its own."""
    (size, d, _), put = block.u.shape, jax.lax.dynamic_update_slice_in_dim
    u = put(votes.u, block.u, number * size, 0)
    matrices = put(votes.matrices, block.matrices, number * size * d, 1)
    return dataclasses.replace(votes, u=u, matrices=matrices)
