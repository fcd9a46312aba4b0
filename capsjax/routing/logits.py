"""Routings whose state is the logits alone: three functions each."""

import abc
import dataclasses
from typing import Any, Generic

from capsjax.routing.base import Inputs
from capsjax.routing.converging import ConvergingRouting
from capsjax.types import PerPair


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitRouting(ConvergingRouting[Inputs, PerPair], Generic[Inputs]):
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
