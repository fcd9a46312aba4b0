"""Brightness and contrast."""

import dataclasses
from typing import Literal

import jax
from jaxtyping import Array, Float

from capsjax.checks import check_float
from capsjax.data.augment.base import ValueAugmentation

# Ports of the 2018 paper add up to 2 standard deviations; 63, of bytes, is meant as 63 / 255.
MOST = 4.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Brightness(ValueAugmentation):
    """Describe a change of brightness: one number for each image is added to all its pixels.

    Args:
        delta: the largest change, in either direction, above 0 and at most 4; all are equally likely. White
            is 1; after `standardise` it counts standard deviations.
        kind: its name in a configuration.

    Raises:
        FieldError: If the change is out of range.

    Reference:
        Hinton, Sabour and Frosst 2018, section 4, with random contrast.
    """

    delta: float = 0.1
    kind: Literal["brightness"] = "brightness"

    def __post_init__(self):
        check_float(self, "delta", low=0.0, high=MOST, open_low=True)

    def unclipped(self, key: Array, images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Return x + d, d in [-delta, delta].

        Args:
            key: random key.
            images: any numbers, [b, h, w, c].

        Returns:
            The changed images, [b, h, w, c].
        """
        shape = (images.shape[0], 1, 1, 1)
        d = jax.random.uniform(key, shape, images.dtype, -self.delta, self.delta)  # [b, 1, 1, 1]
        return images + d


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contrast(ValueAugmentation):
    """Describe a change of contrast: differences from each channel's mean are multiplied.

    Args:
        delta: by how much the factor of an image is above or below 1 at most, above 0 and at most 1; all are
            equally likely.
        kind: its name in a configuration.

    Raises:
        FieldError: If the change is out of range.

    Reference:
        Hinton, Sabour and Frosst 2018, section 4, with random brightness.
    """

    delta: float = 0.1
    kind: Literal["contrast"] = "contrast"

    def __post_init__(self):
        check_float(self, "delta", low=0.0, high=1.0, open_low=True)

    def unclipped(self, key: Array, images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Return mean + f (x - mean), f in [1 - delta, 1 + delta].

        Args:
            key: random key.
            images: any numbers, [b, h, w, c].

        Returns:
            The changed images, [b, h, w, c].
        """
        shape = (images.shape[0], 1, 1, 1)
        f = jax.random.uniform(key, shape, images.dtype, 1 - self.delta, 1 + self.delta)
        mean = images.mean(axis=(1, 2), keepdims=True)  # [b, 1, 1, c]
        return mean + f * (images - mean)
