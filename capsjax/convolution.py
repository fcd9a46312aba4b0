"""Convolution in the form that is fast where it runs.

XLA's gradient of a large strided convolution is some thirty times slower on a CPU than the same
products written as a matrix product of patches, so a CPU gets the patches. A GPU or TPU gets XLA's.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax.checks import UserError

Padding = Literal["VALID", "SAME"]


def conv2d(
    images: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c f"],
    *,
    stride: int = 1,
    padding: Padding = "VALID",
) -> Float[Array, "b ho wo f"]:
    """Convolve images with a kernel (cross-correlation, as everywhere in deep learning).

    Chooses the form by platform when the function is compiled; both are equal to rounding.

    Args:
        images: a batch of images, channels last, [b, h, w, c].
        kernel: [kh, kw, c, f].
        stride: step between outputs, the same in both directions.
        padding: "VALID" for none, "SAME" for zeros around the image, ceil(h / stride) outputs.

    Returns:
        [b, ho, wo, f].

    Raises:
        UserError: where channels differ or the kernel is larger than the image.

    Example:
        >>> import jax.numpy as jnp
        >>> conv2d(jnp.ones([1, 5, 5, 1]), jnp.ones([3, 3, 1, 2]), stride=2).shape
        (1, 2, 2, 2)
    """
    if images.shape[-1] != kernel.shape[2]:
        raise UserError(
            f"conv2d: got images {list(images.shape)} and a kernel {list(kernel.shape)}, expected "
            "equal channels: images [b, h, w, c], kernel [kh, kw, c, f]"
        )
    (top, bottom), (left, right) = _pads(images.shape[1:3], kernel.shape[:2], stride, padding)
    images = jnp.pad(images, ((0, 0), (top, bottom), (left, right), (0, 0)))
    if images.shape[1] < kernel.shape[0] or images.shape[2] < kernel.shape[1]:
        raise UserError(
            f"conv2d: got a {kernel.shape[0]}x{kernel.shape[1]} kernel for a {images.shape[1]}x"
            f"{images.shape[2]} image, expected a kernel no larger: choose a smaller kernel or stride"
        )
    return jax.lax.platform_dependent(
        images,
        kernel,
        cpu=lambda x, k: conv2d_patches(x, k, stride),
        default=lambda x, k: conv2d_lax(x, k, stride),
    )


def conv2d_lax(
    images: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c f"], stride: int
) -> Float[Array, "b ho wo f"]:
    """Convolve without padding by XLA's own operation."""
    return jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def conv2d_patches(
    images: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c f"], stride: int
) -> Float[Array, "b ho wo f"]:
    """Convolve without padding as one matrix product, of the patches [b ho wo, kh kw c] with the kernel."""
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


def output_size(size: int, kernel: int, stride: int, padding: Padding) -> int:
    """Return the outputs along an axis of `size` pixels."""
    return -(-size // stride) if padding == "SAME" else (size - kernel) // stride + 1


def _pads(
    size: tuple[int, ...], kernel: tuple[int, ...], stride: int, padding: Padding
) -> list[tuple[int, int]]:
    """Return the zeros before and after, along each axis."""
    if padding == "VALID":
        return [(0, 0), (0, 0)]
    pads = []
    for pixels, width in zip(size, kernel, strict=True):
        missing = max((-(-pixels // stride) - 1) * stride + width - pixels, 0)
        pads.append((missing // 2, missing - missing // 2))
    return pads
