"""The arms that the package does not have: a leaky stop, a stop gradient rescaled, and couplings at random.

They are values as the package's own are, with a `kind` that a configuration names once this is imported.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from capsjax import FullGradient, RoutingResult, StopGradient, UniformRouting
from capsjax.gradients.base import GradientMode, Iterative, iterate
from capsjax.routing import DynamicRouting
from capsjax.types import PerPair


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeakyStopGradient(GradientMode):
    """Stop the votes inside the iterations, and nothing else, as several public ports do.

    The coupling is not constant then: whatever is trained beside the votes, here the bias that is added to
    every s_j, has a gradient through the iterations.

    Args:
        kind: its name in a configuration.
    """

    kind: Literal["leaky_stop"] = "leaky_stop"

    def __call__(self, routing: Iterative, inputs: Any, num_updates: int) -> tuple[PerPair, PyTree]:
        """Run every update on stopped votes and a live bias."""
        inside = inputs._replace(votes=jax.lax.stop_gradient(inputs.votes))
        state = iterate(routing, inside, routing.init(inside), 0, num_updates)
        return routing.couple(state, inside), state


@dataclasses.dataclass(frozen=True, kw_only=True)
class RescaledRouting(DynamicRouting):
    """Route by agreement; the gradient has the stop gradient's direction and the full one's length.

    Direction and length are those of the gradient of each input of the routing, over the whole batch: the
    poses of the children, the transformation matrices, and the bias. If the length is what full has over
    stop, training by this one ends where full's does.

    Args:
        kind: its name in a configuration.
    """

    kind: Literal["rescaled"] = "rescaled"

    def route(self, inputs: Any) -> RoutingResult:
        """Route, with a gradient of its own."""
        settings = {"num_iters": self.num_iters, "leaky": self.leaky}
        held = DynamicRouting(gradient=StopGradient(), **settings)
        live = DynamicRouting(gradient=FullGradient(), **settings)
        return _rescaled(held, live, inputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomRouting(UniformRouting):
    """Couple by a softmax over the parents of logits that are drawn from N(0, 1) once, whatever the input.

    Every network of a size has the same couplings. They are as far from uniform as chance makes them, and
    agree with nothing: what routing gains over them is not gained by leaving uniformity.

    Args:
        kind: its name in a configuration.
    """

    kind: Literal["random"] = "random"

    def route(self, inputs: Any) -> RoutingResult:
        """Read out once, by couplings that do not look at the votes."""
        votes = inputs.votes
        drawn = jax.random.normal(jax.random.key(0), votes.shape[-3:-1], votes.dtype)  # [i, j]
        logits = jnp.broadcast_to(drawn, votes.shape[:-1])
        coupling = votes.couple(votes.pairs.from_array(logits))
        pose, activation = inputs.readout(coupling)
        return RoutingResult(pose, votes.pairs.to_array(coupling), logits, activation)


def _rescaled(held: DynamicRouting, live: DynamicRouting, inputs: Any) -> RoutingResult:
    @jax.custom_vjp
    def routed(inputs: Any) -> RoutingResult:
        return held.route(inputs)

    def forward(inputs: Any) -> tuple[RoutingResult, Any]:
        result, pull_held = jax.vjp(held.route, inputs)
        return result, (pull_held, jax.vjp(live.route, inputs)[1])

    def backward(pulls: Any, cotangent: Any) -> tuple[Any]:
        short, long = (pull(cotangent)[0] for pull in pulls)
        return (jax.tree.map(_as_long_as, short, long),)

    routed.defvjp(forward, backward)
    return routed(inputs)


def _as_long_as(gradient: jax.Array, other: jax.Array) -> jax.Array:
    """Return a gradient with the length of another; zeros stay zeros."""
    own, wanted = (jnp.sqrt(jnp.sum(x**2)) for x in (gradient, other))
    return gradient * jnp.where(own > 0, wanted / jnp.where(own > 0, own, 1), 0)
