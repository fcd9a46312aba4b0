"""Routing by agreement, forward and backward, term by term as one derives it on paper.

Forward, with S_0 = 0 and for t = 0, 1, ..., n - 1:

    b_t = votes . S_t,   c_t = softmax(b_t),   s_t = sum_i c_t votes + bias,   S_{t+1} = S_t + squash(s_t)

and at last b_n = votes . S_n, c_n = softmax(b_n): since agreement is linear in the pose, the logits are one
agreement with the sum of the poses so far. Backward, from the cotangents of c_n and b_n:

    b_bar_n = softmax^T(c_bar_n) + the cotangent of b_n itself,   S_bar_n = sum_i b_bar_n votes

and for t = n - 1, ..., 1, with v_bar_t = S_bar_{t+1}:

    s_bar_t = J(s_t) v_bar_t
    c_bar_t = votes . s_bar_t
    b_bar_t = softmax^T(c_bar_t)
    S_bar_t = S_bar_{t+1} + sum_i b_bar_t votes

and s_bar_0 = J(s_0) S_bar_1, where the recursion ends: b_0 is a constant. The bias gets sum_t s_bar_t; the
vote of i for j gets b_bar_t[i, j] S_t[j] for each agreement, c_t[i, j] s_bar_t[j] for each sum.
Kept from forward to backward: s_t, one vector for each parent and iteration, and the last coupling c_n.

Where a number for each pair would take much memory, children are worked through in blocks: what a child does
follows from S_t, s_bar_t and its own votes.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax import numerics
from capsjax.routing.agreement import BiasedVotes
from capsjax.types import PerPair
from capsjax.votes import Votes, child_blocks


class Kept(NamedTuple):
    """Hold what the backward pass needs of the forward pass.

    Attributes:
        s: the weighted sums s_t before squashing, [n, *batch, j, e].
        coupling: the final coupling c_n, as the votes hold it.
    """

    s: Float[Array, "n *batch j e"]
    coupling: PerPair


def forward(inputs: BiasedVotes, num_updates: int, leaky: bool) -> tuple[PerPair, PerPair, Kept]:
    """Run the updates, keeping what `adjoint` needs.

    Args:
        inputs: votes (*batch, i, j, e) and bias [j, e].
        num_updates: n = r - 1.
        leaky: whether a zero logit stands for "none of the parents".

    Returns:
        c_n and b_n, as the votes hold them, and what is kept.
    """
    votes, bias = inputs

    def readout(votes_sum: Float[Array, "*batch j e"]) -> Float[Array, "*batch j e"]:
        return votes_sum + jnp.broadcast_to(bias, votes_sum.shape)

    def logits_of(total: Array) -> PerPair | None:
        """Return all logits where they are held at once; of blocks each makes its own."""
        return votes.agreement(total) if child_blocks.count(votes) == 1 else None

    def update(carry: tuple[Array, PerPair | None], _: None) -> tuple[Any, Array]:
        total, held = carry  # S_t [*batch, j, e], b_t

        def weighed(block: Votes) -> Float[Array, "*batch j e"]:
            logits = block.agreement(total) if held is None else held
            return block.combine(block.couple(logits, leaky))

        s = readout(child_blocks.total(weighed, votes))  # [*batch, j, e]
        total = total + numerics.squash(s)  # S_{t+1}
        return (total, logits_of(total)), s

    if num_updates == 0:
        coupling = votes.couple(votes.zeros(), leaky)
        nothing = jnp.zeros((0, *votes.shape[:-3], *votes.shape[-2:]), votes.dtype)
        return coupling, votes.zeros(), Kept(nothing, coupling)
    # While all logits are zero, a child divides itself equally among the parents that it has.
    first = readout(child_blocks.total(lambda block: block.uniform(leaky), votes))  # s_0
    total = numerics.squash(first)  # S_1
    (total, held), s = jax.lax.scan(update, (total, logits_of(total)), length=num_updates - 1)
    s = jnp.concatenate([first[None], s])  # [n, *batch, j, e]
    logits = votes.agreement(total) if held is None else held
    coupling = votes.couple(logits, leaky)
    return coupling, logits, Kept(s, coupling)


def adjoint(
    kept: Kept,
    inputs: BiasedVotes,
    coupling_bar: PerPair,
    logits_bar: PerPair,
    leaky: bool,
) -> BiasedVotes:
    """Return the cotangents of votes and bias, from those of c_n and b_n.

    Args:
        kept: what `forward` kept.
        inputs: what it was given.
        coupling_bar: cotangent of c_n, as the votes hold it.
        logits_bar: cotangent of b_n, likewise.
        leaky: as in `forward`.

    Returns:
        Cotangents of votes, in the places of their arrays, and of the bias, [j, e].
    """
    votes, bias = inputs
    if kept.s.shape[0] == 0:
        return jax.tree.map(jnp.zeros_like, inputs)
    v = numerics.squash(kept.s)  # [n, *batch, j, e]
    # S_t is the sum of the poses before t; the last is that of all.
    sums = jnp.cumsum(v, axis=0)

    def last(block: Votes, pairs: list[PerPair], block_bar: Votes | None) -> tuple[Array, Votes]:
        coupling, coupling_bar, logits_bar = pairs
        b_bar = block.pairs.couple_vjp(coupling, coupling_bar) + logits_bar
        return block.adjoint([b_bar], [sums[-1]], block_bar)

    def backward(
        carry: tuple[Array, Votes], step: tuple[Array, Array]
    ) -> tuple[tuple[Array, Votes], Array]:
        total_bar, votes_bar = carry
        s, total = step
        s_bar = numerics.squash_jacobian(s, total_bar)

        def pull(block: Votes, _: list[PerPair], block_bar: Votes) -> tuple[Array, Votes]:
            # The logits are made again from S_t, with c_bar in the same pass over the votes, instead of kept:
            # one vector for each parent stands for one number for each pair.
            logits, c_bar = block.agreements([total, s_bar])
            coupling = block.couple(logits, leaky)
            b_bar = block.pairs.couple_vjp(coupling, c_bar)
            return block.adjoint([b_bar, coupling], [total, s_bar], block_bar)

        more, votes_bar = child_blocks.accumulate(pull, votes, [], votes_bar)
        return (total_bar + more, votes_bar), s_bar

    held = [kept.coupling, coupling_bar, logits_bar]
    start = child_blocks.accumulate(last, votes, held, None)
    (total_bar, votes_bar), s_bars = jax.lax.scan(
        backward, start, (kept.s[1:], sums[:-1]), reverse=True
    )
    # The first update begins with b_0 = 0: its coupling is constant, and only its sum has a term.
    s_bar = numerics.squash_jacobian(kept.s[0], total_bar)

    def first(block: Votes, _: list[PerPair], block_bar: Votes) -> tuple[Array, Votes]:
        _, pull = jax.vjp(lambda votes: votes.uniform(leaky), block)
        return s_bar, numerics.add_cotangents(block_bar, pull(s_bar)[0])

    _, votes_bar = child_blocks.accumulate(first, votes, [], votes_bar)
    every = jnp.concatenate([s_bar[None], s_bars])
    return BiasedVotes(votes_bar, every.reshape(-1, *bias.shape).sum(0))
