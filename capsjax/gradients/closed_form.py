"""The full gradient by a backward pass that was derived by hand, which the routing supplies."""

import dataclasses
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from capsjax.checks import FieldError
from capsjax.gradients.base import GradientMode, Iterative
from capsjax.numerics import reverse_only
from capsjax.types import PerPair


@runtime_checkable
class Differentiated(Protocol):
    """Name what a routing supplies to be differentiated in closed form."""

    def forward(self, inputs: PyTree, num_updates: int) -> tuple[PerPair, PyTree, PyTree]:
        """Run the updates.

        Args:
            inputs: what `prepare` returned.
            num_updates: updates before the readout, r - 1.

        Returns:
            The coupling, as the votes hold it; the state that it was made from; what `adjoint` needs.
        """
        ...

    def adjoint(self, saved: PyTree, inputs: PyTree, cotangents: tuple[Array, PyTree]) -> PyTree:
        """Pull cotangents of the coupling and the state back to the inputs.

        Args:
            saved: the last of what `forward` returned.
            inputs: what `prepare` returned.
            cotangents: the gradients with respect to the coupling and the state.

        Returns:
            The gradients with respect to the inputs, in their structure.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClosedForm(GradientMode):
    """Differentiate the coupling through every iteration, by the routing's own backward pass.

    Equal to `FullGradient` to rounding. It keeps one vector for each parent and iteration, so memory
    hardly grows with the iterations. Works in reverse mode, more than once too, and with dense votes under
    `jax.hessian`. Forward mode of the value (`jax.jvp`, `jax.jacfwd`) is refused by JAX; for that use
    `FullGradient` with `DenseVotes`.

    Args:
        kind: its name in a configuration.

    Raises:
        FieldError: If the routing supplies no backward pass.
    """

    kind: Literal["closed_form"] = "closed_form"

    def check(self, routing: Iterative, num_updates: int) -> None:
        """Check that the routing supplies a backward pass of its own.

        Args:
            routing: the functions that make an update.
            num_updates: any number.

        Raises:
            FieldError: If it supplies none.
        """
        del num_updates
        if not isinstance(routing, Differentiated):
            expected = (
                "a gradient mode that differentiates the loop, such as FullGradient(): this routing "
                "supplies no backward pass in closed form (methods forward and adjoint)"
            )
            in_config = (
                "a gradient that differentiates the loop, such as full, as a routing of kind "
                f"{getattr(routing, 'kind', None)} supplies no backward pass in closed form"
            )
            raise FieldError(type(routing).__name__, "gradient", self, expected, in_config)

    def __call__(
        self, routing: Iterative, inputs: PyTree, num_updates: int
    ) -> tuple[PerPair, PyTree]:
        """Run the routing's own forward pass, to be differentiated by its own backward pass."""
        self.check(routing, num_updates)
        return _run(routing, num_updates, reverse_only(inputs))


# The routing and the number of updates are hashable Python values, static where the function is traced.
@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _run(routing: Differentiated, num_updates: int, inputs: PyTree) -> tuple[Array, PyTree]:
    coupling, state, _ = routing.forward(inputs, num_updates)  # without a gradient nothing is kept
    return coupling, state


def _forward(
    routing: Differentiated, num_updates: int, inputs: PyTree
) -> tuple[tuple[Array, PyTree], tuple[PyTree, PyTree]]:
    coupling, state, saved = routing.forward(inputs, num_updates)
    # The inputs are live anyway, as the readout needs them; of each update a vector per parent is kept.
    return (coupling, state), (saved, inputs)


def _backward(
    routing: Differentiated,
    num_updates: int,
    kept: tuple[PyTree, PyTree],
    cotangents: tuple[Array, PyTree],
) -> tuple[PyTree]:
    del num_updates  # `saved` has one entry for each
    saved, inputs = kept
    found = routing.adjoint(saved, inputs, cotangents)

    def of_its_type(given: Array, cotangent: Array) -> Any:
        # A mask has no cotangent, for which JAX takes None.
        return cotangent if jnp.issubdtype(given.dtype, jnp.floating) else None

    return (jax.tree.map(of_its_type, inputs, found),)


_run.defvjp(_forward, _backward)
