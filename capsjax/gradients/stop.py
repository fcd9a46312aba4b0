"""The coupling held constant: the textbook answer, the community's `detach`."""

import dataclasses
from typing import Literal

import jax
from jaxtyping import PyTree

from capsjax.gradients.base import GradientMode, Iterative, iterate_to_tolerance
from capsjax.types import PerPair


@dataclasses.dataclass(frozen=True, kw_only=True)
class StopGradient(GradientMode):
    """Hold the coupling constant: the gradient sees one weighted sum, with fixed weights.

    It is the coupling that is stopped. Stopping the votes alone, as many ports do, lets the gradient
    of anything else inside the iterations, a trainable bias for one, leak through the coupling.
    The loop runs on stopped inputs as well: nothing is kept for a backward pass through it.

    Args:
        kind: its name in a configuration.
    """

    kind: Literal["stop"] = "stop"

    @property
    def differentiates_updates(self) -> bool:
        """False: the updates run on constants."""
        return False

    def __call__(
        self, routing: Iterative, inputs: PyTree, num_updates: int
    ) -> tuple[PerPair, PyTree]:
        """Run every update on constants, and return a constant coupling."""
        # No gradient passes through the loop, so its length may depend on the data.
        constants = jax.lax.stop_gradient(inputs)
        state = iterate_to_tolerance(routing, constants, num_updates)
        return jax.lax.stop_gradient((routing.couple(state, constants), state))
