"""Soft k-means backward, term by term as one derives it on paper.

Forward, from b_0, which is 0 or made of the centres, for t = 0, 1, ..., n - 1 and with beta the inverse
temperature:

    c_t = softmax(b_t),   N_t = sum_i c_t,   m_t = sum_i c_t V / N_t,   b_{t+1} = -beta |V - m_t|^2 / 2

Backward, from the cotangents of c_n and b_n, b_bar_n = softmax^T(c_bar_n) + the cotangent of b_n itself, and
for t = n - 1, ..., 0:

    m_bar_t = beta sum_i b_bar_{t+1} (V - m_t)
    c_bar_t = m_bar_t . (V - m_t) / N_t
    b_bar_t = softmax^T(c_bar_t)

Centres m_{-1} get beta sum_i b_bar_0 (V - m_{-1}). The vote of i for j gets beta b_bar_{t+1} (m_t - V) of
each distance and c_t m_bar_t / N_t of each mean; of these the terms with V itself are gathered over all t, as
one adjoint of the squares |V|^2. Kept from forward to backward: the means, one vector for each parent and
iteration.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax import numerics
from capsjax.routing.units import squared_distance
from capsjax.types import PerPair
from capsjax.votes import Votes


class Points(NamedTuple):
    """Hold what soft k-means depends on.

    Attributes:
        votes: the votes, of shape (*batch, i, j, e); of points, the same for every parent.
        centres: where the means begin, [j, e]; None to begin with uniform coupling.
    """

    votes: Votes
    centres: Float[Array, "j e"] | None


def near(
    votes: Votes, centre: Float[Array, "*batch j e"], beta: float
) -> tuple[PerPair, Float[Array, "*batch"]]:
    """Measure nearness: -beta |V_ij - m_j|^2 / 2.

    Args:
        votes: the votes, of shape (*batch, i, j, e).
        centre: m_j, [*batch, j, e].
        beta: the inverse temperature.

    Returns:
        Logits, as held; and the beta that each example got, [*batch], less only where votes are huge.
    """
    found, half_beta = squared_distance(votes, centre, beta / 2)
    return -found, 2 * half_beta


class Sums(NamedTuple):
    """Hold what the votes get, added up over the iterations.

    Attributes:
        votes: cotangents from products with the votes, in the places of their arrays.
        squares: what |V_ij|^2 / 2 is to be multiplied by, less its sign, as held.
    """

    votes: Any
    squares: PerPair


def adjoint(
    means: Float[Array, "n *batch j e"],
    inputs: Points,
    coupling_bar: PerPair,
    logits_bar: PerPair,
    beta: float,
) -> tuple[Votes, Float[Array, "j e"] | None]:
    """Return the cotangents of votes and centres, from those of c_n and b_n.

    Args:
        means: m_0 to m_{n-1}.
        inputs: the votes that were routed, and where the means began, [j, e]; None if b_0 = 0.
        coupling_bar: cotangent of c_n, as the votes hold it.
        logits_bar: cotangent of b_n, likewise.
        beta: the inverse temperature.

    Returns:
        Cotangents of votes, in the places of their arrays, and of the centres.
    """
    votes, centres = inputs.votes, inputs.centres
    if centres is not None:
        means = jnp.concatenate([jnp.broadcast_to(centres, (1, *means.shape[1:])), means])
    if len(means) == 0:  # no update, and b_0 = 0
        return jax.tree.map(jnp.zeros_like, votes), None

    def backward(carry: tuple[PerPair, Sums], step: tuple[Array, Array]) -> Any:
        (logits_bar, sums), (before, mean) = carry, step
        mean_bar, sums = _distance_bar(votes, mean, logits_bar, sums, beta)
        # The coupling is made again from the mean before: one vector for each parent stands for a number
        # for each pair.
        coupling = votes.couple(near(votes, before, beta)[0])
        return _mean_bar(votes, coupling, mean, mean_bar, sums), None

    coupling = votes.couple(near(votes, means[-1], beta)[0])
    logits_bar = votes.pairs.couple_vjp(coupling, coupling_bar) + logits_bar
    sums = Sums(jax.tree.map(jnp.zeros_like, votes), jnp.zeros_like(logits_bar))
    steps = means[:-1], means[1:]
    (logits_bar, sums), _ = jax.lax.scan(backward, (logits_bar, sums), steps, reverse=True)
    first_bar, sums = _distance_bar(votes, means[0], logits_bar, sums, beta)
    if centres is not None:
        return _with_squares(votes, sums), first_bar.reshape(-1, *centres.shape).sum(0)
    # The first update begins with b_0 = 0, where the recursion ends.
    _, sums = _mean_bar(votes, votes.couple(votes.zeros()), means[0], first_bar, sums)
    return _with_squares(votes, sums), None


def _distance_bar(
    votes: Votes, mean: Array, logits_bar: PerPair, sums: Sums, beta: float
) -> tuple[Float[Array, "*batch j e"], Sums]:
    """Pull b_bar back to the mean: beta sum_i b_bar (V - m)."""
    weighed = logits_bar * votes.pairs.broadcast(near(votes, mean, beta)[1])
    pulled, votes_bar = votes.adjoint([weighed], [mean], sums.votes)
    mean_bar = pulled - mean * votes.pairs.sum_children(weighed)[..., None]
    return mean_bar, Sums(votes_bar, sums.squares + weighed)


def _mean_bar(
    votes: Votes, coupling: PerPair, mean: Array, mean_bar: Array, sums: Sums
) -> tuple[PerPair, Sums]:
    """Pull m_bar back to the logits: softmax^T(m_bar . (V - m) / N)."""
    pairs = votes.pairs
    shared = mean_bar / numerics.at_least_tiny(pairs.sum_children(coupling))[..., None]
    own = jnp.sum(mean * shared, axis=-1)  # m . m_bar / N, [*batch, j]
    coupling_bar = votes.agreement(shared) - pairs.by_parent(own)
    _, votes_bar = votes.adjoint([coupling], [shared], sums.votes)
    return pairs.couple_vjp(coupling, coupling_bar), sums._replace(votes=votes_bar)


def _with_squares(votes: Votes, sums: Sums) -> Votes:
    """Add what the votes get from their squares, whose sum over components is a distance from 0."""
    zero = jnp.zeros((*votes.shape[:-3], *votes.shape[-2:]), votes.dtype)
    _, pull = jax.vjp(lambda votes: votes.distance(zero, jnp.ones_like(zero)), votes)
    return numerics.add_cotangents(sums.votes, pull(-sums.squares / 2)[0])
