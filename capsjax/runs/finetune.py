"""Begin with the parameters of another run, layer by layer where they fit."""

import jax.numpy as jnp

from capsjax.checks import UserError
from capsjax.training.state import Params


def transfer(given: Params, initial: Params) -> tuple[Params, list[str]]:
    """Take the layers of a trained network that fit a new one; the others are initialised.

    A layer fits if the new network has one of that name, and each of its arrays has the same shape there.

    Args:
        given: trained parameters under dotted names; they are copied.
        initial: the new network's initial parameters.

    Returns:
        The new network's parameters; and what does not fit, a line a layer, with both shapes.

    Raises:
        UserError: If no layer fits.
    """
    lines: dict[str, str] = {}
    for name, wanted in initial.items():
        layer, found = layer_of(name), given.get(name)
        shape = None if found is None else list(found.shape)
        if shape != list(wanted.shape):
            got = "is not there" if shape is None else f"is {shape} there"
            lines.setdefault(layer, f"{layer} ({name} {got}, {list(wanted.shape)} here)")
    if len(lines) == len({layer_of(name) for name in initial}):
        raise UserError(
            f"start: got a network of which no layer fits: {', '.join(lines.values())}; expected at least "
            "one of the same name and shapes: take the model of that run's config.yaml",
            argument="start",
        )
    params = {
        # Copies: a step of training takes over the arrays that it is given.
        name: value if layer_of(name) in lines else jnp.array(given[name], value.dtype, copy=True)
        for name, value in initial.items()
    }
    return params, list(lines.values())


def layer_of(name: str) -> str:
    """Return the layer that a parameter belongs to, such as "decoder.layers.0"."""
    return name.rpartition(".")[0]
