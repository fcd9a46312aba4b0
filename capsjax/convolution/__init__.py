"""Convolution in the form that is fast where it runs.

XLA's gradient of a large strided convolution is some thirty times slower on a CPU than the same
products written as a matrix product of patches, and a form with few products is faster still. A GPU or
TPU gets XLA's own operation.
"""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax.checks import UserError, nearest
from capsjax.convolution.blocks import known_shape
from capsjax.convolution.direct import conv2d_lax, conv2d_patches, conv2d_strips
from capsjax.convolution.transform import MOVED, conv2d_transform, costs, value_cost

Padding = Literal["VALID", "SAME"]
Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
Implementation = Literal["auto", "lax", "patches", "strips", "transform"]
IMPLEMENTATIONS = {
    "lax": conv2d_lax,
    "patches": conv2d_patches,
    "strips": conv2d_strips,
    "transform": conv2d_transform,
}

# A GPU's patches, [b h w, kh kw c]: their most columns, and numbers.
NARROW, LARGEST_PATCHES = 128, 2**26

__all__ = ["Implementation", "Padding", "Precision", "conv2d", "output_size"]


def conv2d(
    images: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw g f"],
    *,
    stride: int = 1,
    padding: Padding = "VALID",
    groups: int = 1,
    implementation: Implementation = "auto",
    precision: Precision = "float32",
) -> Float[Array, "b ho wo f"]:
    """Convolve images with a kernel (cross-correlation, as everywhere in deep learning).

    All implementations are equal to rounding, in value and gradient: in float32 "transform" to 1e-5 of the
    largest number, the others to 1e-6.

    Args:
        images: a batch of images, channels last, [b, h, w, c].
        kernel: [kh, kw, c, f]; of several groups, [kh, kw, c / groups, f].
        stride: step between outputs, the same in both directions.
        padding: "VALID" for none, "SAME" for zeros around the image, ceil(h / stride) outputs.
        groups: parts of the channels, each of which the same share of the features sees alone; as many as
            channels is a depthwise convolution. More than one are convolved by "lax".
        implementation: "lax" for XLA's operation, "patches", "strips" or "transform"; "auto" takes "lax" on a
            GPU or TPU, but "patches" on a CUDA GPU where they have no more than 128 numbers, and on a CPU
            "patches" or "transform", which costs less when the function is compiled; and "strips" for a value
            that is not differentiated, where the transform of the kernel would cost more than the batch.
        precision: "float32" multiplies at JAX's default precision. "bfloat16" rounds what is multiplied
            and what comes out to bfloat16, in the backward pass too, and adds up in float32 at least:
            fast where the hardware has it. A CPU rounds the same and gains nothing.

    Returns:
        [b, ho, wo, f], of the images' type; images and kernel of two types are multiplied in the wider.

    Raises:
        UserError: If channels differ, the kernel is larger than the image, or the implementation or
            the precision is unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> conv2d(jnp.ones([1, 5, 5, 1]), jnp.ones([3, 3, 1, 2]), stride=2).shape
        (1, 2, 2, 2)
    """
    _check_known("implementation", implementation, ("auto", *IMPLEMENTATIONS))
    _check_known("precision", precision, PRECISIONS)
    if images.shape[-1] != groups * kernel.shape[2] or kernel.shape[3] % groups:
        of = "" if groups == 1 else f", of {groups} groups [kh, kw, c / {groups}, f]"
        raise UserError(
            f"conv2d: got images {list(images.shape)} and a kernel {list(kernel.shape)}, expected "
            f"equal channels: images [b, h, w, c], kernel [kh, kw, c, f]{of}"
        )
    (top, bottom), (left, right) = zeros_around(
        images.shape[1:3], kernel.shape[:2], stride, padding
    )
    images = jnp.pad(images, ((0, 0), (top, bottom), (left, right), (0, 0)))
    if images.shape[1] < kernel.shape[0] or images.shape[2] < kernel.shape[1]:
        raise UserError(
            f"conv2d: got a {kernel.shape[0]}x{kernel.shape[1]} kernel for a {images.shape[1]}x"
            f"{images.shape[2]} image, expected a kernel no larger: choose a smaller kernel or stride"
        )
    if groups > 1 and implementation == "auto":
        implementation = "lax"
    if groups > 1 and implementation != "lax":
        raise UserError(
            f"conv2d: got {groups} groups with {implementation!r}, expected auto or lax"
        )
    sizes = known_shape(images.shape), kernel.shape, stride
    chosen = cheapest(*sizes) if implementation == "auto" else implementation
    # Back in the images' type at the end, whichever is wider: a network's precision is that of its inputs.
    given, dtype = images.dtype, jnp.promote_types(images.dtype, kernel.dtype)
    images, kernel = images.astype(dtype), kernel.astype(dtype)
    named = _at_precision(precision, IMPLEMENTATIONS[chosen], stride, groups)
    if implementation != "auto":
        return named(images, kernel).astype(given)
    alone = cheapest_value(*sizes)
    if alone != chosen:
        value = _at_precision(precision, IMPLEMENTATIONS[alone], stride)
        named = _with_value_by(value, differentiated=named)
    # The platform is known when the function is lowered, not yet when it is traced.
    on_cuda = conv2d_patches if _is_narrow(*sizes) else conv2d_lax
    y = jax.lax.platform_dependent(
        images,
        kernel,
        cpu=named,
        cuda=_at_precision(precision, on_cuda, stride),
        default=_at_precision(precision, conv2d_lax, stride),
    )
    return y.astype(given)


Convolution = Callable[[Float[Array, "b h w c"], Float[Array, "kh kw c f"]], Array]


def _is_narrow(images: tuple[int, ...], kernel: tuple[int, ...], stride: int) -> bool:
    """Return whether a GPU has patches so narrow that its own convolution does worse than their product."""
    b, h, w, c = images
    kh, kw, _, _ = kernel
    outs = math.prod((size - k) // stride + 1 for size, k in ((h, kh), (w, kw)))
    return kh * kw * c <= NARROW and b * outs * kh * kw * c <= LARGEST_PATCHES


def _at_precision(
    precision: Precision, implementation: Callable[..., Array], stride: int, groups: int = 1
) -> Convolution:
    """Return a convolution of that precision; several groups are for `conv2d_lax`."""
    more = {} if groups == 1 else {"groups": groups}

    def as_given(x: Array, k: Array) -> Array:
        return implementation(x, k, stride, **more)

    def rounded(x: Array, k: Array) -> Array:
        operands = _round(x), _round(k)
        if implementation is conv2d_lax:  # which multiplies bfloat16 where the hardware can
            operands = tuple(operand.astype(jnp.bfloat16) for operand in operands)
        return _round(as_given(*operands).astype(x.dtype))

    return as_given if precision == "float32" else rounded


def _with_value_by(value: Convolution, *, differentiated: Convolution) -> Convolution:
    """Return a convolution that is done in one way, and in another where it is differentiated."""

    @jax.custom_jvp
    def convolve(x: Array, k: Array) -> Array:
        return value(x, k)

    @convolve.defjvp
    def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
        return jax.jvp(differentiated, primals, tangents)

    return convolve


def _round(x: Array) -> Array:
    """Round to bfloat16 and keep the type: a conversion there and back may be compiled away."""
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)


def _check_known(option: str, given: object, known: tuple[str, ...]) -> None:
    if given not in known:
        expected = f"expected one of {', '.join(known)}{nearest(str(given), known)}"
        raise UserError(f"conv2d: got {option} {given!r}, {expected}")


def cheapest(
    images: tuple[int, ...], kernel: tuple[int, ...], stride: int
) -> Literal["patches", "transform"]:
    """Choose the implementation that costs a CPU less.

    Args:
        images: shape [b, h, w, c], padded.
        kernel: shape [kh, kw, c, f].
        stride: step between outputs.

    Returns:
        Its name.
    """
    found = forms(images, kernel, stride)
    return "transform" if found["transform"] < found["patches"] else "patches"


def cheapest_value(
    images: tuple[int, ...], kernel: tuple[int, ...], stride: int
) -> Literal["patches", "strips", "transform"]:
    """Choose the implementation that costs a CPU less where nothing is differentiated.

    Args:
        images: shape [b, h, w, c], padded.
        kernel: shape [kh, kw, c, f].
        stride: step between outputs.

    Returns:
        Its name: that of `cheapest`, or "strips" in the place of "transform".
    """
    chosen = cheapest(images, kernel, stride)
    if chosen != "transform":
        return chosen
    b, h, w, c = images
    kh, kw, _, f = kernel
    rows, columns = ((size - k) // stride + 1 for size, k in ((h, kh), (w, kw)))
    strips = b * columns * kw * c * (rows * kh * f + h * MOVED)
    return "strips" if strips < value_cost(images, kernel, stride) else chosen


def forms(
    images: tuple[int, ...], kernel: tuple[int, ...], stride: int
) -> dict[Literal["patches", "transform"], int]:
    """Return what each implementation costs a CPU, in multiplications, passes over memory included.

    Args:
        images: shape [b, h, w, c], padded.
        kernel: shape [kh, kw, c, f].
        stride: step between outputs.

    Returns:
        The cost by the implementation's name.
    """
    b, h, w, c = images
    kh, kw, _, f = kernel
    outs = math.prod((size - k) // stride + 1 for size, k in ((h, kh), (w, kw)))
    transform = min(costs(images, kernel, stride).values())
    return {"patches": b * outs * kh * kw * c * (f + MOVED), "transform": transform}


def output_size(size: int, kernel: int, stride: int, padding: Padding) -> int:
    """Count the outputs along an axis: ceil(size / stride) for SAME, else (size - kernel) // stride + 1.

    Args:
        size: pixels of the image along the axis.
        kernel: pixels of the kernel along it.
        stride: step between outputs.
        padding: "VALID" for none, "SAME" for zeros around the image.

    Returns:
        The number of outputs; below 1 if the kernel is larger than an unpadded image.
    """
    return -(-size // stride) if padding == "SAME" else (size - kernel) // stride + 1


def zeros_around(
    size: tuple[int, ...], kernel: tuple[int, ...], stride: int, padding: Padding
) -> list[tuple[int, int]]:
    """Count the zeros that padding puts around.

    Args:
        size: rows and columns of what is convolved.
        kernel: rows and columns of the kernel.
        stride: step between outputs.
        padding: "VALID" for none, "SAME" for as many outputs as ceil(size / stride).

    Returns:
        Zeros before and after, along each axis.
    """
    if padding == "VALID":
        return [(0, 0), (0, 0)]
    pads = []
    for pixels, width in zip(size, kernel, strict=True):
        # TensorFlow's convention, which papers and released weights follow: the odd zero comes last.
        missing = max((-(-pixels // stride) - 1) * stride + width - pixels, 0)
        pads.append((missing // 2, missing - missing // 2))
    return pads
