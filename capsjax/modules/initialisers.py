"""How parameters begin: float32, also where `jax_enable_x64` makes JAX's default float64."""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from capsjax.modules.architecture import Initialisation


@runtime_checkable
class Initialiser(Protocol):
    """Draw an array of a shape from a key."""

    def __call__(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Return the array, float32."""
        ...


def kernel_initialiser(initialisation: Initialisation, *, stddev: float) -> Initialiser:
    """Return how kernels of convolutions and dense layers begin.

    Args:
        initialisation: "released" for a normal of `stddev`, truncated at twice that, as in the authors'
            code; "scaled" for He's normal, sqrt(2 / fan-in).
        stddev: used by "released" alone.
    """
    if initialisation == "released":
        return jax.nn.initializers.truncated_normal(stddev, jnp.float32)
    return jax.nn.initializers.he_normal(dtype=jnp.float32)


def bias_initialiser(initialisation: Initialisation) -> Initialiser:
    """Return how biases begin: at 0.1 for "released", otherwise at 0."""
    return jax.nn.initializers.constant(0.1 if initialisation == "released" else 0.0, jnp.float32)


def transformation_initialiser(initialisation: Initialisation) -> Initialiser:
    """Return how the transformation matrices W_ij, [i, j, d, e], begin.

    A truncated normal of 0.1 for "released". For "scaled", a normal whose standard deviation,
    sqrt(j / (i d)), lets the uniformly coupled sum of i unit-length children have components of the
    order of 1 / sqrt(j): neither squashed to nothing, nor saturated.
    """
    if initialisation == "released":
        return jax.nn.initializers.truncated_normal(0.1, jnp.float32)

    def scaled(key: Array, shape: tuple[int, ...]) -> Array:
        i, j, d, _ = shape
        return jnp.sqrt(jnp.float32(j / (i * d))) * jax.random.normal(key, shape, jnp.float32)

    return scaled
