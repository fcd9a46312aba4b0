"""Routing by agreement, the 2017 paper's procedure 1."""

import dataclasses
from typing import Any, Literal

from jaxtyping import Array, Float

from capsjax.gradients import GradientMode, StopGradient
from capsjax.routing import dynamic_vjp
from capsjax.routing.agreement import AgreementRouting, BiasedVotes
from capsjax.routing.base import Parents
from capsjax.types import PerPair, RoutingResult
from capsjax.votes import Votes


@dataclasses.dataclass(frozen=True, kw_only=True)
class DynamicRouting(AgreementRouting):
    """Route by agreement: a child's coupling grows for parents whose pose its vote agrees with.

    For r readouts: c = softmax of b over the parents; s_j = sum_i c_ij vote_ij + bias_j;
    v_j = squash(s_j); between readouts, b_ij += vote_ij . v_j. The logits b start at zero in every
    forward pass, for every example: they are computed, never learned.

    Args:
        num_iters: r, the number of readouts: r - 1 updates of the logits; r = 1 is uniform coupling.
        gradient: how the gradient treats the coupling.
        leaky: adds a zero logit for "none of the parents", as the released code can.
        tolerance: if given, each example's updates end once another would move none of its couplings by
            more than this; see `LogitRouting`.
        kind: its name in a configuration.

    Raises:
        FieldError: If num_iters is below 1, or the gradient does not fit.

    Reference:
        Sabour, Frosst and Hinton 2017, procedure 1; the bias and the leak are the released code's.
    """

    kind: Literal["dynamic"] = "dynamic"

    def respond(self, t: Any, logits: PerPair, parents: Parents, inputs: BiasedVotes) -> PerPair:
        """Add the agreement to the logits: b_ij + vote_ij . v_j.

        Args:
            t: number of the update; the same for all.
            logits: b_ij, as held.
            parents: what was read out for them.
            inputs: votes and bias.

        Returns:
            The new logits, as held.
        """
        del t
        # As held: no layout changes inside the loop.
        return logits + inputs.votes.agreement(parents.pose)

    def forward(
        self, inputs: BiasedVotes, num_updates: int
    ) -> tuple[PerPair, PerPair, dynamic_vjp.Kept]:
        """Run the updates, for `ClosedForm`.

        Args:
            inputs: votes and bias.
            num_updates: n = r - 1.

        Returns:
            The coupling c_n and the logits b_n, as held, and what `adjoint` needs.
        """
        return dynamic_vjp.forward(inputs, num_updates, self.leaky)

    def adjoint(
        self, saved: dynamic_vjp.Kept, inputs: BiasedVotes, cotangents: tuple[Array, PerPair]
    ) -> BiasedVotes:
        """Pull cotangents of the coupling and the logits back to votes and bias, for `ClosedForm`.

        Args:
            saved: what `forward` kept.
            inputs: votes and bias.
            cotangents: those of c_n and of b_n, as held.

        Returns:
            Cotangents of votes and bias.
        """
        return dynamic_vjp.adjoint(saved, inputs, *cotangents, self.leaky)


def dynamic_routing(
    votes: Votes | Float[Array, "*batch i j e"],
    *,
    num_iters: int = 3,
    gradient: GradientMode = StopGradient(),
    bias: Float[Array, "j e"] | None = None,
    leaky: bool = False,
    tolerance: float | None = None,
    trace: bool = False,
) -> RoutingResult:
    """Route votes by agreement.

    Args:
        votes: an operator such as `predict(u, W)`, or an array [*batch, i, j, e].
        num_iters: r, the number of readouts: r - 1 updates of the logits; r = 1 is uniform coupling.
        gradient: how the gradient treats the coupling: `StopGradient()` holds it constant,
            `FullGradient()` goes through every iteration, `ClosedForm()` too, by a backward pass derived by
            hand, `TruncatedGradient(last=k)` through the last k updates.
        bias: added to every s_j at every iteration, [j, e].
        leaky: adds a zero logit for "none of the parents".
        tolerance: ends each example's updates once another would move none of its couplings by more than
            this; num_iters - 1 is then their largest number. With modes that do not go back through
            the updates: `StopGradient()`, or `TruncatedGradient(last=0)`, which is the same.
        trace: whether to return coupling, entropy and agreement of every iteration, as data.

    Returns:
        Poses [*batch, j, e], coupling and logits [*batch, i, j], activation [*batch, j];
        with a tolerance also the residual [*batch].

    Raises:
        UserError: If a shape or an option does not fit.

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
    # Equal routings compile once, however often this makes one.
    routing = DynamicRouting(
        num_iters=num_iters, gradient=gradient, leaky=leaky, tolerance=tolerance
    )
    return routing(votes, params=bias, trace=trace)  # an array stands for the only parameter
