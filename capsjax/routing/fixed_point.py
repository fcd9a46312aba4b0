"""Routing by agreement that forgets: a variant with a fixed point, for the implicit function theorem."""

import dataclasses
from typing import Any, Literal

from jaxtyping import Array, Float

from capsjax.checks import check_float
from capsjax.routing.agreement import AgreementRouting, BiasedVotes
from capsjax.routing.base import Parents
from capsjax.types import PerPair


@dataclasses.dataclass(frozen=True, kw_only=True)
class FixedPointRouting(AgreementRouting):
    """Route by the last agreement alone, until coupling and agreement no longer change each other.

    c = softmax of b over the parents; v_j = squash(sum_i c_ij vote_ij + bias_j); and between readouts

        b_ij <- damping b_ij + (1 - damping) inverse_temperature (vote_ij . v_j).

    Routing by agreement adds every agreement to the logits, which grow without bound; here they are
    replaced, so that a fixed point b_ij = inverse_temperature (vote_ij . v_j) exists. No update makes

        F(c) = inverse_temperature sum_j phi(|s_j|) + sum_i H(c_i),   phi(x) = x - arctan x,

    smaller, H being the entropy (of a leaky child, with what leaks away), for any votes: phi is convex
    with gradient squash, so that an undamped update is the concave-convex procedure, a damped one mirror
    ascent. The fixed points are where F is stationary. Updates approach such points, in general a
    maximum; votes that are alike for all parents can hold them at another.

    Args:
        num_iters: r, the number of readouts: r - 1 updates of the logits, or at most that many with a
            tolerance.
        gradient: how the gradient treats the coupling; `ImplicitGradient()` differentiates the fixed
            point itself.
        leaky: adds a zero logit for "none of the parents".
        tolerance: if given, an example's updates end once another would move none of its couplings by
            more than this, damped as it is; for `StopGradient()` and `ImplicitGradient()`.
        inverse_temperature: how strongly agreement decides, above 0.
        damping: the share of the old logits that an update keeps, from 0 to below 1. The fixed point is
            the same.
        kind: its name in a configuration.

    Raises:
        FieldError: If a number is out of range, or the gradient does not fit.

    Reference:
        As in EM routing, logits are replaced, not added to. Wang and Liu 2018, "An optimization view on
        dynamic routing between capsules", regularise routing by a divergence of
        couplings; Yuille and Rangarajan 2003, "The concave-convex procedure".
    """

    num_iters: int = 30
    inverse_temperature: float = 1.0
    damping: float = 0.0
    kind: Literal["fixed_point"] = "fixed_point"

    def __post_init__(self):
        super().__post_init__()
        check_float(self, "inverse_temperature", low=0, open_low=True)
        check_float(self, "damping", low=0, high=1, open_high=True)

    def target(self, coupling: PerPair, inputs: BiasedVotes) -> PerPair:
        """Return the logits that a coupling asks for: inverse_temperature (vote_ij . v_j).

        Args:
            coupling: c_ij, as held.
            inputs: votes and bias.

        Returns:
            Logits, as held; at the fixed point, those that the coupling was made from.
        """
        return self._asked(self.parents(0, coupling, inputs), inputs)  # any t: parents use none

    def respond(self, t: Any, logits: PerPair, parents: Parents, inputs: BiasedVotes) -> PerPair:
        """Replace the logits: damping b_ij + (1 - damping) inverse_temperature (vote_ij . v_j).

        Args:
            t: number of the update; the same for all.
            logits: b_ij, as held.
            parents: what was read out for them.
            inputs: votes and bias.

        Returns:
            The new logits, as held.
        """
        del t
        return self.damping * logits + (1 - self.damping) * self._asked(parents, inputs)

    def _asked(self, parents: Parents, inputs: BiasedVotes) -> PerPair:
        # Not logits times the temperature: fused with the softmax's difference, huge ones would overflow.
        return inputs.votes.agreement(self.inverse_temperature * parents.pose)

    def residual(
        self, coupling: PerPair, state: PerPair, inputs: BiasedVotes
    ) -> Float[Array, "*batch"]:
        """Measure by how much an undamped update would move the coupling that it moves most.

        Args:
            coupling: the last c_ij, as held.
            state: the logits that it was made from.
            inputs: votes and bias.

        Returns:
            max_ij of the change, [*batch]; 0 at a fixed point, whatever the damping.
        """
        # Undamped: a damped update moves little anywhere, and would seem to have arrived.
        asked = self.couple(self.target(coupling, inputs), inputs)
        return inputs.votes.pairs.max_abs(asked - coupling)
