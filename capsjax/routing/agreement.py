"""What routings by agreement have in common, whatever their update does with the agreements."""

import dataclasses
from typing import Any

from jaxtyping import Array, Float, Shaped

from capsjax.checks import FieldError, check_bool, check_float
from capsjax.routing.base import BiasedVotes, IterativeRouting
from capsjax.types import PerPair
from capsjax.votes import Votes


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgreementRouting(IterativeRouting[BiasedVotes, PerPair]):
    """Define a routing whose state is the logits b, and which compares votes with squashed sums.

    Args:
        leaky: adds a zero logit for "none of the parents", as the released code can.
        tolerance: where given, an example's updates end once another would move none of its couplings by
            more than this, and num_iters - 1 is how many there are at most; for gradient modes that do
            not go back through the updates.

    Raises:
        FieldError: where a tolerance is negative, or does not suit the gradient mode.
    """

    leaky: bool = False
    tolerance: float | None = None

    def __post_init__(self):
        super().__post_init__()
        check_bool(self, "leaky")
        if self.tolerance is None:
            return
        check_float(self, "tolerance", low=0)
        if self.gradient.differentiates_updates:
            why = "which goes back through every update and has to know how many there are"
            expected = (
                f"None with {type(self.gradient).__name__}, {why}; StopGradient() takes a tolerance, and "
                "so does the ImplicitGradient() of FixedPointRouting"
            )
            in_config = (
                f"null with gradient {getattr(self.gradient, 'kind', self.gradient)}, {why}; gradient "
                "stop takes a tolerance, and so does implicit of kind fixed_point"
            )
            raise FieldError(type(self).__name__, "tolerance", self.tolerance, expected, in_config)

    def prepare(
        self, votes: Votes, *, activation: Array | None = None, params: Array | None = None
    ) -> BiasedVotes:
        """Take the votes and, as `params`, the bias [j, e] or None."""
        return BiasedVotes.of(type(self).__name__, votes, activation, params)

    def init(self, inputs: BiasedVotes) -> PerPair:
        """Return b = 0."""
        return inputs.votes.zeros()

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

    def largest(self, x: PerPair, inputs: BiasedVotes) -> Float[Array, "*batch"]:
        """Return the largest |x_ij| of each example's pairs, [*batch]."""
        return inputs.votes.largest(x)

    def inner(self, x: PerPair, y: PerPair, inputs: BiasedVotes) -> Float[Array, "*batch"]:
        """Return the sum of the products over each example's pairs, [*batch]."""
        return inputs.votes.inner(x, y)

    def spread(self, x: Shaped[Array, "*batch"], inputs: BiasedVotes) -> Shaped[Array, "..."]:
        """Repeat a value of each example, [*batch], for all its pairs."""
        return inputs.votes.spread(x)
