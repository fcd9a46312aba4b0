"""Convolution as it is defined: by XLA's own operation, or as patches times a matrix."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def conv2d_lax(
    images: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c f"], stride: int
) -> Float[Array, "b ho wo f"]:
    """Convolve without padding by XLA's own operation.

    Args:
        images: [b, h, w, c].
        kernel: [kh, kw, c, f].
        stride: step between outputs.

    Returns:
        [b, ho, wo, f].
    """
    return jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def conv2d_patches(
    images: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c f"], stride: int
) -> Float[Array, "b ho wo f"]:
    """Convolve without padding as one matrix product, of patches [b ho wo, kh kw c] with the kernel.

    Args:
        images: [b, h, w, c].
        kernel: [kh, kw, c, f].
        stride: step between outputs.

    Returns:
        [b, ho, wo, f].
    """
    kh, kw, c, f = kernel.shape
    b, h, w, _ = images.shape
    ho, wo = (h - kh) // stride + 1, (w - kw) // stride + 1
    columns = [
        images[:, y : y + stride * (ho - 1) + 1 : stride, x : x + stride * (wo - 1) + 1 : stride]
        for y in range(kh)
        for x in range(kw)
    ]
    patches = jnp.stack(columns, axis=3).reshape(b * ho * wo, kh * kw * c)
    return (patches @ kernel.reshape(kh * kw * c, f)).reshape(b, ho, wo, f)
