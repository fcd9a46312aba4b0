"""Images with a mean of 0 and a standard deviation of 1, each by itself."""

import dataclasses
import math
from typing import ClassVar, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax.data.augment.base import Augmentation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standardise(Augmentation):
    """Describe images that are standardised, each by itself: (x - mean) / max(std, 1 / sqrt(n)).

    Mean and standard deviation are over all n pixels and channels of an image together. All images are
    standardised, those that validate, test and are predicted, too. What a decoder draws is the image before.

    The order in the list matters. Brightness and contrast before it, as in the authors' code, have no
    effect: it takes off again what they change, but for values that are cut off at 0 and 1, and for the means
    of unequal channels. After it they have one, in units of a standard deviation. Nothing that moves pixels
    may come after it.

    Args:
        kind: its name in a configuration.

    Reference:
        Hinton, Sabour and Frosst 2018, section 4 (after everything else, in the released code).
    """

    keeps_range: ClassVar[bool] = False
    prepares: ClassVar[bool] = True

    kind: Literal["standardise"] = "standardise"

    def __call__(self, key: Array, images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Return the standardised images, [b, h, w, c]."""
        del key
        return self.at_evaluation(images)

    def at_evaluation(
        self, images: Float[Array, "b h w c"], offset: tuple[int, int] = (0, 0)
    ) -> Float[Array, "b h w c"]:
        """Standardise images that judge.

        Args:
            images: pixels, [b, h, w, c].
            offset: unused, as nothing is cut out.

        Returns:
            The standardised images, [b, h, w, c].
        """
        del offset
        axes = (1, 2, 3)
        centred = images - images.mean(axis=axes, keepdims=True)
        std = jnp.sqrt(jnp.square(centred).mean(axis=axes, keepdims=True))  # [b, 1, 1, 1]
        # An image of one grey has none: the least is that of one pixel that is white among black ones.
        least = 1 / math.sqrt(math.prod(images.shape[1:]))
        return centred / jnp.maximum(std, least)
