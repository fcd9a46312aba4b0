"""Votes of which some children or parents are not there: sequences of unequal length, missing parts."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from capsjax.checks import UserError
from capsjax.numerics import as_array, described
from capsjax.votes.base import Masks, Votes
from capsjax.votes.dense import as_votes
from capsjax.votes.window import WindowVotes


def mask(
    votes: Votes | Float[Array, "*batch i j e"],
    *,
    children: Bool[Array, "*batch i"] | None = None,
    parents: Bool[Array, "*batch j"] | None = None,
) -> Votes:
    """Leave out children and parents: True stays, False is not there.

    What is not there has coupling, pose, activation and gradient exactly 0; of the rest every routing gives
    what it would give if it were alone. Where no child or no parent is there, an example's couplings are 0,
    and its parents what the routing makes of a sum of nothing, or 0. Masks of all True change nothing, to the
    bit. Votes that are masked already keep only what both masks let stay. A child that is not there may hold
    any numbers, NaN too, in dense and linear votes, and so may a parent that is there for no example.

    Args:
        votes: an operator such as `predict(u, W)`, or an array [*batch, i, j, e].
        children: which children are there, [*batch, i]; None for all. Of window votes, those of each window:
            `votes.seen(x)` of a mask x on the grid, [*batch, h, w, a].
        parents: which parents are there, [*batch, j]; None for all.

    Returns:
        The masked votes, of the same shape.

    Raises:
        UserError: If a mask is not Boolean, or not of that shape.

    Example:
        >>> import jax.numpy as jnp
        >>> from capsjax.routing import UniformRouting
        >>> votes = mask(jnp.ones([2, 3, 4]), parents=jnp.array([True, False, True]))
        >>> UniformRouting()(votes).coupling.tolist()
        [[0.5, 0.0, 0.5], [0.5, 0.0, 0.5]]
    """
    votes = as_votes(votes)
    if children is None and parents is None:
        return votes
    *batch, i, j, _ = votes.shape
    before = votes.masks or Masks()
    masks = Masks(
        _joined("children", children, (*batch, i), before.children, _by_seen(votes)),
        _joined("parents", parents, (*batch, j), before.parents),
    )
    # Cleared as well as masked: 0 times the NaN of a child that is not there would be NaN.
    return dataclasses.replace(votes, masks=masks).cleared()


def _by_seen(votes: Votes) -> str:
    """Say how a mask of children on a grid becomes one of the children of windows."""
    if not isinstance(votes, WindowVotes):
        return ""
    return "; one of the children on their grid, [*batch, h, w, a], by votes.seen(mask)"


def _joined(
    name: str, given: Any, shape: tuple[int, ...], before: Array | None, advice: str = ""
) -> Array | None:
    """Check a mask, and join it with the one that was there before."""
    if given is None:
        return before
    found = as_array(f"mask: {name}", given)
    # Not broadcast, and no numbers: a mask of scores, or one example's for a batch, is likelier a mistake.
    if found.dtype != bool or found.shape != shape:
        axes = "[*batch, i]" if name == "children" else "[*batch, j]"
        raise UserError(
            f"mask: {name}: got {described(found)}, expected bool{list(shape)}: {axes}, True for what is "
            "there; numbers become such a mask by a comparison, x > 0, and one mask for all examples by "
            f"jax.numpy.broadcast_to{advice}"
        )
    return found if before is None else jnp.logical_and(before, found)
