"""The gradient of a fixed point, by the implicit function theorem."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from capsjax.checks import FieldError, UserError, check_choice, check_float, check_int
from capsjax.gradients.base import GradientMode, Iterative, Reductions, iterate_to_tolerance
from capsjax.gradients.closed_form import Differentiated
from capsjax.numerics import add_cotangents, reverse_only
from capsjax.types import PerPair


@runtime_checkable
class FixedPoint(Iterative, Protocol):
    """Name what a routing supplies that iterates towards b = target(couple(b)).

    Its state is the logits alone. `couple` by the logits and `target` by the coupling have symmetric
    derivatives, the first of them positive semi-definite: both are gradients, of a convex function of
    the logits and of a function of the coupling.
    """

    def target(self, coupling: PerPair, inputs: Any) -> PerPair:
        """Return the logits that a coupling asks for.

        Args:
            coupling: coupling coefficients, one for each pair, as the votes hold them.
            inputs: what `prepare` returned.

        Returns:
            Logits, in the coupling's shape; at the fixed point, those that it was made from.
        """
        ...

    def pairs(self, inputs: Any) -> Reductions:
        """Return the layout of couplings."""
        ...


@runtime_checkable
class Settling(Iterative, Protocol):
    """Name what a routing supplies of whose state one array comes to rest, and the rest follows from it.

    Nothing is symmetric here, so that the series has to solve the equation.
    """

    def resting(self, state: Any) -> Float[Array, "*batch j e"]:
        """Return what comes to rest."""
        ...

    def state_of(self, resting: Float[Array, "*batch j e"], inputs: Any) -> Any:
        """Return the state that it stands for.

        Args:
            resting: what comes to rest, [*batch, j, e].
            inputs: what `prepare` returned.

        Returns:
            The state.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImplicitGradient(GradientMode):
    """Differentiate the fixed point that the updates lead to, instead of the updates.

    At the fixed point c = couple(b, x) and b = target(c, x). Cotangents of c and b then solve

        y = c_bar + (d target / d c)^T z,    z = b_bar + (d couple / d b)^T y,

    and the inputs x get (d target / d x)^T z + (d couple / d x)^T y. Memory does not grow with the
    iterations, whose number may depend on the data. The result is that gradient only where the updates
    have come to the fixed point: `RoutingResult.residual` says how far they are from it.

    Where it is another state than the logits that comes to rest, such as the slots s of slot attention,
    s = update(s, x), cotangents solve z = s_bar + (d update / d s)^T z, by the series alone.

    Each example is solved by itself, to the tolerance. Where that fails within `max_steps`, or the
    equation shows that the updates cannot end there, the gradient is NaN rather than a guess.
    With `num_iters=1` there is no update, and the residual is that of uniform coupling.
    Works in reverse mode, once; JAX refuses forward mode and second derivatives.

    Args:
        solver: "cg", conjugate gradients, or "neumann", the series y_{k+1} = c_bar + ... y_k.
        tolerance: length of the equation's residual at which an example is solved, relative to that of
            its right-hand side, both multiplied by (d couple / d b)^T; rounding ends it, too.
        max_steps: the largest number of steps of the solver.
        kind: its name in a configuration.

    Raises:
        FieldError: If the routing has no fixed point, or a number is out of range.
    """

    solver: Literal["cg", "neumann"] = "cg"
    tolerance: float = 1e-5
    max_steps: int = 100
    kind: Literal["implicit"] = "implicit"

    def __post_init__(self):
        check_choice(self, "solver", ("cg", "neumann"))
        check_float(self, "tolerance", low=0, open_low=True)
        check_int(self, "max_steps", low=1)

    @property
    def differentiates_updates(self) -> bool:
        """False: only their end is differentiated."""
        return False

    def check(self, routing: Iterative, num_updates: int) -> None:
        """Check that the routing has a fixed point.

        Args:
            routing: the functions that make an update.
            num_updates: any number.

        Raises:
            FieldError: If it declares none.
        """
        del num_updates
        if isinstance(routing, Settling):
            if self.solver == "cg":
                expected = (
                    "'neumann': conjugate gradients need a symmetric derivative, which "
                    f"{type(routing).__name__} has not"
                )
                raise FieldError("ImplicitGradient", "solver", self.solver, expected)
        elif not isinstance(routing, FixedPoint):
            # What is named has to be taken: few routings supply a closed form.
            closed = isinstance(routing, Differentiated)
            expected = (
                "a gradient mode that goes through the iterations, such as FullGradient()"
                f"{' or ClosedForm()' if closed else ''}: this routing declares no fixed point (a method "
                "target); FixedPointRouting has one"
            )
            in_config = (
                f"a gradient through the iterations, such as full{' or closed_form' if closed else ''}, as a "
                f"routing of kind {getattr(routing, 'kind', None)} declares no fixed point; or kind "
                "fixed_point beside it, which has one"
            )
            raise FieldError(type(routing).__name__, "gradient", self, expected, in_config)

    def __call__(
        self, routing: Iterative, inputs: PyTree, num_updates: int
    ) -> tuple[PerPair, PyTree]:
        """Run the updates, to be differentiated at their end."""
        self.check(routing, num_updates)
        return _run(routing, self, num_updates, reverse_only(inputs))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _run(
    routing: FixedPoint | Settling, mode: ImplicitGradient, num_updates: int, inputs: PyTree
) -> tuple[PerPair, PyTree]:
    del mode
    state = iterate_to_tolerance(routing, inputs, num_updates)
    return routing.couple(state, inputs), state


def _forward(
    routing: FixedPoint | Settling, mode: ImplicitGradient, num_updates: int, inputs: PyTree
) -> tuple[tuple[PerPair, PyTree], tuple[PyTree, PyTree]]:
    # Not `_run`: a second derivative is to be refused in words, not by the rule that it has.
    state = iterate_to_tolerance(routing, inputs, num_updates)
    return (routing.couple(state, inputs), state), (state, inputs)


def _backward(
    routing: FixedPoint | Settling,
    mode: ImplicitGradient,
    num_updates: int,
    saved: tuple[PyTree, PyTree],
    cotangents: tuple[PerPair, PyTree],
) -> tuple[PyTree]:
    del num_updates
    if isinstance(routing, Settling):
        found = _of_state(routing, mode, saved, cotangents)
    else:
        found = _of_logits(routing, mode, saved, cotangents)
    return (_differentiated_once(found),)


def _of_state(
    routing: Settling,
    mode: ImplicitGradient,
    saved: tuple[PyTree, PyTree],
    cotangents: tuple[PerPair, PyTree],
) -> PyTree:
    """Return the inputs' cotangents where the state comes to rest: z = s_bar + (d update / d s)^T z."""
    state, inputs = saved

    def end(resting: Array, inputs: PyTree) -> tuple[PerPair, PyTree]:
        state = routing.state_of(resting, inputs)
        return routing.couple(state, inputs), state

    def step(resting: Array, inputs: PyTree) -> Array:
        return routing.resting(routing.update(0, routing.state_of(resting, inputs), inputs))

    resting = routing.resting(state)
    right, by_end = jax.vjp(end, resting, inputs)[1](cotangents)
    _, step_adjoint = jax.vjp(step, resting, inputs)
    system = _System(
        weigh=lambda z: z,
        pull=lambda z: step_adjoint(z)[0],
        inner=lambda x, y: jnp.sum(x * y, axis=(-2, -1)),
        spread=lambda x: jnp.broadcast_to(x[..., None, None], resting.shape),
    )
    largest = jnp.max(jnp.abs(right), axis=(-2, -1), initial=0)
    z = _solve(system, right, largest, mode)
    return add_cotangents(by_end, step_adjoint(z)[1])


def _of_logits(
    routing: FixedPoint,
    mode: ImplicitGradient,
    saved: tuple[PerPair, PyTree],
    cotangents: tuple[PerPair, PerPair],
) -> PyTree:
    """Return the inputs' cotangents where b = target(couple(b))."""
    logits, inputs = saved
    coupling_bar, logits_bar = cotangents
    coupling, couple_adjoint = jax.vjp(routing.couple, logits, inputs)
    _, target_adjoint = jax.vjp(routing.target, coupling, inputs)
    pairs = routing.pairs(inputs)
    system = _System(
        weigh=lambda y: couple_adjoint(y)[0],
        pull=lambda z: target_adjoint(z)[0],
        inner=lambda x, y: pairs.sum(x * y),
        spread=pairs.broadcast,
    )
    # z eliminated: (I - pull . weigh) y = c_bar + pull(b_bar), one unknown for each pair.
    right = coupling_bar + system.pull(logits_bar)
    y = _solve(system, right, pairs.max_abs(right), mode)
    z = logits_bar + system.weigh(y)
    by_target, by_couple = target_adjoint(z)[1], couple_adjoint(y)[1]
    return add_cotangents(by_target, by_couple)


def _solve(
    system: "_System", right: Array, largest: Float[Array, "*batch"], mode: ImplicitGradient
) -> Array:
    # The equation is linear: solved for right-hand sides near 1, whose squares are neither 0 nor infinite.
    scale = system.spread(jnp.where(largest == 0, 1, largest))
    return scale * SOLVERS[mode.solver](system, right / scale, mode)


@jax.custom_jvp
def _differentiated_once(cotangents: PyTree) -> PyTree:
    """Return cotangents, of which no derivative can be asked: the solver's steps depend on the data."""
    return cotangents


@_differentiated_once.defjvp
def _second(primals: Any, tangents: Any) -> Any:
    raise UserError(
        "ImplicitGradient: got a second derivative, expected one: for jax.hessian and the gradient of a "
        "gradient use FullGradient() with the same num_iters"
    )


_run.defvjp(_forward, _backward)


class _System(NamedTuple):
    """Hold the equation (I - pull . weigh) y = right, self-adjoint where vectors are weighed by `weigh`.

    Attributes:
        weigh: (d couple / d b)^T, positive semi-definite; a child's constants are its null space.
        pull: (d target / d c)^T.
        inner: the sum of the products over each example's pairs.
        spread: broadcasts a value of each example to all its pairs.
    """

    weigh: Callable[[PerPair], PerPair]
    pull: Callable[[PerPair], PerPair]
    inner: Callable[[PerPair, PerPair], Float[Array, "*batch"]]
    spread: Callable[[Array], Array]


def _size(system: _System, x: PerPair) -> Float[Array, "*batch"]:
    """Return the square of the length of weigh(x), in which a child's constants count for nothing."""
    weighed = system.weigh(x)
    return system.inner(weighed, weighed)


def _goal(system: _System, right: PerPair, mode: ImplicitGradient) -> Float[Array, "*batch"]:
    """Return the size of the residual to reach: that of the tolerance, but not less than rounding."""
    # Squared, as `_size` is. Rounding is taken as 8 units in the last place of the right-hand side.
    rounding = (8 * jnp.finfo(right.dtype).eps) ** 2 * system.inner(right, right)
    return jnp.maximum(mode.tolerance**2 * _size(system, right), rounding)


def _neumann(system: _System, right: PerPair, mode: ImplicitGradient) -> PerPair:
    """Solve by y_{k+1} = right + pull(weigh(y_k)); an example's y stays once its change is small."""
    goal = _goal(system, right, mode)

    def goes_on(carry: tuple[Array, PerPair, Array]) -> Bool[Array, ""]:
        k, _, solved = carry
        return (k < mode.max_steps) & ~jnp.all(solved)

    def step(carry: tuple[Array, PerPair, Array]) -> tuple[Array, PerPair, Array]:
        k, y, solved = carry
        new = right + system.pull(system.weigh(y))
        y_new = jnp.where(system.spread(solved), y, new)
        # The change is the residual that y had.
        return k + 1, y_new, solved | (_size(system, new - y) <= goal)

    start = jnp.asarray(0), right, jnp.zeros_like(goal, bool)
    _, y, solved = jax.lax.while_loop(goes_on, step, start)
    return _or_nan(system, y, solved)


def _cg(system: _System, right: PerPair, mode: ImplicitGradient) -> PerPair:
    """Solve by conjugate gradients in the inner product x . weigh(y), each example with its own steps."""

    class Carry(NamedTuple):
        k: Array
        y: PerPair
        rest: PerPair  # right - (I - pull . weigh) y
        direction: PerPair
        going: Bool[Array, "*batch"]

    goal = _goal(system, right, mode)

    def goes_on(carry: Carry) -> Bool[Array, ""]:
        return (carry.k < mode.max_steps) & jnp.any(carry.going)

    def step(carry: Carry) -> Carry:
        k, y, rest, direction, going = carry
        weighed = system.weigh(direction)  # A p, with A = weigh
        image = direction - system.pull(weighed)
        length = system.inner(rest, system.weigh(rest))  # r . A r, [*batch]
        curvature = system.inner(weighed, image)  # p . A (I - B A) p with B = pull, [*batch]
        # Without curvature this is not a fixed point that the updates can converge to.
        far = jnp.where(going, length / jnp.where(curvature > 0, curvature, jnp.nan), 0)
        y = y + system.spread(far) * direction
        rest = rest - system.spread(far) * image
        turn = jnp.where(going, system.inner(rest, system.weigh(rest)) / length, 0)
        direction = rest + system.spread(turn) * direction
        # What became NaN keeps going to the end, and does not count as solved.
        return Carry(k + 1, y, rest, direction, going & ~(_size(system, rest) <= goal))

    going = _size(system, right) > goal
    start = Carry(jnp.asarray(0), jnp.zeros_like(right), right, right, going)
    end = jax.lax.while_loop(goes_on, step, start)
    # The weights do not see a child's constants: one step of the series puts them right.
    y = right + system.pull(system.weigh(end.y))
    return _or_nan(system, y, ~end.going)


def _or_nan(system: _System, y: PerPair, solved: Bool[Array, "*batch"]) -> PerPair:
    return jnp.where(system.spread(solved), y, jnp.nan)


SOLVERS = {"cg": _cg, "neumann": _neumann}
