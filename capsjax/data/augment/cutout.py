"""Squares that are cut out."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Num

from capsjax.checks import FieldError, check_int
from capsjax.data.augment.base import Augmentation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cutout(Augmentation):
    """Describe a square of zeros about a pixel drawn at random, which may reach beyond the image.

    Args:
        size: the square's side in pixels, at least 1.
        kind: its name in a configuration.

    Raises:
        FieldError: If the side is not an integer of at least 1.

    Reference:
        DeVries and Taylor 2017, section 3.2.
    """

    moves_only: ClassVar[bool] = True

    size: int = 8
    kind: Literal["cutout"] = "cutout"

    def __post_init__(self):
        check_int(self, "size", low=1)

    def __call__(self, key: Array, images: Num[Array, "b h w c"]) -> Num[Array, "b h w c"]:
        """Return the images with a square of zeros each, [b, h, w, c]."""
        b, h, w, _ = images.shape
        centre = jax.random.randint(key, (b, 2), 0, jnp.array([[h, w]]))  # [b, 2]
        first = centre - self.size // 2  # of an even side one pixel more lies above and to the left

        def inside(count: int, start: Int[Array, "b"]) -> Array:
            place = jnp.arange(count)[None] - start[:, None]  # [b, count]
            return (place >= 0) & (place < self.size)

        rows, columns = inside(h, first[:, 0]), inside(w, first[:, 1])
        square = rows[:, :, None, None] & columns[:, None, :, None]  # [b, h, w, 1]
        return jnp.where(square, 0, images)

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """Check that some of the image is left, wherever the square lies.

        Args:
            image_shape: h, w and c of every image.

        Raises:
            FieldError: If the square can cover an image.
        """
        side = max(image_shape[:2])
        if self.size >= side:
            expected = (
                f"less than {side} for images {list(image_shape)}: nothing may be left of them"
            )
            raise FieldError("Cutout", "size", self.size, expected)
