"""What every augmentation of a configuration is, and how several follow each other."""

import abc
import dataclasses
from collections.abc import Sequence

import jax
from jaxtyping import Array, Float

from capsjax.schema.variant import Variant


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation(Variant, abc.ABC):
    """Define a random change of training images, which leaves their classes as they are.

    Args:
        kind: its name in a configuration.
    """

    kind: str

    @abc.abstractmethod
    def __call__(self, key: Array, images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Change each image by itself.

        Args:
            key: random key; equal keys give equal changes.
            images: pixels from 0 to 1, [b, h, w, c].

        Returns:
            Images of the same shape and type, pixels from 0 to 1, [b, h, w, c].
        """

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """Check that the change leaves something of images of this height, width and channels.

        Raises:
            FieldError: If it does not; the field at fault is named.
        """
        del image_shape


def augment(
    augmentations: Sequence[Augmentation], key: Array, images: Float[Array, "b h w c"]
) -> Float[Array, "b h w c"]:
    """Apply augmentations in turn, each with randomness of its own.

    Args:
        augmentations: what is applied, in this order; another one behind them changes nothing before it.
        key: random key.
        images: pixels from 0 to 1, [b, h, w, c].

    Returns:
        The changed images, [b, h, w, c].
    """
    for number, augmentation in enumerate(augmentations):
        # The first takes the key itself, as the shift did when it was the only one.
        own = jax.random.fold_in(key, number) if number else key
        images = augmentation(own, images)
    return images
