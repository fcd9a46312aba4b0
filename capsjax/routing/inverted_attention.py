"""Inverted dot-product attention: parents compete for each child by how well their poses match its votes."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from jax.nn.initializers import ones
from jaxtyping import Array, Float

from capsjax import numerics
from capsjax.checks import FieldError, check_bool
from capsjax.gradients import FullGradient, StopGradient
from capsjax.routing.base import Parents
from capsjax.routing.logits import LogitRouting
from capsjax.routing.parameters import Parameter, Sizes, zeros
from capsjax.types import Capsules, PerPair
from capsjax.votes import Votes


class NormalisedVotes(NamedTuple):
    """Hold what inverted attention depends on.

    Attributes:
        votes: the votes, of shape (*batch, i, j, e).
        gain: what a normalised component is multiplied by, for all parents, [e].
        offset: what is added to it, [e].
    """

    votes: Votes
    gain: Float[Array, "e"]
    offset: Float[Array, "e"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class InvertedAttentionRouting(LogitRouting[NormalisedVotes]):
    """Let parents' poses compete for each child, as queries that are normalised over the queries.

    c = softmax of b over the parents, b = 0 at first, and for r readouts

    v_j = LayerNorm(sum_i c_ij V_ij) = gain (s_j - mean s_j) / sqrt(var s_j + 1e-5) + offset

    and between two of them the logits are replaced, not added to:

    b_ij = V_ij . v_j / sqrt(e)

    Gain and offset, [e] each, are trained and shared by all parents. Of several layers each is routed by
    itself, one after the other, unless they are `concurrent`: `concurrent_attention` says what they do then;
    called by itself, or of one layer alone, such a routing does the same as any. The paper has no
    activations and reads classes off a linear map that all class capsules share, so a network wants a head
    with parameters: the activation is the length of the pose, which after the normalisation says little.

    The coupling that a gradient mode treats is c; the last normalisation is always live, so that gain and
    offset get a gradient in every mode.

    Args:
        num_iters: r, the number of readouts; the paper's best networks have 2.
        gradient: how the gradient treats the coupling; the released code goes through every iteration,
            `FullGradient()`.
        tolerance: if given, an example's updates end once another would move none of its couplings by more
            than this; with `StopGradient()`.
        concurrent: whether neighbouring layers of a network that have this routing are updated at once, each
            from the poses of the update before, as the paper's networks are; with `StopGradient()` or
            `FullGradient()`, and without a tolerance.
        kind: its name in a configuration.

    Raises:
        FieldError: If a number is out of range, or the gradient does not fit.

    Reference:
        Tsai, Srivastava, Goh and Salakhutdinov 2020, "Capsules with inverted dot-product attention routing",
        section 3, procedure 1; division by sqrt(e), trained gain and offset: the released code.
    """

    activations = "none"

    num_iters: int = 2
    concurrent: bool = False
    kind: Literal["inverted_attention"] = "inverted_attention"

    def __post_init__(self):
        super().__post_init__()
        check_bool(self, "concurrent")
        if not self.concurrent:
            return
        # The state of a stack is its layers' poses, which no mode may stop, nor any example by itself.
        if not isinstance(self.gradient, FullGradient | StopGradient):
            expected = "FullGradient() or StopGradient() of concurrent layers; or concurrent False"
            in_config = "full or stop of concurrent layers; or concurrent false"
            raise FieldError(type(self).__name__, "gradient", self.gradient, expected, in_config)
        if self.tolerance is not None:
            expected = "None for concurrent layers, which are updated together; or concurrent False"
            in_config = (
                "null for concurrent layers, which are updated together; or concurrent false"
            )
            raise FieldError(type(self).__name__, "tolerance", self.tolerance, expected, in_config)

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        """Describe gain and offset, one number for each component of a pose: 1 and 0 at first."""
        axes = "one number for each component of a pose, [e]"
        return {
            "gain": Parameter((sizes.e,), axes, ones),
            "offset": Parameter((sizes.e,), axes, zeros),
        }

    def prepare(
        self, votes: Votes, children: Capsules, params: Mapping[str, Array]
    ) -> NormalisedVotes:
        """Take the votes and what normalised poses are scaled by.

        Args:
            votes: the votes, arranged to be contracted many times.
            children: not used.
            params: `gain` and `offset`, [e] each.

        Returns:
            All three.
        """
        del children
        return NormalisedVotes(votes, params["gain"], params["offset"])

    def parents(self, t: Any, coupling: PerPair, inputs: NormalisedVotes) -> Parents:
        """Read the parents out: v_j = LayerNorm(sum_i c_ij V_ij).

        Args:
            t: number of the readout; the same for all.
            coupling: c_ij, as held.
            inputs: votes, gain and offset.

        Returns:
            Poses [*batch, j, e], and their lengths as activations [*batch, j].
        """
        del t
        # Not divided by the sum of the couplings, as the released code does: the normalisation undoes it.
        s = inputs.votes.combine(coupling)  # [*batch, j, e]
        pose = numerics.layer_norm(s, inputs.gain, inputs.offset)
        return Parents(pose, numerics.safe_norm(pose))  # activation [*batch, j]

    def respond(
        self, t: Any, logits: PerPair, parents: Parents, inputs: NormalisedVotes
    ) -> PerPair:
        """Replace the logits by the agreement: V_ij . v_j / sqrt(e).

        Args:
            t: number of the update; the same for all.
            logits: the old ones, which are replaced.
            parents: what was read out for them.
            inputs: votes, gain and offset.

        Returns:
            The new logits, as held.
        """
        del t, logits
        return inputs.votes.agreement(parents.pose / math.sqrt(parents.pose.shape[-1]))
