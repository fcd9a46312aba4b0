"""The routings of a network: which layer uses which, and the same network with others."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from capsjax.checks import FieldError, UserError, nearest
from capsjax.gradients import GradientMode, StopGradient
from capsjax.layers.model import Model, NetworkConfig
from capsjax.layers.routed import routing_of
from capsjax.layers.stacks import stacks
from capsjax.routing import IterativeRouting, Routing
from capsjax.schema.named import Named

T = TypeVar("T")


def routings(model: Model) -> dict[str, Routing]:
    """Return the routing that each layer uses, by the layer's name, in order, of the layers that route."""
    return {
        name: routing_of(layer, model.routing)
        for name, layer in model.network().layers.items()
        if hasattr(layer, "routing")
    }


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


def with_routings(model: Model, routings: Mapping[str, Routing]) -> NetworkConfig:
    """Return a network in which layers use other routings, each its own.

    Args:
        model: the network.
        routings: the routing of each layer by name; the others stay as they are.

    Returns:
        The network as layers by name.

    Example:
        >>> import capsjax as cj
        >>> model = with_routings(cj.load_config("digits").model, {"classes": cj.UniformRouting()})
        >>> model.layers["classes"].routing.kind
        'uniform'
    """
    network = model.network()
    layers: dict[str, Any] = dict(network.layers)
    for name, routing in routings.items():
        layers[name] = dataclasses.replace(layers[name], routing=routing)
    return dataclasses.replace(network, layers=layers)


def with_iterations(model: Model, iterations: int | Mapping[str, int]) -> Model:
    """Return a network whose routings make another number of iterations, to be evaluated.

    Their gradient mode is the stop gradient: a mode may not fit the number, and none is taken.

    Args:
        model: the network.
        iterations: r of every layer that iterates; or of each layer by name, the others as they are.

    Returns:
        The same network, with the same parameters, as layers by name if one is named.

    Raises:
        UserError: If a name is not a layer's, no layer iterates, or a routing cannot make so many.

    Example:
        >>> import capsjax as cj
        >>> with_iterations(cj.load_config("digits").model, 5).routing.num_iters
        5
    """
    used = routings(model)
    known = {n: own.num_iters for n, own in used.items() if isinstance(own, IterativeRouting)}
    if not known:
        raise UserError(
            f"iterations: got {iterations}, expected none: no layer of the network iterates",
            argument="iterations",
        )

    def change(routing: Routing, number: int) -> Routing:
        if not isinstance(routing, IterativeRouting):
            return routing
        try:
            return dataclasses.replace(routing, num_iters=number, gradient=StopGradient())
        except FieldError as error:
            got = f"iterations: got {number}, expected {error.expected}"
            raise UserError(got, argument="iterations") from error

    if not isinstance(iterations, Mapping):
        return map_routings(model, lambda routing: change(routing, iterations))
    for name in iterations:
        if name not in known:
            raise UserError(
                f"iterations: got {name!r}, expected layers that iterate: {', '.join(known)}"
                + nearest(str(name), known),
                argument="iterations",
            )
    numbers = {**known, **iterations}
    for names in stacks(model.network().layers, model.routing):
        together = {name: numbers[name] for name in names if name in numbers}
        if len(set(together.values())) > 1:
            wanted = dict.fromkeys(together, max(together.values()))
            why = f"one number for {', '.join(together)}, which are updated at once, such as"
            flags = " ".join(f"--iterations {name}={number}" for name, number in wanted.items())
            given = " ".join(f"{name}={number}" for name, number in iterations.items())
            raise UserError(
                f"iterations: got {dict(iterations)}, expected {why} {wanted}",
                on_command_line=f"iterations: got {given}, expected {why} {flags}",
                argument="iterations",
            )
    return with_routings(model, {name: change(used[name], numbers[name]) for name in known})


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
