"""Routing by agreement, the 2017 paper's procedure 1."""

import dataclasses
from typing import Any, Literal

from jaxtyping import Array, Float

from capsjax.checks import check_bool
from capsjax.gradients import GradientMode, StopGradient
from capsjax.routing import dynamic_vjp
from capsjax.routing.base import BiasedVotes, IterativeRouting
from capsjax.types import PerPair, RoutingResult
from capsjax.votes import Votes


@dataclasses.dataclass(frozen=True, kw_only=True)
class DynamicRouting(IterativeRouting[BiasedVotes, PerPair]):
    """Route by agreement: a child's coupling grows for parents whose pose its vote agrees with.

    For r readouts: c = softmax of b over the parents; s_j = sum_i c_ij vote_ij + bias_j;
    v_j = squash(s_j); between readouts, b_ij += vote_ij . v_j. The logits b start at zero in every
    forward pass, for every example: they are computed, never learned.

    Args:
        num_iters: r, the number of readouts: r - 1 updates of the logits; r = 1 is uniform coupling.
        gradient: which updates the gradient passes through.
        leaky: adds a zero logit for "none of the parents", as the released code can.
        kind: its name in a configuration.

    Raises:
        FieldError: where num_iters is below 1, or the gradient does not fit.

    Reference:
        Sabour, Frosst and Hinton 2017, procedure 1; the bias and the leak are the released code's.
    """

    leaky: bool = False
    kind: Literal["dynamic"] = "dynamic"

    def __post_init__(self):
        super().__post_init__()
        check_bool(self, "leaky")

    def prepare(
        self, votes: Votes, *, activation: Array | None = None, params: Array | None = None
    ) -> BiasedVotes:
        """Take the votes and, as `params`, the bias [j, e] or None."""
        return BiasedVotes.of("DynamicRouting", votes, activation, params)

    def init(self, inputs: BiasedVotes) -> PerPair:
        """Return b = 0."""
        return inputs.votes.zeros()

    def update(self, t: Any, state: PerPair, inputs: BiasedVotes) -> PerPair:
        """Return b + vote . v."""
        pose, _ = self.readout(t, self.couple(state, inputs), inputs)
        return state + self.agreement(pose, inputs)

    def couple(self, state: PerPair, inputs: BiasedVotes) -> PerPair:
        """Return c, the softmax of b over the parents."""
        return inputs.votes.couple(state, self.leaky)

    def logits(self, state: PerPair, inputs: BiasedVotes) -> PerPair:
        """Return the state: it is b."""
        del inputs
        return state

    def readout(
        self, t: Any, coupling: PerPair, inputs: BiasedVotes
    ) -> tuple[Float[Array, "*batch j e"], Float[Array, "*batch j"]]:
        """Return v_j = squash(sum_i c_ij vote_ij + bias_j), [*batch, j, e], and its length."""
        del t
        return inputs.readout(coupling)

    def agreement(self, pose: Float[Array, "*batch j e"], inputs: BiasedVotes) -> PerPair:
        """Return vote_ij . v_j."""
        return inputs.votes.agreement(pose)

    def shown(self, x: PerPair, inputs: BiasedVotes) -> Float[Array, "*batch i j"]:
        """Return what the votes hold as [*batch, i, j]."""
        return inputs.votes.shown(x)

    def forward(
        self, inputs: BiasedVotes, num_updates: int
    ) -> tuple[PerPair, PerPair, dynamic_vjp.Kept]:
        """Return the coupling, the logits and what `adjoint` needs; for `ClosedForm`."""
        return dynamic_vjp.forward(inputs, num_updates, self.leaky)

    def adjoint(
        self, saved: dynamic_vjp.Kept, inputs: BiasedVotes, cotangents: tuple[Array, PerPair]
    ) -> BiasedVotes:
        """Pull cotangents of the coupling and the logits back to votes and bias; for `ClosedForm`."""
        return dynamic_vjp.adjoint(saved, inputs, *cotangents, self.leaky)


def dynamic_routing(
    votes: Votes | Float[Array, "*batch i j e"],
    *,
    num_iters: int = 3,
    gradient: GradientMode = StopGradient(),
    bias: Float[Array, "j e"] | None = None,
    leaky: bool = False,
    trace: bool = False,
) -> RoutingResult:
    """Route votes by agreement.

    Args:
        votes: an operator such as `predict(u, W)`, or an array [*batch, i, j, e].
        num_iters: r, the number of readouts: r - 1 updates of the logits; r = 1 is uniform coupling.
        gradient: how the gradient treats the coupling: `StopGradient()` holds it constant,
            `FullGradient()` goes through every iteration, `TruncatedGradient(last=k)` through the last k.
        bias: added to every s_j at every iteration, [j, e].
        leaky: adds a zero logit for "none of the parents".
        trace: whether to return coupling, entropy and agreement of every iteration, as data.

    Returns:
        Poses [*batch, j, e], coupling and logits [*batch, i, j], activation [*batch, j].

    Raises:
        UserError: where a shape or an option does not fit.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> u = jax.random.normal(jax.random.key(0), [4, 6, 8])
        >>> W = jax.random.normal(jax.random.key(1), [6, 3, 8, 16])
        >>> from capsjax.votes import predict
        >>> dynamic_routing(predict(u, W), num_iters=3).pose.shape
        (4, 3, 16)

    Reference:
        Sabour, Frosst and Hinton 2017, procedure 1.
    """
    routing = DynamicRouting(num_iters=num_iters, gradient=gradient, leaky=leaky)
    return routing(votes, params=bias, trace=trace)
