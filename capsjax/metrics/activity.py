"""How active a layer is: lengths, capsules that nothing activates, and how its couplings are divided."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax.metrics.coupling import children_entropy
from capsjax.metrics.dead import DeadCapsules, dead_capsules


class LayerActivity(NamedTuple):
    """Hold what a layer does with a batch, each a number.

    Attributes:
        mean: the mean activation of its capsules, or of features the mean of |x|.
        active: how many of an example's capsules are active, as a share; of features, how many are not 0.
        dead: how many capsules, or channels, no example activates, as a share.
        entropy: of a child's coupling over its parents, averaged over children and examples, in nats; None
            where nothing is routed.
    """

    mean: Float[Array, ""]
    active: Float[Array, ""]
    dead: Float[Array, ""]
    entropy: Float[Array, ""] | None


def layer_activity(
    activation: Float[Array, "b ..."],
    coupling: Float[Array, "b ..."] | None = None,
    *,
    threshold: float = DeadCapsules.threshold,
) -> LayerActivity:
    """Measure how active a layer is.

    Args:
        activation: of capsules a_j, [b, n]; or features, [b, h, w, c].
        coupling: what its routing decided, [b, i, j], or at positions [b, y, x, i, j]; None for nothing.
        threshold: the activation from which a capsule counts as active; features count unless they are 0.

    Returns:
        Its mean, the shares that are active and dead, and the entropy.

    Example:
        >>> found = layer_activity(jnp.array([[0.9, 0.0], [0.7, 0.05]]))
        >>> float(found.active), float(found.dead)
        (0.5, 0.5)
    """
    size = jnp.abs(activation)
    # The least number above 0 lets every feature count that is not 0.
    least = threshold if activation.ndim == 2 else float(jnp.finfo(size.dtype).tiny)
    return LayerActivity(
        mean=jnp.mean(size),
        active=jnp.mean((size >= least).astype(jnp.float32)),
        dead=dead_capsules(size, least),
        entropy=None if coupling is None else jnp.mean(children_entropy(coupling)),
    )
