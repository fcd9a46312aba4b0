"""Shifts by whole pixels."""

import dataclasses
from typing import ClassVar, Literal

from jaxtyping import Array, Num

from capsjax.checks import FieldError, check_int
from capsjax.data.augment.base import Augmentation
from capsjax.data.transforms import random_shift


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shift(Augmentation):
    """Describe a shift by whole pixels, uniform over {-m, ..., m}^2, which fills with zeros.

    Padding by m and cutting out the original size at random is the same.

    Args:
        pixels: m, at least 1; in each direction.
        kind: its name in a configuration.

    Raises:
        FieldError: If m is not an integer of at least 1.

    Reference:
        Sabour, Frosst and Hinton 2017, section 5, by up to 2 pixels.
    """

    moves_only: ClassVar[bool] = True

    pixels: int = 2
    kind: Literal["shift"] = "shift"

    def __post_init__(self):
        check_int(self, "pixels", low=1)

    def __call__(self, key: Array, images: Num[Array, "b h w c"]) -> Num[Array, "b h w c"]:
        """Return `random_shift` of the images, [b, h, w, c]."""
        return random_shift(key, images, self.pixels)

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """Check that m is less than height and width.

        Args:
            image_shape: h, w and c of every image.

        Raises:
            FieldError: If a shift can leave nothing of an image.
        """
        height, width, _ = image_shape
        # The tighter of the two, so that the message names the one to go by.
        side, name = min((height, "height"), (width, "width"))
        if self.pixels >= side:
            expected = f"at most {side - 1} for images of {name} {side}: a shift by all of it leaves nothing"
            raise FieldError("Shift", "pixels", self.pixels, expected)
