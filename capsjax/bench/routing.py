"""Routing alone, value and gradient, as work to be timed."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from capsjax.bench.workload import Workload, check_times, compile_work, kind_of
from capsjax.checks import UserError, check_int, nearest
from capsjax.gradients import GradientMode, ImplicitGradient, StopGradient, TruncatedGradient
from capsjax.routing import DynamicRouting, Routing
from capsjax.routing.base import IterativeRouting
from capsjax.routing.parameters import Sizes
from capsjax.votes import VoteForm, form_votes


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoutingSizes:
    """Describe routing alone; the defaults are the 2017 network's.

    Args:
        batch: examples.
        children: i.
        parents: j.
        in_dim: d, components of a child's pose.
        out_dim: e, components of a parent's pose.
        num_iters: r, the number of readouts.

    Raises:
        FieldError: If one is not an integer of at least 1.
    """

    batch: int = 128
    children: int = 1152
    parents: int = 10
    in_dim: int = 8
    out_dim: int = 16
    num_iters: int = 3

    def __post_init__(self):
        for field in dataclasses.fields(self):
            check_int(self, field.name, low=1)


def routing_work(
    sizes: RoutingSizes,
    *,
    routing: str = DynamicRouting.kind,
    gradient: GradientMode | None = None,
    votes: VoteForm = "auto",
    times: int = 1,
) -> Workload:
    """Compile value and gradient of routing alone, with respect to u, W and what else the routing takes.

    The loss is the sum of the parents' poses, each weighed with a fixed random number; with a routing that
    takes activations, the parents' activations are added, weighed likewise.

    Args:
        sizes: how much there is to route.
        routing: its kind, such as "em".
        gradient: how the gradient passes through the iterations; None for `StopGradient()`, and for routings
            without iterations.
        votes: "linear", "dense", or "auto" to choose by size.
        times: how many are sent off in a call before one is waited for.

    Raises:
        FieldError: If the gradient mode does not fit the routing or its iterations.
        UserError: If the kind of routing or the form of votes is unknown, a routing without iterations comes
            with a gradient mode, or a call is to do nothing.
    """
    check_times(times)
    route = _routing_of(routing, sizes.num_iters, gradient)
    rng = np.random.default_rng(0)
    u = 0.3 * rng.normal(size=(sizes.batch, sizes.children, sizes.in_dim))
    W = 0.1 * rng.normal(size=(sizes.children, sizes.parents, sizes.in_dim, sizes.out_dim))
    weights = rng.normal(size=(sizes.batch, sizes.parents, sizes.out_dim))
    arrays = tuple(jnp.asarray(x, jnp.float32) for x in (u, W, weights))

    more = _more_of(route, sizes, rng)

    def loss(u: jax.Array, W: jax.Array, weights: jax.Array, more: dict[str, Any]) -> jax.Array:
        found = route(
            form_votes(u, W, votes),
            poses=u if "poses" in route.takes else None,
            activation=more.get("activation"),
            params=more.get("params"),
        )
        total = jnp.sum(found.pose * weights)
        return total + jnp.sum(found.activation * weights[..., 0]) if route.takes else total

    mode = kind_of(getattr(route, "gradient", None))
    described = dataclasses.asdict(sizes) | {"routing": routing, "gradient": mode, "votes": votes}
    if mode is None:
        described["num_iters"] = None
    lowered = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 3))).lower
    parts = lowered, (*arrays, more), lambda _, used: used
    return compile_work("routing", described, sizes.batch, *parts, times=times)


def _kinds() -> dict[str, type]:
    """Return every routing by its kind."""
    return {getattr(routing, "kind", routing.__name__): routing for routing in Routing.variants()}


def _routing_of(kind: str, num_iters: int, gradient: GradientMode | None) -> Routing:
    """Make the routing of a kind, as it is but for its iterations and its gradient."""
    kinds = _kinds()
    if kind not in kinds:
        got = f"routing: got {kind!r}, expected one of {', '.join(kinds)}"
        raise UserError(got + nearest(kind, kinds), argument="routing")
    if issubclass(kinds[kind], IterativeRouting):
        return kinds[kind](num_iters=num_iters, gradient=gradient or StopGradient())
    if gradient is not None:
        got = f"gradient: got {kind_of(gradient)!r} for routing {kind!r}, which has no iterations"
        raise UserError(f"{got}, expected none", argument="gradient")
    return kinds[kind]()


def _more_of(route: Routing, sizes: RoutingSizes, rng: np.random.Generator) -> dict[str, Any]:
    """Return what a routing takes and trains beside poses and W: random numbers, by the argument's name."""
    shapes = route.parameters(Sizes(sizes.children, sizes.parents, sizes.in_dim, sizes.out_dim))
    params = {
        name: jnp.asarray(0.1 * rng.normal(size=parameter.shape), jnp.float32)
        for name, parameter in shapes.items()
        if not parameter.optional
    }
    present = rng.uniform(0.1, 1, size=(sizes.batch, sizes.children))
    takes = {"activation": jnp.asarray(present, jnp.float32)} if "activation" in route.takes else {}
    return takes | ({"params": params} if params else {})


def gradient_named(gradient: str, routing: str = DynamicRouting.kind) -> GradientMode:
    """Return the gradient mode of a name; "truncated" goes through the last update only.

    Args:
        gradient: the mode's kind.
        routing: the kind of routing that it is for: some have a fixed point, to be differentiated there.

    Returns:
        The mode, as it is.

    Raises:
        UserError: If there is none.
    """
    modes = {mode.kind: mode for mode in GradientMode.variants()}
    if gradient == ImplicitGradient.kind and hasattr(_kinds().get(routing), "target"):
        return ImplicitGradient()
    known = [known for known in modes if known != ImplicitGradient.kind]
    if gradient not in known:
        got = f"gradient: got {gradient!r}, expected one of {', '.join(known)}"
        if gradient != ImplicitGradient.kind:
            raise UserError(got + nearest(gradient, known), argument="gradient")
        got += ": routing by agreement has no fixed point; time what has one with "
        overrides = '{"model.routing": {"kind": "fixed_point", "gradient": "implicit"}}'
        flags = "--model.routing.kind fixed_point --model.routing.gradient implicit"
        raise UserError(
            f'{got}step_work(cj.load_config("digits", {overrides}))',
            on_command_line=f"{got}capsjax bench step digits {flags}",
            argument="gradient",
        )
    return TruncatedGradient(last=1) if gradient == "truncated" else modes[gradient]()
