"""Every child to every parent alike: the baseline that any claim about routing has to beat."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from capsjax.routing.base import BiasedVotes, Routing, trace_of
from capsjax.types import RoutingResult, RoutingTrace
from capsjax.votes import Votes


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniformRouting(Routing[BiasedVotes]):
    """Couple each child to all its parents alike: c_ij = 1/J, without any iteration.

    The same as dynamic routing with one iteration. The coupling depends on nothing, so there is no
    gradient mode to choose.

    Args:
        kind: its name in a configuration.

    Reference:
        Sabour, Frosst and Hinton 2017, table 1, "routing 1"; Paik, Kwak and Kim 2019, who found
        routing algorithms often no better than this.
    """

    kind: Literal["uniform"] = "uniform"

    def prepare(
        self, votes: Votes, *, activation: Array | None = None, params: Array | None = None
    ) -> BiasedVotes:
        """Take the votes and, as `params`, the bias [j, e] or None."""
        return BiasedVotes.of("UniformRouting", votes, activation, params)

    def route(self, inputs: BiasedVotes) -> RoutingResult:
        """Read out once, with every coupling the same."""
        votes = inputs.votes
        logits = votes.zeros()
        coupling = votes.couple(logits)
        pose, activation = inputs.readout(coupling)
        return RoutingResult(pose, votes.shown(coupling), votes.shown(logits), activation)

    def look(self, inputs: BiasedVotes) -> RoutingTrace:
        """Return the one readout there is, with an axis of iterations of size 1."""
        result = self.route(inputs)
        agreement = inputs.votes.shown(inputs.votes.agreement(result.pose))
        trace = trace_of(result.coupling, agreement)
        return jax.tree.map(lambda array: jnp.expand_dims(array, 0), trace)
