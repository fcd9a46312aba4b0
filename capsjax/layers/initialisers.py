"""How parameters begin: float32, also where `jax_enable_x64` makes JAX's default float64."""

import dataclasses
import math
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from capsjax.checks import check_float
from capsjax.layers.base import Initialisation


@runtime_checkable
class Initialiser(Protocol):
    """Draw an array of a shape from a key."""

    def __call__(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Return the array, float32."""
        ...


@dataclasses.dataclass(frozen=True)
class KeepLength:
    """Let parents begin as long as the children that come in, so that a deep stack begins alive.

    A squashed vector of length l was sqrt(l / (1 - l)) long before. Uniform coupling, 1 / j, of i children of
    length l by normal matrices of standard deviation w gives a sum of mean square length i e (w l / j)^2, so

    w = j sqrt(l / (1 - l)) / (l sqrt(i e)).

    Biases begin at 0. Routing by agreement lengthens the parents: its coupling is not uniform.

    Args:
        length: l, of the children that come in, above 0 and below 1.

    Raises:
        FieldError: If the length is out of range.
    """

    length: float = 0.5

    def __post_init__(self):
        check_float(self, "length", low=0.0, high=1.0, open_low=True, open_high=True)


def kernel_initialiser(initialisation: Initialisation, *, stddev: float) -> Initialiser:
    """Return how kernels of convolutions and dense layers begin.

    Args:
        initialisation: "released" for a normal of `stddev`, truncated at twice that, as in the authors'
            code; "scaled" for He's normal, sqrt(2 / fan-in).
        stddev: used by "released" alone.

    Returns:
        The initialiser.
    """
    if initialisation == "released":
        return jax.nn.initializers.truncated_normal(stddev, jnp.float32)
    return jax.nn.initializers.he_normal(dtype=jnp.float32)


def windows_initialiser(
    initialisation: Initialisation | KeepLength, windows: float, *, residual: bool = False
) -> Initialiser:
    """Return how the matrices of convolutional capsules, [k, l, a, j, d, e], begin.

    As `transformation_initialiser`, where a child has the j parents of each window that sees it: its share of
    each is smaller by their number, and the matrices are as much larger. The released code's begin alike.

    Args:
        initialisation: how matrices begin.
        windows: how many windows see a child, on the average.
        residual: whether the parents are added to the children: their matrices then begin at a third, so that
            what ten layers add stays shorter than what they add it to.

    Returns:
        The initialiser.
    """
    draw = transformation_initialiser(initialisation)
    share = windows / 3 if residual else windows
    larger = jnp.float32(1 if initialisation == "released" else share)

    def drawn(key: Array, shape: tuple[int, ...]) -> Array:
        i = math.prod(shape[:3])  # k l a children of a parent
        return larger * draw(key, (i, *shape[3:])).reshape(shape)

    return drawn


def shared_initialiser(initialisation: Initialisation | KeepLength, positions: int) -> Initialiser:
    """Return how matrices that all positions of a grid share, [a, j, d, e], begin.

    As `transformation_initialiser` for positions times a children, and smaller by sqrt(positions): those of a
    type see much the same, and by the same matrix give votes that add up in length, where votes of
    independent matrices add up in their squares. "keep_length" is half of that again: class capsules are the
    last of a stack, in which agreement has made capsules up to twice as long as the 0.5 that it goes by. The
    released code's begin as elsewhere.

    Args:
        initialisation: how matrices begin.
        positions: h w, of the grid.

    Returns:
        The initialiser.
    """
    draw = transformation_initialiser(initialisation)
    longest = 0.5 if initialisation == "keep_length" else 1.0
    alike = 1.0 if initialisation == "released" else longest / math.sqrt(positions)

    def drawn(key: Array, shape: tuple[int, ...]) -> Array:
        a = shape[0]
        return jnp.float32(alike) * draw(key, (positions * a, *shape[1:]))[:a]

    return drawn


def bias_initialiser(initialisation: Initialisation | KeepLength) -> Initialiser:
    """Return how biases begin: at 0.1 for "released", otherwise at 0."""
    return jax.nn.initializers.constant(0.1 if initialisation == "released" else 0.0, jnp.float32)


def transformation_initialiser(initialisation: Initialisation | KeepLength) -> Initialiser:
    """Return how the transformation matrices W_ij, [i, j, d, e], begin.

    A truncated normal of 0.1 for "released". For "scaled", a normal whose standard deviation,
    sqrt(j / (i d)), lets the uniformly coupled sum of i unit-length children have components of the
    order of 1 / sqrt(j). Squash makes them shorter, about |s|^2, so that layers above layers starve;
    `KeepLength` goes by the lengths that come in, and "keep_length" is one of 0.5.
    """
    if initialisation == "keep_length":
        initialisation = KeepLength()
    if isinstance(initialisation, KeepLength):
        length = initialisation.length
        # The length of s that squash shortens to l.
        before = math.sqrt(length / (1 - length))

        def kept(key: Array, shape: tuple[int, ...]) -> Array:
            i, j, _, e = shape  # [i, j, d, e]; d does not matter, as a child has the length l
            stddev = jnp.float32(j * before / (length * math.sqrt(i * e)))
            return stddev * jax.random.normal(key, shape, jnp.float32)

        return kept
    if initialisation == "released":
        return jax.nn.initializers.truncated_normal(0.1, jnp.float32)

    # Not He's: votes are weighed by 1 / j before they are summed.
    def scaled(key: Array, shape: tuple[int, ...]) -> Array:
        i, j, d, _ = shape  # [i, j, d, e]
        return jnp.sqrt(jnp.float32(j / (i * d))) * jax.random.normal(key, shape, jnp.float32)

    return scaled
