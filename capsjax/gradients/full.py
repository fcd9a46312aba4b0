"""The coupling differentiated through every iteration."""

import dataclasses
from typing import Literal

from jaxtyping import PyTree

from capsjax.checks import check_bool
from capsjax.gradients.base import GradientMode, Iterative, iterate
from capsjax.types import PerPair


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullGradient(GradientMode):
    """Differentiate the coupling through every iteration.

    It is what the authors of the 2017 and 2018 papers trained with.

    Args:
        remat: whether the backward pass computes each iteration's intermediate values again instead of
            keeping them (`jax.checkpoint`): the same gradient, less memory, more time.
        kind: its name in a configuration.
    """

    remat: bool = False
    kind: Literal["full"] = "full"

    def __post_init__(self):
        check_bool(self, "remat")

    def __call__(
        self, routing: Iterative, inputs: PyTree, num_updates: int
    ) -> tuple[PerPair, PyTree]:
        """Run every update live."""
        # No tolerance here: reverse mode through a loop whose length depends on the data does not exist.
        state = iterate(routing, inputs, routing.init(inputs), 0, num_updates, remat=self.remat)
        return routing.couple(state, inputs), state
