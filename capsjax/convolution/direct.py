"""Convolution as it is defined: by XLA's own operation, or as patches times a matrix."""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax.convolution.blocks import in_blocks
from capsjax.convolution.phases import phases
from capsjax.numerics import compute_dtype

BLOCK_BYTES = 32_000_000  # of patches at a time
# Of strips at a time: of these there are fewer, and blocks are slower than one product.
STRIP_BYTES = 100_000_000


def conv2d_lax(
    images: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw g f"],
    stride: int,
    groups: int = 1,
) -> Float[Array, "b ho wo f"]:
    """Convolve without padding by XLA's own operation.

    Where the kernel has more pixels than the output, a stride of s is taken as stride 1 between s^2 phases,
    which become channels.

    Args:
        images: [b, h, w, c].
        kernel: [kh, kw, c / groups, f].
        stride: step between outputs.
        groups: parts of the channels, each seen by the same share of the features.

    Returns:
        [b, ho, wo, f].
    """
    outs, taps = _outs(images, kernel, stride), kernel.shape[:2]
    # XLA exchanges image and kernel where the kernel is larger, and libraries for GPUs have nothing for
    # what becomes of a strided convolution's gradients: they are computed between the zeros that the stride
    # left, for the 2017 network in 976 GFLOP instead of 98 (docs/decisions/0018).
    if groups == 1 and stride > 1 and math.prod(taps) > math.prod(outs):
        taps = -(-taps[0] // stride), -(-taps[1] // stride)
        grid = outs[0] + taps[0] - 1, outs[1] + taps[1] - 1
        x = phases(images, (1, 2), grid, stride)  # [b, y, s, x, s, c]
        images = x.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape[0], *grid, -1)
        k = phases(kernel, (0, 1), taps, stride)  # [y, s, x, s, c, f]
        kernel = k.transpose(0, 2, 1, 3, 4, 5).reshape(*taps, -1, k.shape[-1])
        stride = 1
    return jax.lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def conv2d_patches(
    images: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c f"], stride: int
) -> Float[Array, "b ho wo f"]:
    """Convolve without padding as one matrix product, of patches [b ho wo, kh kw c] with the kernel.

    Where the patches would take more than `BLOCK_BYTES`, examples are worked through in equal blocks.

    Args:
        images: [b, h, w, c].
        kernel: [kh, kw, c, f].
        stride: step between outputs.

    Returns:
        [b, ho, wo, f].
    """
    kh, kw, c, f = kernel.shape
    outs = _outs(images, kernel, stride)
    matrix = kernel.reshape(kh * kw * c, f)  # [kh kw c, f]

    def product(block: Float[Array, "n h w c"]) -> Float[Array, "n ho wo f"]:
        patches = _patches(block, (kh, kw), outs, stride)  # [n ho wo, kh kw c]
        return (patches @ matrix).reshape(block.shape[0], *outs, f)  # [n, ho, wo, f]

    example_bytes = math.prod(outs) * kh * kw * c * images.dtype.itemsize
    return in_blocks(product, images, example_bytes, BLOCK_BYTES)


def conv2d_strips(
    images: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c f"], stride: int
) -> Float[Array, "b ho wo f"]:
    """Convolve without padding as one matrix product for each row of the kernel.

    A window's pixels of one row of the image lie side by side, so they are copied in strips; of patches there
    would be as many copies as the kernel has rows. Where the strips would take more than `STRIP_BYTES`,
    examples are worked through in equal blocks.

    Args:
        images: [b, h, w, c].
        kernel: [kh, kw, c, f].
        stride: step between outputs.

    Returns:
        [b, ho, wo, f].
    """
    kh, kw, c, f = kernel.shape
    rows, columns = _outs(images, kernel, stride)
    matrices = kernel.reshape(kh, kw * c, f)
    dtype = compute_dtype(images.dtype)

    def product(block: Float[Array, "n h w c"]) -> Float[Array, "n ho wo f"]:
        lines = block.reshape(*block.shape[:2], -1)  # [n, h, w c]
        starts = range(0, columns * stride * c, stride * c)
        strips = jnp.stack([lines[:, :, at : at + kw * c] for at in starts], 2)  # [n, h, wo, kw c]
        seen = (strips[:, at : at + (rows - 1) * stride + 1 : stride] for at in range(kh))
        products = [
            jnp.matmul(x, matrix, preferred_element_type=dtype)  # [n, ho, wo, f]
            for x, matrix in zip(seen, matrices, strict=True)
        ]
        return functools.reduce(jnp.add, products).astype(images.dtype)

    example_bytes = images.shape[1] * columns * kw * c * images.dtype.itemsize
    return in_blocks(product, images, example_bytes, STRIP_BYTES)


def _outs(images: Array, kernel: Array, stride: int) -> tuple[int, int]:
    """Return the outputs along each axis."""
    rows, columns = (
        (size - taps) // stride + 1
        for size, taps in zip(images.shape[1:3], kernel.shape[:2], strict=True)
    )
    return rows, columns


def _patches(
    images: Float[Array, "n h w c"], kernel: tuple[int, int], outs: tuple[int, int], stride: int
) -> Float[Array, "m kc"]:
    """Return what the kernel sees at each output, [n ho wo, kh kw c]."""
    (rows, columns), (n, _, _, c) = outs, images.shape
    seen = [
        images[
            :,
            y : y + stride * (rows - 1) + 1 : stride,
            x : x + stride * (columns - 1) + 1 : stride,
        ]
        for y in range(kernel[0])
        for x in range(kernel[1])
    ]
    # Taps before channels, in the order in which the kernel's [kh, kw, c] is flattened.
    return jnp.stack(seen, axis=3).reshape(n * rows * columns, kernel[0] * kernel[1] * c)
