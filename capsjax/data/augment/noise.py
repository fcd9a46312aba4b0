"""Noise."""

import dataclasses
from typing import Literal

import jax
from jaxtyping import Array, Float

from capsjax.checks import check_float
from capsjax.data.augment.base import ValueAugmentation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise(ValueAugmentation):
    """Describe noise: a number of its own is added to every pixel and channel.

    Args:
        std: the standard deviation of the normal distribution that numbers are drawn from, above 0, where
            pixels are from 0 to 1.
        kind: its name in a configuration.

    Raises:
        FieldError: If the standard deviation is out of range.
    """

    std: float = 0.1
    kind: Literal["noise"] = "noise"

    def __post_init__(self):
        check_float(self, "std", low=0.0, open_low=True)

    def unclipped(self, key: Array, images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Return x + n, n normal.

        Args:
            key: random key.
            images: any numbers, [b, h, w, c].

        Returns:
            The changed images, [b, h, w, c].
        """
        return images + self.std * jax.random.normal(key, images.shape, images.dtype)
