"""Whether the scores of a network can be what its loss asks of them, before anything is trained."""

from capsjax.checks import UserError
from capsjax.layers import NetworkConfig, routings
from capsjax.layers.head import ActivationHead
from capsjax.runs.config import Config


def check_served(config: Config, labels_per_image: int = 1) -> None:
    """Refuse scores that no training can bring to what the loss asks.

    Args:
        config: what is to be trained.
        labels_per_image: how many classes an image of its data shows.

    Raises:
        UserError: If classes are read off lengths that say nothing, lengths above 1 are taken as
            probabilities, or several classes are asked to have what only one can.
    """
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
