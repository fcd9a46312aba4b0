"""Which layers of a network are routed at once: neighbours whose routing is concurrent attention."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from capsjax.checks import FieldError
from capsjax.layers.base import Layer
from capsjax.layers.routed import routed_params, routing_of
from capsjax.routing import InvertedAttentionRouting, Routing, concurrent_attention
from capsjax.types import RoutingResult


def stacks(
    layers: Mapping[str, Layer], routing: Routing, *, key: Callable[[str], str] = str
) -> Iterator[tuple[str, ...]]:
    """Part the layers of a network into those that are applied together.

    Args:
        layers: the layers by name, in order.
        routing: the routing of layers that name none.
        key: where a configuration says what a layer of a name is.

    Yields:
        Names of neighbours whose routing is concurrent, or of one layer by itself.

    Raises:
        FieldError: If such neighbours differ in their routing, or a layer changes poses after it.
    """
    stack: tuple[str, ...] = ()
    for name, layer in layers.items():
        if not _concurrent(layer, routing):
            yield from (names for names in (stack, (name,)) if names)
            stack = ()
            continue
        stack = (*stack, name)
        if len(stack) > 1:
            _check_neighbours(layers, routing, stack[-2:], key)
    if stack:
        yield stack


def _concurrent(layer: Layer, routing: Routing) -> bool:
    own = routing_of(layer, routing) if hasattr(layer, "routing") else None
    return isinstance(own, InvertedAttentionRouting) and own.concurrent


def _check_neighbours(
    layers: Mapping[str, Layer], routing: Routing, names: tuple[str, ...], key: Callable[[str], str]
) -> None:
    first, second = (routing_of(layers[name], routing) for name in names)
    for field in (one.name for one in dataclasses.fields(first)):
        wanted, given = (getattr(one, field) for one in (first, second))
        if given != wanted:
            why = f"as of {names[0]}, the layer before, since both are updated at once"
            in_config = f"{getattr(wanted, 'kind', wanted)}, {why}; or concurrent false"
            expected = f"{wanted}, {why}; or concurrent False"
            raise FieldError(f"{key(names[1])}.routing", field, given, expected, in_config)
    for name in names:
        for field, off, in_config in (
            ("residual", False, "false"),
            ("normalisation", None, "null"),
        ):
            given = getattr(layers[name], field, off)
            if given != off:
                why = "as the layer is updated at once with its neighbour, by the poses that routing gives"
                expected = f"{off}, {why}; or a routing with concurrent False"
                in_config = f"{in_config}, {why}; or a routing with concurrent false"
                raise FieldError(key(name), field, given, expected, in_config)


def route_at_once(
    modules: Mapping[str, Any], children: Any, *, trace: bool
) -> Mapping[str, RoutingResult]:
    """Route through the layers of a stack, all of them updated at once.

    Args:
        modules: what the layers' `build` made, by name, in order.
        children: the capsules below the first layer, poses [b, i, d].
        trace: whether to return every iteration, as data.

    Returns:
        The result of each, by name.
    """

    def form(module: Any) -> Any:
        # Below the first layer, poses come as the routing gives them, with their positions.
        return lambda pose: module.votes(pose.reshape(pose.shape[0], -1, pose.shape[-1]))

    routing = next(iter(modules.values())).routing
    results = concurrent_attention(
        children.pose,
        [form(module) for module in modules.values()],
        [routed_params(module) for module in modules.values()],
        num_iters=routing.num_iters,
        gradient=routing.gradient,
        names=tuple(modules),
        trace=trace,
    )
    return dict(zip(modules, results, strict=True))
