"""Mirror images."""

import dataclasses
from typing import ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Num

from capsjax.checks import check_choice, check_float
from capsjax.data.augment.base import Augmentation

Direction = Literal["horizontal", "vertical"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flip(Augmentation):
    """Describe a mirror image: of left and right, for photographs; digits and letters become others.

    Args:
        direction: "horizontal" changes left and right, "vertical" top and bottom.
        probability: the share of images that are mirrored, from 0 to 1.
        kind: its name in a configuration.

    Raises:
        FieldError: If a value is out of range.
    """

    moves_only: ClassVar[bool] = True

    direction: Direction = "horizontal"
    probability: float = 0.5
    kind: Literal["flip"] = "flip"

    def __post_init__(self):
        check_choice(self, "direction", get_args(Direction))
        check_float(self, "probability", low=0.0, high=1.0)

    def __call__(self, key: Array, images: Num[Array, "b h w c"]) -> Num[Array, "b h w c"]:
        """Return the images, some of them mirrored, [b, h, w, c]."""
        # One number for each image, broadcast over its pixels.
        chosen = jax.random.bernoulli(key, self.probability, (images.shape[0], 1, 1, 1))
        # [b, h, w, c]: left and right are along w.
        axis = 2 if self.direction == "horizontal" else 1
        return jnp.where(chosen, jnp.flip(images, axis), images)
