"""Routings whose updates may end before the last: once another would hardly move any coupling."""

import dataclasses
from typing import Generic

from jaxtyping import Array, Float

from capsjax.checks import FieldError, check_float
from capsjax.routing.base import Inputs, IterativeRouting, State
from capsjax.types import PerPair


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvergingRouting(IterativeRouting[Inputs, State], Generic[Inputs, State]):
    """Define a routing that can be run to a tolerance; every array of its state is held as logits are.

    Args:
        tolerance: if given, an example's updates end once another would move none of its couplings by
            more than this, and num_iters - 1 is their largest number; for gradient modes that do
            not go back through the updates.

    Raises:
        FieldError: If a number is out of range, or the gradient does not fit.
    """

    tolerance: float | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.tolerance is None:
            return
        check_float(self, "tolerance", low=0)
        # Reverse mode needs the number of steps when it is traced; with a tolerance the data decide it.
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

    def residual(
        self, coupling: PerPair, state: State, inputs: Inputs
    ) -> Float[Array, "*batch"] | None:
        """Measure by how much one more update would move the coupling that it moves most.

        Args:
            coupling: the last c_ij, as held.
            state: what it was made from.
            inputs: what `prepare` returned.

        Returns:
            max_ij of the change, [*batch]; None without a tolerance, as then the logits may grow without
            bound, and no coupling is the last.
        """
        if self.tolerance is None:
            return None
        # Updates are numbered from 0, so number r - 1 is the first that the routing does not make.
        moved = self.couple(self.update(self.num_iters - 1, state, inputs), inputs)
        return inputs.votes.pairs.max_abs(moved - coupling)
