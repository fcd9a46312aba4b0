"""Rotations alone."""

import dataclasses
from typing import Literal

from jaxtyping import Array, Float

from capsjax.checks import check_float
from capsjax.data.augment.affine import Affine
from capsjax.data.augment.base import Augmentation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rotate(Augmentation):
    """Describe a rotation of each image about its centre, as `Affine` makes it that does nothing else.

    Args:
        degrees: the largest angle, in either direction, above 0 and up to 180; drawn uniformly.
        kind: its name in a configuration.

    Raises:
        FieldError: If the angle is out of range.
    """

    degrees: float = 15.0
    kind: Literal["rotate"] = "rotate"

    def __post_init__(self):
        check_float(self, "degrees", low=0.0, high=180.0, open_low=True)

    def __call__(self, key: Array, images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Return the turned images, between pixels by bilinear interpolation, outside 0, [b, h, w, c]."""
        return Affine(degrees=self.degrees)(key, images)
