"""Self-attention: a child is coupled to the parents on which its vote agrees with all the votes."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax import numerics
from capsjax.checks import FieldError, check_int
from capsjax.routing.base import IterativeRouting, Parents
from capsjax.routing.parameters import Parameter, Sizes, zeros
from capsjax.routing.units import DECIDED
from capsjax.types import Capsules, PerPair
from capsjax.votes import Votes


class AttendedVotes(NamedTuple):
    """Hold what self-attention depends on.

    Attributes:
        votes: the votes, of shape (*batch, i, j, e).
        prior: p_ij, added to the coupling where votes are summed, [i, j].
    """

    votes: Votes
    prior: Float[Array, "i j"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfAttentionRouting(IterativeRouting[AttendedVotes, PerPair]):
    """Couple a child to the parents on which its vote agrees with the sum of all votes, once.

    b_ij = sum_k V_ij . V_kj / sqrt(e) = V_ij . (sum_k V_kj) / sqrt(e)

    c_ij = softmax over j of b_ij

    s_j = sum_i (c_ij + prior_ij) V_ij,   v_j = (1 - exp(-|s_j|)) s_j / |s_j|

    Nothing is iterated: the logits do not depend on the coupling. But the coupling depends on the votes, so a
    gradient mode has something to decide: it treats c. The prior is trained, 0 at first, and added after
    the softmax, so that what a child hands out need not sum to 1; it belongs to the sum of votes, which
    is always live, and gets a gradient in every mode. `RoutingResult.coupling` is c, without it.

    The attention of every vote to every other is one sum over the children and one agreement with it: nothing
    [i, i] is formed, and no vote either. It is the one update of routing by agreement with two
    iterations, of another scale and without its first squash.

    Args:
        num_iters: 2, uniform coupling and the one that attends; 1 is uniform coupling plus the prior.
        gradient: how the gradient treats the coupling; the released code's is `FullGradient()`.
        kind: its name in a configuration.

    Raises:
        FieldError: If num_iters is neither 1 nor 2, or the gradient does not fit.

    Reference:
        Mazzia, Salvetti and Chiaberge 2021, "Efficient-CapsNet: capsule network with self-attention routing",
        section 3.2.
    """

    num_iters: int = 2
    kind: Literal["self_attention"] = "self_attention"

    def __post_init__(self):
        check_int(self, "num_iters", low=1)
        if self.num_iters > 2:
            expected = (
                "1 or 2: the attention depends on the votes alone, so a third would be the second"
            )
            raise FieldError(type(self).__name__, "num_iters", self.num_iters, expected)
        super().__post_init__()

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        """Describe the prior, 0 at first."""
        axes = "one number for each pair, [i, j]"
        return {"prior": Parameter((sizes.i, sizes.j), axes, zeros)}

    def prepare(
        self, votes: Votes, children: Capsules, params: Mapping[str, Array]
    ) -> AttendedVotes:
        """Take the votes and the prior.

        Args:
            votes: the votes, arranged to be contracted many times.
            children: not used.
            params: `prior`, [i, j].

        Returns:
            Both.
        """
        del children
        return AttendedVotes(votes, params["prior"])

    def init(self, inputs: AttendedVotes) -> PerPair:
        """Return b = 0."""
        return inputs.votes.zeros()

    def update(self, t: Any, state: PerPair, inputs: AttendedVotes) -> PerPair:
        """Attend: V_ij . (sum_k V_kj) / sqrt(e).

        Args:
            t: number of the update, of which there is one.
            state: the logits before, of which nothing is kept.
            inputs: votes and prior.

        Returns:
            b_ij, as held.
        """
        del t
        votes = inputs.votes
        whole = votes.combine(each_pair_once(votes)) / math.sqrt(votes.shape[-1])  # [*batch, j, e]
        # Logits are as large as squares of votes. In two factors, neither of which overflows; both are
        # constants whose product is 1, but where the logits are DECIDED.
        largest = jnp.max(jnp.abs(whole), axis=(-2, -1), initial=1)  # [*batch]
        unit = jax.lax.stop_gradient(largest)
        found = votes.agreement(whole / unit[..., None, None])
        bound = numerics.at_least_tiny(votes.pairs.max_abs(jax.lax.stop_gradient(found)))
        factor = votes.pairs.broadcast(jnp.minimum(unit, DECIDED / bound))
        # Within bounds that change nothing: a product that is fused with the softmax's difference is not
        # rounded, and huge ones would not cancel.
        return jnp.clip(found * factor, -2 * DECIDED, 2 * DECIDED)

    def couple(self, state: PerPair, inputs: AttendedVotes) -> PerPair:
        """Normalise the logits over each child's parents: c = softmax(b).

        Args:
            state: the logits b_ij, as held.
            inputs: votes and prior.

        Returns:
            c_ij, as held.
        """
        return inputs.votes.couple(state)

    def readout(self, t: Any, coupling: PerPair, state: PerPair, inputs: AttendedVotes) -> Parents:
        """Read the parents out: v_j = (1 - exp(-|s_j|)) s_j / |s_j|, s_j = sum_i (c_ij + prior_ij) V_ij.

        Args:
            t: number of the readout; the same for both.
            coupling: c_ij, as held.
            state: the logits, which say no more than the coupling.
            inputs: votes and prior.

        Returns:
            Poses [*batch, j, e], and their lengths as activations [*batch, j].
        """
        del t, state
        votes, pairs = inputs.votes, inputs.votes.pairs
        prior = pairs.from_array(jnp.broadcast_to(inputs.prior, pairs.shape))
        s = votes.combine(coupling + prior * each_pair_once(votes))  # [*batch, j, e]
        pose = numerics.exponential_squash(s)
        return Parents(pose, numerics.safe_norm(pose))  # activation [*batch, j]


def each_pair_once(votes: Votes) -> PerPair:
    """Return 1 for a child and a parent that it may vote for, 0 for others, masked ones too, as held."""
    # By the first coupling: a later one may be 0 for pairs that there are.
    uniform = votes.couple(votes.zeros())
    return (uniform > 0).astype(uniform.dtype)
