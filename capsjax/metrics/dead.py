"""Capsules that no example activates."""

import dataclasses
from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from capsjax.checks import UserError, check_choice, check_float
from capsjax.metrics.base import Metric
from capsjax.numerics import safe_norm
from capsjax.types import Batch, NetworkOutput

Whose = Literal["children", "classes"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeadCapsules(Metric):
    """Describe the share of capsules that no example activates.

    Args:
        of: "children" for the capsules that vote for the classes, by the lengths of their poses; "classes"
            for the class capsules.
        threshold: the activation from which a capsule counts as active, above 0.
        kind: its name in a configuration.

    Raises:
        FieldError: If a value is out of range.
    """

    of: Whose = "children"
    threshold: float = 0.1
    kind: Literal["dead_capsules"] = "dead_capsules"

    def __post_init__(self):
        check_choice(self, "of", get_args(Whose))
        check_float(self, "threshold", low=0.0, open_low=True)

    def __call__(self, output: NetworkOutput, batch: Batch) -> Float[Array, "b n"]:
        """Return 1 for each capsule that the example activates, and 0 for the others, [b, n]."""
        del batch
        if self.of == "classes":
            return _active(output.lengths, self.threshold)
        if output.children is None:
            raise UserError(
                "dead_capsules: got a network in which nothing is routed, expected capsules that vote; or "
                "of='classes'",
                argument="metrics",
            )
        lengths = safe_norm(output.children)
        return _active(lengths, self.threshold)

    def result(self, mean: Float[np.ndarray, "n"]) -> float:
        """Return the share of capsules whose mean over examples, [n], is 0."""
        # Means of zeros and ones, none of them negative: exactly 0 only if every example gave 0.
        return float((mean == 0).mean())


def dead_capsules(
    activation: Float[Array, "*batch j"], threshold: float = DeadCapsules.threshold
) -> Float[Array, ""]:
    """Return the share of capsules that no example of the batch activates, 0 to 1.

    Args:
        activation: activations, one capsule in each place of the last axis, [*batch, j].
        threshold: the activation from which a capsule counts as active.

    Returns:
        The share, float32, [].
    """
    active = _active(activation, threshold)
    alive = jnp.max(active.reshape(-1, active.shape[-1]), axis=0)  # [j]
    return 1 - jnp.mean(alive)


def _active(activation: Float[Array, "*batch n"], threshold: float) -> Float[Array, "*batch n"]:
    return (activation >= threshold).astype(jnp.float32)
