"""Whether activations can be what a routing or a loss asks of them, before anything is trained."""

from capsjax.checks import UserError
from capsjax.layers import Model, NetworkConfig, PrimaryConfig, routing_keys, routings
from capsjax.layers.head import ActivationHead
from capsjax.runs.config import Config


def check_served(config: Config, labels_per_image: int = 1) -> None:
    """Refuse activations that a routing cannot weigh by, and scores that no training brings to the loss.

    Args:
        config: what is to be trained.
        labels_per_image: how many classes an image of its data shows.

    Raises:
        UserError: If children are weighed by activations that are not from 0 to 1 or say nothing, classes are
            read off lengths that say nothing, lengths above 1 are taken as probabilities, or several classes
            are asked to have what only one can.
    """
    check_weighed(config.model)
    network, loss = config.model.network(), config.loss
    name, last = list(network.layers.items())[-1]
    used = routings(config.model)
    routed = [used[one] for one in (*last.takes, name) if one in used]
    by_activation = isinstance(network.head, ActivationHead)
    # What their activations say, and of which routing; a head of its own parameters reads poses.
    said = {one.activations: getattr(one, "kind", "") for one in routed} if by_activation else {}
    if "none" in said:
        raise _no_lengths(isinstance(config.model, NetworkConfig), name, said["none"])
    softmax = getattr(network.head, "output", None) == "softmax"
    if labels_per_image > 1 and loss.separate and (softmax or "shares" in said):
        whose = "those of a softmax" if softmax else f"activations of {said['shares']}"
        raise UserError(
            f"loss: got {loss.kind}, expected likelihood, as the scores of all classes, {whose}, add up "
            f"to 1, and {loss.kind} asks each of the {labels_per_image} that an image shows for one near 1",
            argument="loss",
        )
    if loss.probabilities and by_activation and not softmax and not last.bounded:
        raise UserError(
            f"loss: got {loss.kind}, expected a loss that takes activations above 1, such as margin, as "
            f"those of layer {name} have no bound, and {loss.kind} takes them as probabilities; or "
            "model.head linear",
            argument="loss",
        )


def _no_lengths(by_name: bool, layer: str, routing: str) -> UserError:
    why = f"as {routing} normalises the poses of {layer}, so that a length says nothing of a class"
    if by_name:
        return UserError(
            f"model.head: got activation, expected linear, {why}; or another routing, such as dynamic",
            argument="model.head",
        )
    return UserError(
        f"model.routing: got {routing}, expected another routing, such as dynamic, {why}; or a network of "
        "layers by name with model.head linear, such as digits_attention",
        argument="model.routing",
    )


def check_weighed(model: Model) -> None:
    """Refuse a routing that weighs children by activations which do not say how present they are.

    Args:
        model: the network.

    Raises:
        UserError: If the activations that come into such a layer may be above 1, or are lengths of poses that
            the routing below normalises.
    """
    layers, used = model.network().layers, routings(model)
    unfit: dict[str, tuple[str, ...]] = {}  # of each layer, those whose fault its activations are
    before: tuple[str, ...] = ()
    for name, layer in layers.items():
        below = tuple(dict.fromkeys(who for one in layer.takes or before for who in unfit[one]))
        if name in used and "activation" in used[name].takes and below:
            raise _unfit(model, name, below)
        says = used[name].activations if name in used else "own"
        # A merge passes on what it takes; everything else gives activations of its own.
        unfit[name] = below if layer.takes else ()
        if says == "none" or not layer.bounded:
            unfit[name] = (*unfit[name], name)
        before = (name,)


def _unfit(model: Model, layer: str, below: tuple[str, ...]) -> UserError:
    layers, used = model.network().layers, routings(model)
    own = f"{model.key(layer)}.routing"
    key = own if own in routing_keys(model) else "model.routing"
    kind, reasons, calls, fields = getattr(used[layer], "kind", ""), [], [], []
    unbounded = [name for name in below if name not in used]
    if unbounded:
        reasons.append(f"the activations of {' and '.join(unbounded)} have no bound")
    for name in below:
        at = model.key(name)
        if name in used:
            normalising = getattr(used[name], "kind", "")
            reasons.append(
                f"{normalising} normalises the poses of {name}, so that a length says nothing"
            )
            calls.append(f"routing=DynamicRouting() of {name}")
            fields.append(f"{at}.routing dynamic")
        elif isinstance(layers[name], PrimaryConfig):
            calls.append(f"activation='sigmoid' or nonlinearity='squash' of {name}")
            fields.append(f"{at}.activation sigmoid or {at}.nonlinearity squash")
    got = f"{key}: got {kind}, expected another routing, such as"
    why = f"as {kind} weighs children by activations from 0 to 1, and {' and '.join(reasons)}"
    # With every layer at fault changed the routing can stay; one that cannot be changed leaves the first way.
    whole = len(calls) == len(below)
    by_call, by_field = (f"; or {', and '.join(ways)}" if whole else "" for ways in (calls, fields))
    return UserError(
        f"{got} DynamicRouting(), {why}{by_call}",
        on_command_line=f"{got} dynamic, {why}{by_field}",
        argument=key,
    )
