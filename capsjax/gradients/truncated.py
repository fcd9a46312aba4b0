"""The coupling differentiated through the last few updates only."""

import dataclasses
from typing import Literal

import jax
from jaxtyping import PyTree

from capsjax.checks import FieldError, check_int
from capsjax.gradients.base import GradientMode, Iterative, iterate
from capsjax.gradients.stop import StopGradient
from capsjax.types import PerPair


@dataclasses.dataclass(frozen=True, kw_only=True)
class TruncatedGradient(GradientMode):
    """Differentiate the coupling through the last updates of the logits only.

    `last=0` is `StopGradient`; `last=r-1` is `FullGradient`.

    Args:
        last: how many of the r - 1 updates the gradient passes through, at least 0.
        kind: its name in a configuration.

    Raises:
        FieldError: If `last` is negative, or exceeds the updates of the routing that gets the mode.
    """

    last: int
    kind: Literal["truncated"] = "truncated"

    def __post_init__(self):
        check_int(self, "last", low=0)

    @property
    def differentiates_updates(self) -> bool:
        """Whether any update is live."""
        return self.last > 0

    def check(self, routing: Iterative, num_updates: int) -> None:
        """Check that there are as many updates as the gradient is to pass through.

        Args:
            routing: any.
            num_updates: updates before the readout, r - 1.

        Raises:
            FieldError: If there are fewer than `last`.
        """
        del routing
        if self.last > num_updates:
            expected = (
                f"at most {num_updates}: num_iters = {num_updates + 1} makes {num_updates} "
                f"update{'s' if num_updates != 1 else ''} of the logits"
            )
            raise FieldError("TruncatedGradient", "last", self.last, expected)

    def __call__(
        self, routing: Iterative, inputs: PyTree, num_updates: int
    ) -> tuple[PerPair, PyTree]:
        """Run the first updates on constants and the last ones live."""
        self.check(routing, num_updates)
        if self.last == 0:  # nothing is differentiated, so a tolerance may end the loop
            return StopGradient()(routing, inputs, num_updates)
        split = num_updates - self.last
        state = routing.init(inputs)
        if split:  # else every update is live, from the first on
            constants = jax.lax.stop_gradient(inputs)
            state = iterate(routing, constants, routing.init(constants), 0, split)
            state = jax.lax.stop_gradient(state)
        state = iterate(routing, inputs, state, split, num_updates)
        return routing.couple(state, inputs), state
