"""Self-routing: each child decides by its own pose, without any agreement."""

import dataclasses
from collections.abc import Mapping
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax.routing.base import Routing
from capsjax.routing.means import means_of
from capsjax.routing.parameters import Parameter, Sizes, zeros
from capsjax.types import Capsules, RoutingResult
from capsjax.votes import Votes


class GatedVotes(NamedTuple):
    """Hold what self-routing depends on.

    Attributes:
        votes: the votes, of shape (*batch, i, j, e).
        poses: the children's poses, [*batch, i, d].
        activation: how present each child is, [*batch, i].
        route: what a child's pose is compared with for each parent, [i, j, d].
        offset: added to each logit, [i, j].
    """

    votes: Votes
    poses: Float[Array, "*batch i d"]
    activation: Float[Array, "*batch i"]
    route: Float[Array, "i j d"]
    offset: Float[Array, "i j"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfRouting(Routing[GatedVotes]):
    """Let each child choose its parents by a trained function of its own pose.

    c_ij = softmax over j of (route_ij . u_i + offset_ij)

    a_j = sum_i c_ij a_i / sum_ik c_ik a_i,   v_j = sum_i c_ij a_i V_ij / sum_i c_ij a_i

    Nothing is iterated, so there is no gradient mode to choose: a coupling held constant would leave `route`
    and `offset` as they began, and the coupling uniform if they begin at 0. The parents' activations sum
    to 1 if any child is present; a parent that no child is coupled to has pose 0. The paper divides by
    sum_i a_i: the same, but where a convolution's children share their couplings out over positions.

    Args:
        kind: its name in a configuration.

    Reference:
        Hahn, Pyeon and Kim 2019, "Self-routing capsule networks", section 3.
    """

    takes = frozenset({"poses", "activation"})
    activations = "shares"

    kind: Literal["self"] = "self"

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        """Describe the gate: a vector and a number for each pair, both 0 at first."""
        i, j, d, _ = sizes
        return {
            "route": Parameter((i, j, d or 0), "one vector for each pair, [i, j, d]", zeros),
            "offset": Parameter((i, j), "one number for each pair, [i, j]", zeros),
        }

    def prepare(self, votes: Votes, children: Capsules, params: Mapping[str, Array]) -> GatedVotes:
        """Take the votes, the children and the gate.

        Args:
            votes: the votes, arranged to be contracted many times.
            children: their pose, [*batch, i, d], and activation, [*batch, i].
            params: `route`, [i, j, d], and `offset`, [i, j].

        Returns:
            All five.
        """
        poses, activation = map(jnp.asarray, children)
        return GatedVotes(votes, poses, activation, params["route"], params["offset"])

    def route(self, inputs: GatedVotes) -> RoutingResult:
        """Gate and weigh, once."""
        votes, pairs = inputs.votes, inputs.votes.pairs
        gate = jnp.einsum("...id,ijd->...ij", inputs.poses, inputs.route)  # [*batch, i, j]
        logits = gate + jnp.broadcast_to(inputs.offset, gate.shape)  # [*batch, i, j]
        coupling = votes.couple(pairs.from_array(logits))  # c_ij, as held
        pose, activation = means_of(votes, coupling * pairs.by_child(inputs.activation))
        return RoutingResult(pose, pairs.to_array(coupling), logits, activation)
