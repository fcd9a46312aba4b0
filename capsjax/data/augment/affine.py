"""Rotations, changes of size, shears and shifts between pixels."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from capsjax.checks import check_float
from capsjax.data.augment.base import Augmentation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Affine(Augmentation):
    """Describe an affine map of each image about its centre, with bilinear interpolation and zeros around.

    Each number is drawn for each image by itself, uniformly; the map turns, enlarges, shears and then shifts.

    Args:
        degrees: the largest angle, in either direction, from 0 to 180.
        scale: by how much the size changes at most: 0.1 for factors from 0.9 to 1.1; below 1.
        shear: by how much a row moves to the side at most, for each row from the centre.
        translate: how far the image moves at most, as a share of its height and width, below 1.
        kind: its name in a configuration.

    Raises:
        FieldError: If a number is out of range.
    """

    degrees: float = 15.0
    scale: float = 0.0
    shear: float = 0.0
    translate: float = 0.0
    kind: Literal["affine"] = "affine"

    def __post_init__(self):
        check_float(self, "degrees", low=0.0, high=180.0)
        check_float(self, "scale", low=0.0, high=1.0, open_high=True)
        check_float(self, "shear", low=0.0)
        check_float(self, "translate", low=0.0, high=1.0, open_high=True)

    def __call__(self, key: Array, images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Return `affine` of the images and of random maps, [b, h, w, c]."""
        b, h, w, _ = images.shape
        draw = jax.random.uniform(key, (b, 5), images.dtype, -1.0, 1.0)  # one row for each image
        angle = draw[:, 0] * math.radians(self.degrees)
        size = 1 + self.scale * draw[:, 1]
        turn = rows((jnp.cos(angle), -jnp.sin(angle)), (jnp.sin(angle), jnp.cos(angle)))
        one = jnp.ones(b, images.dtype)
        shear = rows((one, 0 * one), (self.shear * draw[:, 2], one))
        offset = self.translate * jnp.array([[h, w]], images.dtype) * draw[:, 3:]
        return affine(images, shear @ turn * size[:, None, None], offset)


def rows(
    top: tuple[Float[Array, "b"], Float[Array, "b"]],
    bottom: tuple[Float[Array, "b"], Float[Array, "b"]],
) -> Float[Array, "b 2 2"]:
    """Make matrices of two rows, each given by its two entries.

    Args:
        top: the entries of the first row, each [b].
        bottom: those of the second.

    Returns:
        The matrices, [b, 2, 2].
    """
    return jnp.stack([jnp.stack(top, -1), jnp.stack(bottom, -1)], -2)


def from_centre(h: int, w: int, dtype: DTypeLike) -> tuple[Float[Array, "p 2"], Float[Array, "2"]]:
    """Return where the pixels of an image are, counted from its centre.

    Args:
        h: height.
        w: width.
        dtype: type of the numbers.

    Returns:
        Rows down and columns to the right of each of the p = h w pixels, row by row, [p, 2]; and the centre,
        counted from the first pixel, [2].
    """
    centre = jnp.array([(h - 1) / 2, (w - 1) / 2], dtype)
    grid = jnp.stack(jnp.meshgrid(jnp.arange(h), jnp.arange(w), indexing="ij"), -1)
    return grid.reshape(-1, 2).astype(dtype) - centre[None], centre


def affine(
    images: Float[Array, "b h w c"],
    matrix: Float[Array, "b 2 2"],
    offset: Float[Array, "b 2"],
) -> Float[Array, "b h w c"]:
    """Map each image about its centre: what was at x is then at matrix x + offset.

    mapped[b, y] = images[b, matrix_b^-1 (y - offset_b)], x and y counted from the centre

    Args:
        images: pixels, [b, h, w, c].
        matrix: for each image a map of (rows down, columns to the right), which can be inverted, [b, 2, 2].
        offset: pixels down and to the right, [b, 2].

    Returns:
        The mapped images, between pixels by bilinear interpolation, outside 0, [b, h, w, c].
    """
    _, h, w, c = images.shape
    target, centre = from_centre(h, w, images.dtype)  # [h w, 2], [2]
    moved = target[None] - offset[:, None]  # [b, h w, 2]
    # Backwards, from each pixel of the result to its place in the image: forwards would leave holes.
    source = jnp.einsum("bij,bpj->bpi", _inverse(matrix), moved) + centre[None, None]  # [b, h w, 2]

    def sample(image: Float[Array, "h w"], places: Float[Array, "p 2"]) -> Float[Array, "p"]:
        return jax.scipy.ndimage.map_coordinates(image, list(places.T), order=1, cval=0.0)

    # Over images, and over the channels of each.
    channels = jax.vmap(jax.vmap(sample, (2, None), 1))
    return channels(images, source).reshape(-1, h, w, c)


def _inverse(matrix: Float[Array, "b 2 2"]) -> Float[Array, "b 2 2"]:
    (a, b), (c, d) = (matrix[:, 0, 0], matrix[:, 0, 1]), (matrix[:, 1, 0], matrix[:, 1, 1])
    return rows((d, -b), (-c, a)) / (a * d - b * c)[:, None, None]
