"""What a gradient mode is, what it needs of a routing, and the one loop that all of them run."""

import abc
from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import PyTree

from capsjax.types import PerPair, Variant


@runtime_checkable
class Iterative(Protocol):
    """Name what a mode asks of a routing: three pure functions of its state."""

    def init(self, inputs: Any) -> Any:
        """Return the state before the first update."""
        ...

    def update(self, t: Any, state: Any, inputs: Any) -> Any:
        """Return the state after update number t, counted from 0."""
        ...

    def couple(self, state: Any, inputs: Any) -> PerPair:
        """Return the coupling that a state stands for."""
        ...


class GradientMode(Variant, abc.ABC):
    """Decide how the final coupling depends on the inputs; the readout is always live.

    A mode is a frozen, hashable value: it can be a static argument of `jax.jit` and a node of a
    configuration, and two equal modes compile once.
    """

    def check(self, routing: Iterative, num_updates: int) -> None:
        """Raise a `UserError` where the mode cannot be used with a routing and its updates of the logits."""
        del routing, num_updates

    @abc.abstractmethod
    def __call__(
        self, routing: Iterative, inputs: PyTree, num_updates: int
    ) -> tuple[PerPair, PyTree]:
        """Run the updates.

        Args:
            routing: the functions that make an update.
            inputs: every array that a gradient can reach, as `routing.prepare` returned them.
            num_updates: updates before the readout, r - 1; known when tracing.

        Returns:
            The coupling, as the votes hold it, and the state that it was made from.
        """


def iterate(
    routing: Iterative,
    inputs: PyTree,
    state: PyTree,
    start: int,
    stop: int,
    *,
    remat: bool = False,
) -> PyTree:
    """Apply the updates numbered start to stop - 1 to a state.

    The trip count is known when tracing, so `fori_loop` becomes a scan, and reverse mode works.

    Args:
        routing: the functions that make an update.
        inputs: what `routing.prepare` returned.
        state: what the first of these updates begins with.
        start: number of the first update.
        stop: one more than the number of the last.
        remat: whether reverse mode keeps only each update's state, computing the rest again.

    Returns:
        The state after the last of these updates.
    """

    def update(t: Any, state: PyTree) -> PyTree:
        return routing.update(t, state, inputs)

    return jax.lax.fori_loop(start, stop, jax.checkpoint(update) if remat else update, state)
