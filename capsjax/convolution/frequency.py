"""Convolution in the frequency domain, as three linear maps and one batch of matrix products.

A convolution is bilinear, so it can be written y = C^T ((A x) * (B k)), where A and B act on pixels and
the product is, in each row, a matrix product over channels. Written directly the rows are pairs of an
output and a kernel's pixel. In the frequency domain they are far fewer: for the 2017 network's 9x9
convolution of stride 2, 148 instead of 729. Reverse mode needs nothing of its own: the adjoint of each
of the four products is a matrix product again.
"""

import functools
import itertools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from capsjax.numerics import compute_dtype


def conv2d_frequency(
    images: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c f"], stride: int
) -> Float[Array, "b ho wo f"]:
    """Convolve without padding, in the frequency domain; computes in float32 at least.

    A stride of s is taken as s^2 convolutions of stride 1, between the images' and the kernel's pixels
    of equal phase, which become s^2 times the channels.

    Args:
        images: [b, h, w, c].
        kernel: [kh, kw, c, f].
        stride: step between outputs.

    Returns:
        [b, ho, wo, f].
    """
    b, h, w, c = images.shape
    kh, kw, _, f = kernel.shape
    outs = (h - kh) // stride + 1, (w - kw) // stride + 1
    taps = -(-kh // stride), -(-kw // stride)
    dtype = compute_dtype(images.dtype)
    of_image, of_kernel, of_output = (
        jnp.asarray(matrix, dtype) for matrix in bilinear_form(outs, taps)
    )
    grid = outs[0] + taps[0] - 1, outs[1] + taps[1] - 1
    # The images' batch and the kernel's features stay apart from channels and phases: x [pixel, b s s c].
    x = _phases(images.astype(dtype), (1, 2), grid, stride)  # [b, y, s, x, s, c]
    x = x.transpose(1, 3, 0, 2, 4, 5).reshape(grid[0] * grid[1], -1)  # [pixel, b s s c]
    k = _phases(kernel.astype(dtype), (0, 1), taps, stride)  # [y, s, x, s, c, f]
    k = k.transpose(0, 2, 1, 3, 4, 5).reshape(taps[0] * taps[1], -1)  # [tap, s s c f]
    channels = stride * stride * c
    x_rows = (of_image @ x).reshape(-1, b, channels)  # [r, b, s s c]
    k_rows = (of_kernel @ k).reshape(-1, channels, f)  # [r, s s c, f]
    y_rows = jnp.einsum("rbc,rcf->rbf", x_rows, k_rows)  # [r, b, f]
    y = of_output.T @ y_rows.reshape(-1, b * f)  # [ho wo, b f]
    return y.reshape(*outs, b, f).transpose(2, 0, 1, 3).astype(images.dtype)


def _phases(
    x: Array, axes: tuple[int, int], size: tuple[int, int], stride: int
) -> Float[Array, "..."]:
    """Crop or pad two axes to `size` times the stride, and split each into [size, stride]."""
    widths, shape = [(0, 0)] * x.ndim, []
    for axis, count in zip(axes, size, strict=True):
        wanted = count * stride
        x = x[(slice(None),) * axis + (slice(0, wanted),)]
        widths[axis] = (0, wanted - x.shape[axis])
    x = jnp.pad(x, widths)
    for axis, pixels in enumerate(x.shape):
        shape += [pixels // stride, stride] if axis in axes else [pixels]
    return x.reshape(shape)


@functools.cache
def bilinear_form(
    outs: tuple[int, int], taps: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the matrices of a two-dimensional correlation by discrete Fourier transforms.

    y = C^T ((A x) * (B k)) for an image x of outs + taps - 1 pixels along each axis. Of two conjugate
    frequencies one is kept. A product of complex numbers takes three real ones: with X = a + ib and
    K = c + id, X conj(K) = (m1 - m2) + i (m1 - m3) for m1 = (a + b) c, m2 = b (c - d), m3 = a (c + d).

    Args:
        outs: outputs along each axis.
        taps: the kernel's pixels along each axis.

    Returns:
        A [rows, pixels], B [rows, taps] and C [rows, outs], float64, both axes of an image in one.
    """
    size = outs[0] + taps[0] - 1, outs[1] + taps[1] - 1
    waves = [np.exp(-2j * np.pi * np.outer(range(n), range(n)) / n) for n in size]
    of_image, of_kernel, of_output = [], [], []
    for p, q in itertools.product(range(size[0]), range(size[1])):
        mirror = (-p % size[0], -q % size[1])
        if mirror < (p, q):
            continue  # its conjugate has been taken
        wave = np.outer(waves[0][p], waves[1][q])
        a, b = wave.real, wave.imag
        c, d = (part[: taps[0], : taps[1]] for part in (a, b))
        back = np.conj(wave)[: outs[0], : outs[1]] / (size[0] * size[1])
        if mirror == (p, q):  # a real frequency, which is its own conjugate: one product
            of_image += [a]
            of_kernel += [c]
            of_output += [back.real]
        else:
            # Twice the real part, for the conjugate frequency that was left out.
            real, imaginary = 2 * back.real, -2 * back.imag
            of_image += [a + b, b, a]
            of_kernel += [c, c - d, c + d]
            of_output += [real + imaginary, -real, -imaginary]
    rows = (np.stack(part) for part in (of_image, of_kernel, of_output))
    # Both axes of an image in one, row by row, as `conv2d_frequency` flattens them.
    first, second, third = (part.reshape(len(part), -1) for part in rows)
    return first, second, third
