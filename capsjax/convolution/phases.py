"""The pixels of an image or a kernel, parted by their phase in a stride."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def phases(
    x: Float[Array, "..."], axes: tuple[int, int], size: tuple[int, ...], stride: int
) -> Float[Array, "..."]:
    """Crop or pad two axes to `size` times the stride, and split each into [size, stride].

    A convolution of stride s is s^2 convolutions of stride 1, each between the images' and the kernel's
    pixels of one phase: those whose row and whose column leave the same remainders.

    Args:
        x: an array with two neighbouring axes of pixels.
        axes: those axes.
        size: pixels of a phase along each.
        stride: s.

    Returns:
        [..., size, stride, size, stride, ...]; zeros where x has no pixel.
    """
    widths, shape = [(0, 0)] * x.ndim, []
    for axis, count in zip(axes, size, strict=True):
        wanted = count * stride
        x = x[(slice(None),) * axis + (slice(0, wanted),)]
        widths[axis] = (0, wanted - x.shape[axis])
    x = jnp.pad(x, widths)
    for axis, pixels in enumerate(x.shape):
        shape += [pixels // stride, stride] if axis in axes else [pixels]
    return x.reshape(shape)
