"""Parts of images, enlarged to the size of the whole."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax.checks import check_float
from capsjax.data.augment.affine import affine
from capsjax.data.augment.base import Augmentation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crop(Augmentation):
    """Describe a part cut out at random and enlarged to the whole, with bilinear interpolation.

    Cutting out the original size after padding is `Shift`.

    Args:
        smallest: the least side of the part, as a share of the image's, above 0 and at most 1; shares from
            there to 1 are equally likely, and so are all places inside the image.
        kind: its name in a configuration.

    Raises:
        FieldError: If the share is out of range.
    """

    smallest: float = 0.8
    kind: Literal["crop"] = "crop"

    def __post_init__(self):
        check_float(self, "smallest", low=0.0, high=1.0, open_low=True)

    def __call__(self, key: Array, images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Return a part of each image, [b, h, w, c]."""
        b, h, w, _ = images.shape
        draw = jax.random.uniform(key, (b, 3), images.dtype)
        share = self.smallest + (1 - self.smallest) * draw[:, :1]  # [b, 1]
        # How far the part's centre is from the image's: what is cut off on one side and on the other.
        free = jnp.array([(h - 1) / 2, (w - 1) / 2], images.dtype)[None] * (1 - share)
        centre = free * (2 * draw[:, 1:] - 1)  # [b, 2]
        return affine(
            images, jnp.eye(2, dtype=images.dtype)[None] / share[..., None], -centre / share
        )
