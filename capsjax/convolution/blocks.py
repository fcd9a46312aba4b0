"""Work through a batch in blocks of examples, where all at once would take too much memory."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def in_blocks(
    function: Callable[[Array], Array],
    images: Float[Array, "b h w c"],
    example_bytes: int,
    block_bytes: int,
) -> Float[Array, "b ho wo f"]:
    """Apply a function to images, in equal blocks if its intermediates would be too large.

    The backward pass computes each block again: kept, the intermediates of all blocks would be what blocks
    are to avoid.

    Args:
        function: from images [n, h, w, c] to [n, ho, wo, f], each example by itself.
        images: [b, h, w, c].
        example_bytes: what the intermediates of one example take. An example is never cut, so these alone may
            exceed `block_bytes`.
        block_bytes: what those of a block may take.

    Returns:
        [b, ho, wo, f].
    """
    b = images.shape[0]
    if not isinstance(b, int):  # a symbol, under `jax.export`: nobody knows how many blocks
        return function(images)
    blocks = min(b, -(-b * example_bytes // block_bytes))
    if blocks <= 1:
        return function(images)
    size = -(-b // blocks)
    blocks = -(-b // size)  # fewer, where equal blocks would leave whole ones empty
    padded = jnp.pad(images, ((0, blocks * size - b), (0, 0), (0, 0), (0, 0)))
    # Every block takes examples from all over the batch, so that devices which share it keep their own.
    parts = padded.reshape(size, blocks, *images.shape[1:]).swapaxes(0, 1)  # [blocks, n, h, w, c]
    y = jax.lax.map(jax.checkpoint(function), parts).swapaxes(0, 1)  # [n, blocks, ho, wo, f]
    return y.reshape(blocks * size, *y.shape[2:])[:b]


def known_shape(shape: tuple[object, ...]) -> tuple[int, ...]:
    """Return a shape to choose by: the shape itself, with a usual batch for a symbol under `jax.export`.

    Args:
        shape: [b, h, w, c].

    Returns:
        Numbers.
    """
    return tuple(size if isinstance(size, int) else 64 for size in shape)
