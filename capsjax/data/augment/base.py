"""What every augmentation of a configuration is, and how several follow each other."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
from jaxtyping import Array, Float, Num

from capsjax.data.transforms import to_float
from capsjax.schema.variant import Variant


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation(Variant, abc.ABC):
    """Define a random change of training images, which leaves their classes as they are.

    Args:
        kind: its name in a configuration.

    Attributes:
        moves_only: whether it only moves pixels or sets them to 0, so that it takes those of any type.
    """

    moves_only: ClassVar[bool] = False

    kind: str

    @abc.abstractmethod
    def __call__(self, key: Array, images: Num[Array, "b h w c"]) -> Num[Array, "b h w c"]:
        """Change each image by itself.

        Args:
            key: random key; equal keys give equal changes.
            images: pixels from 0 to 1, [b, h, w, c]; raw ones of any type if it `moves_only`.

        Returns:
            Images of the same shape, type and range, [b, h, w, c].
        """

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """Check that the change leaves something of images of this height, width and channels.

        Args:
            image_shape: h, w and c of every image.

        Raises:
            FieldError: If it does not; the field at fault is named.
        """
        del image_shape


def augment(
    augmentations: Sequence[Augmentation],
    key: Array,
    images: Num[Array, "b h w c"],
    scale: float,
) -> Float[Array, "b h w c"]:
    """Apply augmentations in turn, each with randomness of its own, to raw pixels.

    Args:
        augmentations: what is applied, in this order; another one behind them changes nothing before it.
        key: random key.
        images: raw pixels, [b, h, w, c].
        scale: factor that brings them to 0 to 1.

    Returns:
        The changed images, pixels from 0 to 1, float32 [b, h, w, c].
    """
    scaled = False
    for number, augmentation in enumerate(augmentations):
        # Bytes are moved before they become floats: a quarter of the memory, and the order of operations,
        # and so the bits of a step, of when shifts were the only augmentation.
        if not (scaled or augmentation.moves_only):
            images, scaled = to_float(images, scale), True
        # The first takes the key itself, as the shift did.
        own = jax.random.fold_in(key, number) if number else key
        images = augmentation(own, images)
    return images if scaled else to_float(images, scale)
