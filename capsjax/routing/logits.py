"""Routings whose state is the logits alone: three functions each."""

import abc
import dataclasses
from typing import Any, Generic

from jaxtyping import Array, Float

from capsjax.checks import FieldError, check_float
from capsjax.routing.base import Inputs, IterativeRouting
from capsjax.types import PerPair


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitRouting(IterativeRouting[Inputs, PerPair], Generic[Inputs]):
    """Define a routing whose state is the logits b_ij: `prepare`, `parents` and `respond`.

    The logits b begin at 0. The coupling c is their softmax over each child's parents; `parents` reads out
    what c makes of the votes; and between two readouts the logits become what `respond` makes of them.

    Args:
        num_iters: r, the number of readouts: r - 1 updates of the logits.
        gradient: which updates the gradient passes through.
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

    @abc.abstractmethod
    def parents(self, t: Any, coupling: PerPair, inputs: Inputs) -> Any:
        """Read the parents out.

        Args:
            t: number of the readout, counted from 0.
            coupling: c_ij, as held.
            inputs: what `prepare` returned.

        Returns:
            A record with `pose`, [*batch, j, e], `activation`, [*batch, j], and what `respond` needs beside.
        """

    @abc.abstractmethod
    def respond(self, t: Any, logits: PerPair, parents: Any, inputs: Inputs) -> PerPair:
        """Update the logits.

        Args:
            t: number of the update, counted from 0.
            logits: b_ij, as held.
            parents: what `parents` returned for them.
            inputs: what `prepare` returned.

        Returns:
            The new logits, as held.
        """

    def init(self, inputs: Inputs) -> PerPair:
        """Return b = 0."""
        return (
            inputs.votes.zeros()
        )  # so that the first coupling is uniform over the parents that there are

    def couple(self, state: PerPair, inputs: Inputs) -> PerPair:
        """Normalise the logits over each child's parents: c = softmax(b).

        Args:
            state: the logits b_ij, as held.
            inputs: what `prepare` returned.

        Returns:
            c_ij, as held.
        """
        return inputs.votes.couple(state)

    def readout(self, t: Any, coupling: PerPair, state: PerPair, inputs: Inputs) -> Any:
        """Read the parents out by `parents`.

        Args:
            t: number of the readout, counted from 0.
            coupling: c_ij, as held.
            state: the logits, which say no more than the coupling.
            inputs: what `prepare` returned.

        Returns:
            What `parents` returns.
        """
        del state
        return self.parents(t, coupling, inputs)

    def update(self, t: Any, state: PerPair, inputs: Inputs) -> PerPair:
        """Read the parents out, and let the logits respond to them.

        Args:
            t: number of the update, counted from 0.
            state: the logits b_ij, as held.
            inputs: what `prepare` returned.

        Returns:
            The new logits, as held.
        """
        # The loop carries the logits alone; the coupling is made from them at every update.
        return self.respond(t, state, self.parents(t, self.couple(state, inputs), inputs), inputs)

    def residual(
        self, coupling: PerPair, state: PerPair, inputs: Inputs
    ) -> Float[Array, "*batch"] | None:
        """Measure by how much one more update would move the coupling that it moves most.

        Args:
            coupling: the last c_ij, as held.
            state: the logits that it was made from.
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
