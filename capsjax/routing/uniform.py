"""Every child to every parent alike: the baseline that any claim about routing has to beat."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from jaxtyping import Array

from capsjax.routing.agreement import BiasedVotes
from capsjax.routing.base import Routing
from capsjax.routing.parameters import Parameter, Sizes
from capsjax.types import Capsules, RoutingResult
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

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        """Describe the bias, [j, e], which may be left out."""
        return BiasedVotes.parameters(sizes)

    def prepare(self, votes: Votes, children: Capsules, params: Mapping[str, Array]) -> BiasedVotes:
        """Take the votes and the bias.

        Args:
            votes: the votes, arranged to be contracted many times.
            children: not used.
            params: may hold `bias`, [j, e].

        Returns:
            Votes and bias.
        """
        del children
        return BiasedVotes.of(votes, params)

    def route(self, inputs: BiasedVotes) -> RoutingResult:
        """Read out once, by the first coupling."""
        votes = inputs.votes
        logits = votes.zeros()  # so that 1/J counts the parents that each child has, masks included
        coupling = votes.couple(logits)
        pose, activation = inputs.readout(coupling)  # [*batch, j, e], [*batch, j]
        to_array = votes.pairs.to_array
        return RoutingResult(pose, to_array(coupling), to_array(logits), activation)
