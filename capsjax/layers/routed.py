"""What layers that route have in common: what the routing trains, and results without positions."""

from collections.abc import Mapping

import jax
from flax import nnx

from capsjax.layers.initialisers import Initialiser
from capsjax.routing.parameters import Parameter
from capsjax.types import RoutingResult


def train_routing(
    module: nnx.Module,
    known: Mapping[str, Parameter],
    *,
    optional: bool,
    start: Initialiser,
    rngs: nnx.Rngs,
) -> tuple[str, ...]:
    """Give a module the parameters that its routing trains, each under its own name.

    What a routing cannot do without is always trained; the rest, such as a bias, if it was asked for.

    Args:
        module: the module of the layer.
        known: what the routing trains.
        optional: whether the rest is trained.
        start: how those begin that do not say so themselves.
        rngs: random numbers for them.

    Returns:
        The names of what is trained.
    """
    names = tuple(name for name, one in known.items() if optional or not one.optional)
    for name in names:
        draw = known[name].init or start
        # Under its own name in the module, and so in checkpoints: `classes.bias`.
        setattr(module, name, nnx.Param(draw(rngs.params(), known[name].shape)))
    return names


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
