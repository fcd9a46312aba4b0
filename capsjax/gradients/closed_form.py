"""The full gradient by a backward pass that was derived by hand, which the routing supplies."""

import dataclasses
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from capsjax.checks import FieldError
from capsjax.gradients.base import GradientMode, Iterative
from capsjax.types import PerPair


@runtime_checkable
class Differentiated(Protocol):
    """Name what a routing supplies to be differentiated in closed form."""

    def forward(self, inputs: PyTree, num_updates: int) -> tuple[PerPair, PyTree, PyTree]:
        """Return the coupling, the state that it was made from, and what `adjoint` needs."""
        ...

    def adjoint(self, saved: PyTree, inputs: PyTree, cotangents: tuple[Array, PyTree]) -> PyTree:
        """Pull cotangents of the coupling and the state back to the inputs."""
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
        FieldError: where the routing supplies no backward pass.
    """

    kind: Literal["closed_form"] = "closed_form"

    def check(self, routing: Iterative, num_updates: int) -> None:
        """Raise a `FieldError` where the routing supplies no backward pass of its own."""
        del num_updates
        if not isinstance(routing, Differentiated):
            expected = (
                "a gradient mode that differentiates the loop, such as FullGradient(): this routing "
                "supplies no backward pass in closed form (methods forward and adjoint)"
            )
            raise FieldError(type(routing).__name__, "gradient", self, expected)

    def __call__(
        self, routing: Iterative, inputs: PyTree, num_updates: int
    ) -> tuple[PerPair, PyTree]:
        """Run the routing's own forward pass, to be differentiated by its own backward pass."""
        self.check(routing, num_updates)
        return _run(routing, num_updates, inputs)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _run(routing: Differentiated, num_updates: int, inputs: PyTree) -> tuple[Array, PyTree]:
    coupling, state, _ = routing.forward(inputs, num_updates)
    return coupling, state


def _forward(
    routing: Differentiated, num_updates: int, inputs: PyTree
) -> tuple[tuple[Array, PyTree], tuple[PyTree, PyTree]]:
    coupling, state, saved = routing.forward(inputs, num_updates)
    return (coupling, state), (saved, inputs)


def _backward(
    routing: Differentiated,
    num_updates: int,
    kept: tuple[PyTree, PyTree],
    cotangents: tuple[Array, PyTree],
) -> tuple[PyTree]:
    del num_updates
    saved, inputs = kept
    found = routing.adjoint(saved, inputs, cotangents)

    def of_its_type(given: Array, cotangent: Array) -> Any:
        """Masks have no cotangent."""
        return cotangent if jnp.issubdtype(given.dtype, jnp.floating) else None

    return (jax.tree.map(of_its_type, inputs, found),)


_run.defvjp(_forward, _backward)
