"""What a gradient mode is, what it needs of a routing, and the one loop that all of them run."""

import abc
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree, Shaped

from capsjax.schema.variant import Variant
from capsjax.types import PerPair


@runtime_checkable
class Iterative(Protocol):
    """Name what a mode asks of a routing: three pure functions of its state."""

    def init(self, inputs: Any) -> Any:
        """Return the state before the first update."""
        ...

    def update(self, t: Any, state: Any, inputs: Any) -> Any:
        """Return the state after one update.

        Args:
            t: number of the update, counted from 0, [].
            state: what it begins with.
            inputs: what `prepare` returned.

        Returns:
            The new state, a pytree of the same shapes and types.
        """
        ...

    def couple(self, state: Any, inputs: Any) -> PerPair:
        """Return the coupling that a state stands for.

        Args:
            state: what `init` or `update` returned.
            inputs: what `prepare` returned.

        Returns:
            Coupling coefficients, one for each pair, as the votes hold them.
        """
        ...


@runtime_checkable
class Reductions(Protocol):
    """Name what a loop needs to know of the layout of couplings: from pairs to examples and back."""

    def sum(self, x: PerPair) -> Float[Array, "*batch"]:
        """Return the sum over each example's pairs, [*batch]."""
        ...

    def max_abs(self, x: PerPair) -> Float[Array, "*batch"]:
        """Return the largest |x_ij| of each example's pairs, [*batch]."""
        ...

    def broadcast(self, x: Shaped[Array, "*batch"]) -> Shaped[Array, "..."]:
        """Broadcast one value of each example, [*batch], to its pairs, such as a mask of examples."""
        ...


@runtime_checkable
class HasTolerance(Iterative, Protocol):
    """Name what a loop needs to stop each example by itself; all of its state is held as couplings are."""

    tolerance: float | None

    def pairs(self, inputs: Any) -> Reductions:
        """Return the layout of couplings."""
        ...


class GradientMode(Variant, abc.ABC):
    """Decide how the final coupling depends on the inputs; the readout is always live.

    A mode is a frozen, hashable value: it can be a static argument of `jax.jit` and a node of a
    configuration, and two equal modes compile once.
    """

    @property
    def differentiates_updates(self) -> bool:
        """Whether reverse mode goes back through the updates, whose number it then has to know."""
        return True

    def check(self, routing: Iterative, num_updates: int) -> None:
        """Check that the mode can be used with a routing; here, that any can.

        Args:
            routing: the functions that make an update.
            num_updates: updates before the readout, r - 1.

        Raises:
            UserError: If it cannot.
        """
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

    # Checkpointed, an update keeps its state alone for the backward pass, and computes what is in it again.
    return jax.lax.fori_loop(start, stop, jax.checkpoint(update) if remat else update, state)


def iterate_to_tolerance(routing: Iterative, inputs: PyTree, num_updates: int) -> PyTree:
    """Apply updates until the couplings converge, if the routing has a tolerance, else all of them.

    With a tolerance it cannot be differentiated in reverse mode, which needs a known number of steps.

    Args:
        routing: the functions that make an update, and perhaps a tolerance.
        inputs: what `routing.prepare` returned.
        num_updates: the largest number of updates.

    Returns:
        The state; an example's own stays as it is once another update would move none of its couplings
        by more than the tolerance.
    """
    start, converged = routing.init(inputs), none_converged(routing, inputs)
    if converged is None:
        return iterate(routing, inputs, start, 0, num_updates)

    def unfinished(carry: tuple[Array, PyTree, Array]) -> Bool[Array, ""]:
        t, _, converged = carry
        # Until the slowest example has converged: the others wait for it, but move no more.
        return (t < num_updates) & ~jnp.all(converged)

    def step(carry: tuple[Array, PyTree, Any]) -> tuple[Array, PyTree, Any]:
        t, state, converged = carry
        return t + 1, *masked_update(routing, t, state, converged, inputs)

    return jax.lax.while_loop(unfinished, step, (jnp.asarray(0), start, converged))[1]


def none_converged(routing: Iterative, inputs: PyTree) -> Bool[Array, "*batch"] | None:
    """Return the mask of converged examples that a loop begins with.

    Args:
        routing: the functions that make an update, and perhaps a tolerance.
        inputs: what `routing.prepare` returned.

    Returns:
        False for each example, [*batch]; None if the routing has no tolerance, so that no example stops
        before the last update.
    """
    if not isinstance(routing, HasTolerance) or routing.tolerance is None:
        return None
    # Computed rather than made by `zeros`: like this it varies over the devices of a mesh as the logits do,
    # and a loop's carry has one type from the first step to the last.
    first, *_ = jax.tree.leaves(routing.init(inputs))
    return routing.pairs(inputs).max_abs(first) < 0


def masked_update(
    routing: Iterative,
    t: Any,
    state: PyTree,
    converged: Bool[Array, "*batch"] | None,
    inputs: PyTree,
) -> tuple[PyTree, Bool[Array, "*batch"] | None]:
    """Apply update number t to the examples that have not settled.

    Args:
        routing: the functions that make an update.
        t: number of the update.
        state: what it begins with.
        converged: which examples have converged, [*batch]; None if the routing has no tolerance.
        inputs: what `routing.prepare` returned.

    Returns:
        The new state, and which examples have converged by now, [*batch].
    """
    new = routing.update(t, state, inputs)
    if converged is None or not isinstance(routing, HasTolerance) or routing.tolerance is None:
        return new, converged
    step, pairs = routing.couple(new, inputs) - routing.couple(state, inputs), routing.pairs(inputs)
    converged = converged | (pairs.max_abs(step) <= routing.tolerance)
    # The update that would move an example by no more than the tolerance is not made, nor any after it: its
    # state does not depend on the batch that it is in.
    stays = pairs.broadcast(converged)
    return jax.tree.map(lambda old, new: jnp.where(stays, old, new), state, new), converged
