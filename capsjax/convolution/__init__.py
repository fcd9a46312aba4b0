"""Convolution in the form that is fast where it runs.

XLA's gradient of a large strided convolution is some thirty times slower on a CPU than the same
products written as a matrix product of patches, and a transform to frequencies is faster still. A GPU or
TPU gets XLA's own operation.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax.checks import UserError, nearest
from capsjax.convolution.direct import conv2d_lax, conv2d_patches
from capsjax.convolution.frequency import conv2d_frequency

Padding = Literal["VALID", "SAME"]
Implementation = Literal["auto", "lax", "patches", "frequency"]
IMPLEMENTATIONS = {
    "lax": conv2d_lax,
    "patches": conv2d_patches,
    "frequency": conv2d_frequency,
}

__all__ = ["Implementation", "Padding", "conv2d", "output_size"]


def conv2d(
    images: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c f"],
    *,
    stride: int = 1,
    padding: Padding = "VALID",
    implementation: Implementation = "auto",
) -> Float[Array, "b ho wo f"]:
    """Convolve images with a kernel (cross-correlation, as everywhere in deep learning).

    All implementations are equal to rounding, in value and gradient.

    Args:
        images: a batch of images, channels last, [b, h, w, c].
        kernel: [kh, kw, c, f].
        stride: step between outputs, the same in both directions.
        padding: "VALID" for none, "SAME" for zeros around the image, ceil(h / stride) outputs.
        implementation: "lax" for XLA's operation, "patches" or "frequency"; "auto" takes "lax" on a GPU or
            TPU, and on a CPU the one of the others that multiplies less, when the function is compiled.

    Returns:
        [b, ho, wo, f].

    Raises:
        UserError: where channels differ, the kernel is larger than the image, or the implementation is
            unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> conv2d(jnp.ones([1, 5, 5, 1]), jnp.ones([3, 3, 1, 2]), stride=2).shape
        (1, 2, 2, 2)
    """
    if implementation != "auto" and implementation not in IMPLEMENTATIONS:
        known = ("auto", *IMPLEMENTATIONS)
        raise UserError(
            f"conv2d: got implementation {implementation!r}, expected one of {', '.join(known)}"
            + nearest(str(implementation), known)
        )
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
    if implementation != "auto":
        return IMPLEMENTATIONS[implementation](images, kernel, stride)
    on_cpu = IMPLEMENTATIONS[cheapest(images.shape, kernel.shape, stride)]
    return jax.lax.platform_dependent(
        images,
        kernel,
        cpu=lambda x, k: on_cpu(x, k, stride),
        default=lambda x, k: conv2d_lax(x, k, stride),
    )


def cheapest(
    images: tuple[int, ...], kernel: tuple[int, ...], stride: int
) -> Literal["patches", "frequency"]:
    """Choose for a CPU: frequencies where they take less than half the multiplications of patches.

    The half stands for the passes over memory that transforms add; see docs/decisions/0003.

    Args:
        images: shape [b, h, w, c], padded.
        kernel: shape [kh, kw, c, f].
        stride: step between outputs.
    """
    b, h, w, c = images
    kh, kw, _, f = kernel
    outs = math.prod((size - k) // stride + 1 for size, k in ((h, kh), (w, kw)))
    taps = math.prod(-(-k // stride) for k in (kh, kw))
    pixels = math.prod((size - k) // stride - (-k // stride) for size, k in ((h, kh), (w, kw)))
    rows, channels = 1.5 * pixels, stride * stride * c
    transforms = rows * (pixels * b * channels + taps * channels * f + outs * b * f)
    by_frequency = rows * b * channels * f + transforms
    by_patches = b * outs * kh * kw * c * f
    return "frequency" if by_frequency < 0.5 * by_patches else "patches"


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
