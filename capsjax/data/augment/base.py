"""What every augmentation of a configuration is, and how several follow each other."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
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
        keeps_range: whether pixels from 0 to 1 stay there; what a decoder draws is the image as it was
            before one that does not keep it.
        prepares: whether images that judge are prepared by it too, and so is not random alone.
    """

    moves_only: ClassVar[bool] = False
    keeps_range: ClassVar[bool] = True
    prepares: ClassVar[bool] = False

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

    def unclipped(self, key: Array, images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Change standardised images, which are kept from 0 to 1 by nothing.

        Args:
            key: random key.
            images: any numbers, [b, h, w, c].

        Returns:
            The changed images, [b, h, w, c].
        """
        return self(key, images)

    def at_evaluation(
        self, images: Float[Array, "b h w c"], offset: tuple[int, int] = (0, 0)
    ) -> Float[Array, "b h w c"]:
        """Prepare images that judge, without chance; by default they stay as they are.

        Args:
            images: pixels, [b, h, w, c].
            offset: pixels down and to the right of the middle, where parts are cut out.

        Returns:
            The images, [b, h', w', c].
        """
        del offset
        return images

    def shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the height, width and channels of what becomes of images of this shape."""
        return image_shape

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """Check that the change leaves something of images of this height, width and channels.

        Args:
            image_shape: h, w and c of every image.

        Raises:
            FieldError: If it does not; the field at fault is named.
        """
        del image_shape


class ValueAugmentation(Augmentation):
    """Define a change of values where they are, which may come after `standardise`: it writes `unclipped`."""

    def __call__(self, key: Array, images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Return what `unclipped` makes of the images, kept from 0 to 1, [b, h, w, c]."""
        return jnp.clip(self.unclipped(key, images), 0, 1)

    @abc.abstractmethod
    def unclipped(self, key: Array, images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Change images, standardised ones too, which are kept from 0 to 1 by nothing.

        Args:
            key: random key.
            images: any numbers, [b, h, w, c].

        Returns:
            The changed images, [b, h, w, c].
        """


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
        The changed images, pixels from 0 to 1 unless they are standardised, float32 [b, h, w, c].
    """
    return augmented(augmentations, key, images, scale).images


class Prepared(NamedTuple):
    """Hold images as a network takes them, and what a decoder draws.

    Attributes:
        images: pixels, [b, h, w, c].
        targets: the images before they were standardised, from 0 to 1; None where they were not.
    """

    images: Float[Array, "b h w c"]
    targets: Float[Array, "b h w c"] | None


def augmented(
    augmentations: Sequence[Augmentation],
    key: Array,
    images: Num[Array, "b h w c"],
    scale: float,
) -> Prepared:
    """Apply augmentations as `augment` does, and keep what a decoder draws.

    Args:
        augmentations: what is applied, in this order.
        key: random key.
        images: raw pixels, [b, h, w, c].
        scale: factor that brings them to 0 to 1.

    Returns:
        The changed images, float32, and those before they were standardised.
    """
    scaled, targets = False, None
    for number, augmentation in enumerate(augmentations):
        # Bytes are moved before they become floats: a quarter of the memory, and the order of operations,
        # and so the bits of a step, of when shifts were the only augmentation.
        if not (scaled or augmentation.moves_only):
            images, scaled = to_float(images, scale), True
        # The first takes the key itself, as the shift did.
        own = jax.random.fold_in(key, number) if number else key
        if not augmentation.keeps_range:
            targets = images
        images = (augmentation if targets is None else augmentation.unclipped)(own, images)
    return Prepared(images if scaled else to_float(images, scale), targets)


def judged(
    augmentations: Sequence[Augmentation],
    images: Float[Array, "b h w c"],
    offset: tuple[int, int] = (0, 0),
) -> Prepared:
    """Prepare images that judge, as those that are learned from were, but for what is random.

    Args:
        augmentations: those of training, of which what `prepares` is applied.
        images: pixels from 0 to 1, [b, h, w, c].
        offset: pixels down and to the right of the middle, where parts are cut out.

    Returns:
        The images, and those before they were standardised.
    """
    targets = None
    for augmentation in augmentations:
        if not augmentation.keeps_range:
            targets = images
        images = augmentation.at_evaluation(images, offset)
    return Prepared(images, targets)


def prepared_shape(
    augmentations: Sequence[Augmentation], image_shape: tuple[int, int, int]
) -> tuple[int, int, int]:
    """Return the height, width and channels of images as a network takes them.

    Args:
        augmentations: what is applied to them, in this order.
        image_shape: those of the data's images.
    """
    for augmentation in augmentations:
        image_shape = augmentation.shape(image_shape)
    return image_shape
