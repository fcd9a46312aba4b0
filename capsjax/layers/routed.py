"""What layers that route have in common: what the routing trains, and results without positions."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from capsjax.checks import check_bool, check_type
from capsjax.layers.base import Initialisation, Passed
from capsjax.layers.initialisers import KeepLength, bias_initialiser
from capsjax.routing import Routing
from capsjax.routing.parameters import Sizes
from capsjax.types import Capsules, RoutingResult
from capsjax.votes import Votes


def check_routing(layer: Any) -> None:
    """Check what a layer says of its routing.

    Args:
        layer: the layer, with fields `routing`, which may be None, and `routing_bias`.

    Raises:
        FieldError: If one is something else.
    """
    if layer.routing is not None:
        check_type(layer, "routing", Routing, "a routing such as DynamicRouting(), or None")
    check_bool(layer, "routing_bias")


def routing_of(layer: Any, routing: Routing) -> Routing:
    """Return the routing of a layer: its own, or the network's where it names none.

    Args:
        layer: the layer, with a field `routing`, which may be None.
        routing: the network's.

    Returns:
        The routing.
    """
    return routing if layer.routing is None else layer.routing


def train_routing(
    module: Any,
    sizes: Sizes,
    *,
    optional: bool,
    initialisation: Initialisation | KeepLength,
    rngs: nnx.Rngs,
) -> None:
    """Give a module the parameters that its routing trains, each under its own name, named in `trained`.

    What a routing cannot do without is always trained; the rest, such as a bias, if it was asked for.

    Args:
        module: the module of the layer, with its `routing`.
        sizes: children i, parents j, and the components d and e of their poses.
        optional: whether the rest is trained.
        initialisation: how those begin that do not say so themselves.
        rngs: random numbers for them.
    """
    known, start = module.routing.parameters(sizes), bias_initialiser(initialisation)
    module.trained = tuple(name for name, one in known.items() if optional or not one.optional)
    for name in module.trained:
        draw = known[name].init or start
        # Under its own name in the module, and so in checkpoints: `classes.bias`.
        setattr(module, name, nnx.Param(draw(rngs.params(), known[name].shape)))


def route(
    module: Any,
    votes: Votes,
    children: Mapping[str, Callable[[], Array | None]],
    *,
    trace: bool,
    sizes: Sizes | None = None,
) -> RoutingResult:
    """Route votes by a module's routing, with the parameters that `train_routing` gave it.

    Args:
        module: the module of the layer, with its `routing`, and in `trained` the names of what it trains.
        votes: of the children for the parents.
        children: what a routing may take of them, by name; only what it takes is made.
        trace: whether to return every iteration, as data.
        sizes: of the votes, where their parents are those that the parameters were made for at several
            positions: parameters are then the same at each.

    Returns:
        What the routing returns.
    """
    params = routed_params(module)
    known = {} if sizes is None else module.routing.parameters(sizes)
    for name in set(params) & set(known):
        repeats = [n // m for n, m in zip(known[name].shape, params[name].shape, strict=True)]
        params[name] = jnp.tile(params[name], repeats)  # position by position, type by type
    # A routing refuses what it has no use for, so it gets what it names.
    return module.routing(
        votes,
        **{name: children[name]() for name in module.routing.takes},
        params=params,
        trace=trace,
    )


def routed_params(module: Any) -> dict[str, Array]:
    """Return what a module's routing trains, by name.

    Args:
        module: the module, which `train_routing` gave its parameters.

    Returns:
        The arrays.
    """
    return {name: getattr(module, name)[...] for name in module.trained}


def passed(routed: RoutingResult) -> Passed:
    """Return parents as what a layer passes on.

    Args:
        routed: poses [b, j, e] or at positions [b, y, x, j, e], activations, and what routing did.

    Returns:
        The capsules, poses [b, y x j, e] and activations [b, y x j], with the result: with positions, unless
        there is only one.
    """
    b, *positions, _, e = routed.pose.shape
    capsules = Capsules(routed.pose.reshape(b, -1, e), routed.activation.reshape(b, -1))
    return Passed(capsules, without_positions(routed) if positions == [1, 1] else routed)


def without_positions(result: RoutingResult) -> RoutingResult:
    """Return the result of a grid of a single position as that of capsules without one.

    Args:
        result: of votes (b, 1, 1, i, j, e).

    Returns:
        The same as of votes (b, i, j, e).
    """
    trace = jax.tree.map(lambda x: x[:, :, 0, 0], result.trace)  # [r, b, 1, 1, ...]
    alone = jax.tree.map(lambda x: x[:, 0, 0], result._replace(trace=None))  # [b, 1, 1, ...]
    return alone._replace(trace=trace)
