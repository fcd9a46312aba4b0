"""Convolution in few products: three linear maps and one batch of matrix products.

A convolution is bilinear, so it can be written y = C^T ((A x) * (B k)), where A and B act on pixels and
the product is, in each row, a matrix product over channels. Written directly the rows are pairs of an
output and a kernel's pixel. Evaluated at well-chosen points they are far fewer: for the 2017 network's 9x9
convolution of stride 2, 118 instead of 729. Reverse mode needs nothing of its own: the adjoint of each
of the four products is a matrix product again.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax.convolution.blocks import in_blocks, known_shape
from capsjax.convolution.phases import phases
from capsjax.convolution.points import bilinear_form, num_rows
from capsjax.numerics import compute_dtype

BLOCK_BYTES = 250_000_000  # of the rows of images at a time
KEPT_BYTES = (
    150_000_000  # of all rows, up to which those of the kernel are kept for the backward pass
)
# What making a number costs beside the multiplications that it takes, in multiplications: fitted once to the
# times of sixteen convolutions on two cores (benchmarks/convolution.py).
MOVED = 64
CACHED_BYTES = 32_000_000  # of rows of the kernel, beyond which each of their numbers costs more
LARGEST_TILE = (
    8  # outputs along an axis; with more, maps cost more than the products that they save
)


def conv2d_transform(
    images: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c f"], stride: int
) -> Float[Array, "b ho wo f"]:
    """Convolve without padding, in few products; computes in float32 at least.

    A stride of s is taken as s^2 convolutions of stride 1, between the images' and the kernel's pixels
    of equal phase, which become s^2 times the channels. Outputs are worked through in tiles, which see
    overlapping parts of the image.

    Args:
        images: [b, h, w, c].
        kernel: [kh, kw, c, f].
        stride: step between outputs.

    Returns:
        [b, ho, wo, f].
    """
    _, h, w, c = images.shape
    kh, kw, _, f = kernel.shape
    outs = (h - kh) // stride + 1, (w - kw) // stride + 1
    taps = -(-kh // stride), -(-kw // stride)
    tile, tiles = cheapest_tile(known_shape(images.shape), kernel.shape, stride)
    dtype, channels = compute_dtype(images.dtype), stride * stride * c
    itemsize = jnp.dtype(dtype).itemsize
    of_image, of_kernel, of_output = (
        jnp.asarray(matrix, dtype) for matrix in bilinear_form(tile, taps)
    )
    k = phases(kernel.astype(dtype), (0, 1), taps, stride)  # [y, s, x, s, c, f]
    k = k.transpose(0, 2, 1, 3, 4, 5).reshape(taps[0] * taps[1], -1)  # [tap, s s c f]

    def multiply(x_rows: Float[Array, "r n c"], k: Float[Array, "tap cf"]) -> Array:
        k_rows = (of_kernel @ k).reshape(-1, channels, f)  # [r, s s c, f]
        return jnp.einsum("rnc,rcf->rnf", x_rows, k_rows)  # [r, n, f]

    # Rows of a kernel are several times as large as the kernel, and cheap: large ones are made again for the
    # backward pass instead of kept until then.
    row_bytes = channels * (known_shape(images.shape)[0] * math.prod(tiles) + f) * itemsize
    if of_kernel.shape[0] * row_bytes > KEPT_BYTES:
        multiply = jax.checkpoint(multiply)
    grid = tuple(n * size + tap - 1 for n, size, tap in zip(tiles, tile, taps, strict=True))

    def product(block: Float[Array, "n h w c"]) -> Float[Array, "n ho wo f"]:
        # Examples stay apart from tiles, channels and phases, so that devices can share them.
        x = phases(block.astype(dtype), (1, 2), grid, stride)  # [n, y, s, x, s, c]
        x = x.transpose(1, 3, 0, 2, 4, 5).reshape(
            *grid, block.shape[0], channels
        )  # [y, x, n, s s c]
        x = _tiles(
            _tiles(x, 0, tile[0], taps[0] - 1), 2, tile[1], taps[1] - 1
        )  # [p, t, q, u, n, s s c]
        x = x.transpose(0, 2, 4, 1, 3, 5)  # [p, q, n, t, u, s s c]
        x = x.reshape(x.shape[0] * x.shape[1], -1)  # [pixel, n t u s s c]
        x_rows = (of_image @ x).reshape(of_image.shape[0], -1, channels)  # [r, n t u, s s c]
        y_rows = multiply(x_rows, k)  # [r, n t u, f]
        y = of_output.T @ y_rows.reshape(y_rows.shape[0], -1)  # [p q, n t u f]
        y = y.reshape(*tile, block.shape[0], *tiles, f).transpose(2, 3, 0, 4, 1, 5)
        y = y.reshape(block.shape[0], tiles[0] * tile[0], tiles[1] * tile[1], f)
        return y[:, : outs[0], : outs[1]]  # the last tiles may reach beyond

    example = of_image.shape[0] * math.prod(tiles) * channels * itemsize
    return in_blocks(product, images, example, BLOCK_BYTES).astype(images.dtype)


def cheapest_tile(
    images: tuple[int, ...], kernel: tuple[int, ...], stride: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the cheapest tile, in outputs along each axis, and the number of tiles.

    Args:
        images: shape [b, h, w, c].
        kernel: shape [kh, kw, c, f].
        stride: step between outputs.

    Returns:
        Outputs of a tile, and the number of tiles, along each axis.
    """
    found = costs(images, kernel, stride)
    tile = min(found, key=lambda size: found[size])
    outs = [(n - k) // stride + 1 for n, k in zip(images[1:3], kernel[:2], strict=True)]
    rows, columns = (-(-out // size) for out, size in zip(outs, tile, strict=True))
    return tile, (rows, columns)


def costs(
    images: tuple[int, ...], kernel: tuple[int, ...], stride: int
) -> dict[tuple[int, int], int]:
    """Return what each size of tiles costs a CPU, in multiplications: see `MOVED`.

    Args:
        images: shape [b, h, w, c].
        kernel: shape [kh, kw, c, f].
        stride: step between outputs.

    Returns:
        The cost of each tile, by its outputs along each axis.
    """
    b, f, channels = images[0], kernel[3], stride * stride * kernel[2]
    # With stride s the image falls into s^2 phases, of ceil(k / s) taps and outputs + taps - 1 pixels.
    taps = -(-kernel[0] // stride), -(-kernel[1] // stride)
    outs = [(n - k) // stride + 1 for n, k in zip(images[1:3], kernel[:2], strict=True)]
    # Equal tiles: as many as the largest would need, and no larger than they have to be.
    sizes = [
        {-(-out // -(-out // most)) for most in range(1, min(out, LARGEST_TILE) + 1)}
        for out in outs
    ]
    found = {}
    for tile in ((p, q) for p in sorted(sizes[0]) for q in sorted(sizes[1])):
        examples = b * math.prod(-(-out // size) for out, size in zip(outs, tile, strict=True))
        pixels = math.prod(size + tap - 1 for size, tap in zip(tile, taps, strict=True))
        # Numbers in a row of the image, of the kernel and of the output, and what makes each of them.
        row = examples * channels * (pixels + MOVED)
        row += channels * f * (math.prod(taps) + MOVED)
        row += examples * f * (math.prod(tile) + MOVED)
        found[tile] = num_rows(tile, taps) * (row + examples * channels * f)
    return found


def value_cost(images: tuple[int, ...], kernel: tuple[int, ...], stride: int) -> int:
    """Return what the transform costs a CPU where nothing is differentiated, in multiplications.

    Args:
        images: shape [b, h, w, c], padded.
        kernel: shape [kh, kw, c, f].
        stride: step between outputs.

    Returns:
        The cost of the cheapest tile, and twice `MOVED` more for each number of a kernel's rows, if they are
        many: the batch does not pay for them as it does in training, where a gradient follows.
    """
    found = costs(images, kernel, stride)
    tile = min(found, key=lambda size: found[size])
    taps = -(-kernel[0] // stride), -(-kernel[1] // stride)
    numbers = num_rows(tile, taps) * stride * stride * kernel[2] * kernel[3]
    return found[tile] + (2 * MOVED * numbers if 4 * numbers > CACHED_BYTES else 0)


def _tiles(x: Array, axis: int, size: int, halo: int) -> Float[Array, "..."]:
    """Cut an axis into n parts that overlap: [..., n size + halo, ...] to [..., size + halo, n, ...]."""
    n, after = (x.shape[axis] - halo) // size, -(-halo // size)
    if n == 1:
        return jnp.expand_dims(x, axis + 1)
    widths = [
        (0, (n + after) * size - pixels) if at == axis else (0, 0)
        for at, pixels in enumerate(x.shape)
    ]
    blocks = jnp.pad(x, widths).reshape(*x.shape[:axis], n + after, size, *x.shape[axis + 1 :])
    # A tile is its own block and as many pixels of those after it as the halo has.
    seen = [jax.lax.slice_in_dim(blocks, at, at + n, axis=axis) for at in range(after + 1)]
    parts = jnp.concatenate(seen, axis + 1)  # [..., n, size + after size, ...]
    return jnp.swapaxes(jax.lax.slice_in_dim(parts, 0, size + halo, axis=axis + 1), axis, axis + 1)
