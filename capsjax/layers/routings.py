"""The routings of a network: which layer uses which, and the same network with others."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from capsjax.gradients import GradientMode
from capsjax.layers.model import Model
from capsjax.routing import IterativeRouting, Routing
from capsjax.schema.named import Named

T = TypeVar("T")


def routings(model: Model) -> dict[str, Routing]:
    """Return the routing that each layer uses, by the layer's name, in order, of the layers that route."""
    own = {
        name: layer.routing
        for name, layer in model.network().layers.items()
        if hasattr(layer, "routing")
    }
    # A layer that names none uses the network's.
    return {name: model.routing if routing is None else routing for name, routing in own.items()}


def routing_keys(model: Model) -> dict[str, Routing]:
    """Return the routings that layers use by the keys of a configuration that say what they are.

    Returns:
        Such as `model.routing`, of layers that name none, or `model.layers.classes.routing`.
    """
    layers = model.network().layers
    return {
        "model.routing"
        if getattr(layers[name], "routing", None) is None
        else f"{model.key(name)}.routing": routing
        for name, routing in routings(model).items()
    }


def map_routings(model: T, change: Callable[[Routing], Routing]) -> T:
    """Return a network with every routing in it changed: its own, and those that layers name.

    Args:
        model: the network, or any part of one: a frozen dataclass, a mapping or a tuple of such.
        change: from a routing to the one to take instead.

    Returns:
        The same with the changed routings; parameters and their names stay, if the new routings train
        the same.
    """
    changed: Any = _changed(model, change)
    return changed


def with_gradient(model: T, gradient: GradientMode) -> T:
    """Return a network whose iterative routings, every one, have a gradient mode.

    Args:
        model: the network.
        gradient: the mode.

    Returns:
        The same network with that mode; routings that do not iterate stay as they are.

    Raises:
        FieldError: If one of the routings cannot have it.

    Example:
        >>> import capsjax as cj
        >>> with_gradient(cj.load_config("digits").model, cj.StopGradient()).routing.gradient
        StopGradient(kind='stop')
    """

    def change(routing: Routing) -> Routing:
        if not isinstance(routing, IterativeRouting):  # nothing that a mode could decide
            return routing
        return dataclasses.replace(routing, gradient=gradient)

    return map_routings(model, change)


def _changed(value: Any, change: Callable[[Routing], Routing]) -> Any:
    if isinstance(value, Routing):
        return change(value)
    if isinstance(value, Mapping):
        return Named({name: _changed(inner, change) for name, inner in value.items()})
    if isinstance(value, tuple):
        return tuple(_changed(inner, change) for inner in value)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    inner = {name: _changed(old, change) for name, old in fields.items()}
    differ = {name: new for name, new in inner.items() if new != fields[name]}
    # Only what differs is made again, and so checks itself again.
    return dataclasses.replace(value, **differ) if differ else value
