"""Affine maps in the ranges of affNIST, after which all of an image is still there."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax.data.augment.affine import affine, from_centre, rows
from capsjax.data.augment.base import Augmentation

DEGREES, SHEAR, STRETCH = 20.0, 0.2, 0.2  # the published ranges


@dataclasses.dataclass(frozen=True, kw_only=True)
class AffnistLike(Augmentation):
    """Describe an affine map of each image about its centre, in the ranges that affNIST was made with.

    Height and width are stretched by factors from 0.8 to 1.2, each its own; the image is turned by up to 20
    degrees and sheared by up to 0.2; and it is moved to any place at which all that is not black is still
    inside, all of them equally likely. Between pixels it is interpolated bilinearly, with zeros outside that
    are interpolated too: as `scipy.ndimage.affine_transform` with `order=1` and `mode="grid-constant"`. What
    has no room is put in the middle.

    It is not affNIST, whose images were drawn otherwise: numbers on the two are not to be compared.

    Args:
        kind: its name in a configuration.

    Reference:
        The affNIST data set, https://www.cs.toronto.edu/~tijmen/affNIST/.
    """

    kind: Literal["affnist_like"] = "affnist_like"

    def __call__(self, key: Array, images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Return `affine` of the images and of the maps that `maps` draws, [b, h, w, c]."""
        return affine(images, *self.maps(key, images))

    def maps(
        self, key: Array, images: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b 2 2"], Float[Array, "b 2"]]:
        """Draw a map for each image, as `affine` takes them.

        Args:
            key: random key.
            images: pixels from 0 to 1, 0 being black, [b, h, w, c].

        Returns:
            Matrices [b, 2, 2], and by how much images are moved, [b, 2].
        """
        b, dtype = images.shape[0], images.dtype
        draw = jax.random.uniform(key, (b, 6), dtype)
        angle = (2 * draw[:, 0] - 1) * math.radians(DEGREES)
        shear = (2 * draw[:, 1] - 1) * SHEAR
        size = 1 + (2 * draw[:, 2:4] - 1) * STRETCH  # [b, 2]
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        # Stretched, turned, sheared: [[1, 0], [s, 1]] [[cos, -sin], [sin, cos]] diag(size).
        turned = rows((cos, -sin), (sin, cos))
        matrix = turned.at[:, 1].add(shear[:, None] * turned[:, 0]) * size[:, None]
        low, high = _room(images, matrix)
        return matrix, jnp.where(low <= high, low + (high - low) * draw[:, 4:], (low + high) / 2)


def _room(
    images: Float[Array, "b h w c"], matrix: Float[Array, "b 2 2"]
) -> tuple[Float[Array, "b 2"], Float[Array, "b 2"]]:
    """Return by how much each image may be moved at least and at most so that nothing leaves it, [b, 2]."""
    _, h, w, _ = images.shape
    places, centre = from_centre(h, w, images.dtype)  # [h w, 2], [2]
    there = (images > 0).any(-1).reshape(images.shape[0], -1, 1)  # [b, h w, 1]
    there = there | ~there.any(1, keepdims=True)  # of a black image all of it
    mapped = jnp.einsum("bij,pj->bpi", matrix, places)  # [b, h w, 2]
    # A pixel is seen up to one pixel beside it, which the map makes a parallelogram: as far as that reaches.
    reach = jnp.abs(matrix).sum(-1)  # [b, 2]
    first = jnp.where(there, mapped, jnp.inf).min(1) - reach
    last = jnp.where(there, mapped, -jnp.inf).max(1) + reach
    edge = centre[None] + 1  # from there on nothing is drawn
    return -edge - first, edge - last
