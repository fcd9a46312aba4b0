"""What couplings do from iteration to iteration, layer by layer."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax.metrics import children_entropy, coupling_distance, dead_capsules
from capsjax.types import RoutingResult


def describe_couplings(
    layers: Mapping[str, RoutingResult],
) -> dict[str, dict[str, Float[Array, "r"]]]:
    """Measure the couplings of a batch at each readout, by layer.

    Args:
        layers: what each layer's routing did, with its trace; layers without one are left out.

    Returns:
        By layer, means over examples at each of the r readouts, [r]: `entropy` in nats; `agreement`, of votes
        where they count; `from_uniform`, the distance from the first coupling, uniform where
        routing begins with logits of 0; `from_random`, the distance from a coupling as decided as this one,
        whose parents were dealt out to each child anew; and `dead`, which share of the parents no example
        activates in the end, the same at each.
    """
    return {name: _describe(found) for name, found in layers.items() if found.trace is not None}


def _describe(found: RoutingResult) -> dict[str, Any]:
    trace = found.trace
    assert trace is not None
    coupling = trace.coupling  # [r, b, ..., i, j]
    order = jnp.argsort(jax.random.uniform(jax.random.key(0), coupling.shape[1:]), axis=-1)
    dealt = jnp.take_along_axis(coupling, jnp.broadcast_to(order, coupling.shape), axis=-1)
    first = jnp.broadcast_to(coupling[:1], coupling.shape)
    rounds = len(coupling)
    return {
        "entropy": jax.vmap(children_entropy)(coupling).mean(-1),  # over examples
        "agreement": trace.agreement.reshape(rounds, -1).mean(
            -1
        ),  # and positions, where there are any
        "from_uniform": jax.vmap(coupling_distance)(coupling, first).mean(-1),
        "from_random": jax.vmap(coupling_distance)(coupling, dealt).mean(-1),
        "dead": jnp.full(
            rounds, dead_capsules(found.activation.reshape(len(found.activation), -1))
        ),
    }
