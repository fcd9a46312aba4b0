"""Parts of a fixed size, cut out of larger images."""

import dataclasses
from typing import ClassVar, Literal

import jax
from jaxtyping import Array, Float, Int, Num

from capsjax.checks import FieldError, check_int
from capsjax.data.augment.base import Augmentation


@dataclasses.dataclass(frozen=True, kw_only=True)
class CropTo(Augmentation):
    """Describe a part of `size` pixels in each direction: at random to learn from, the middle to judge.

    The network is for images of that size, while the run takes those of the data. All places inside the
    image are equally likely.

    Args:
        size: height and width of the part, at least 1.
        kind: its name in a configuration.

    Raises:
        FieldError: If the size is not an integer of at least 1.

    Reference:
        Sabour, Frosst and Hinton 2017, section 7 (24 of CIFAR-10's 32 pixels); Hinton, Sabour and Frosst
        2018, section 4 (32 of smallNORB's 48).
    """

    moves_only: ClassVar[bool] = True
    prepares: ClassVar[bool] = True

    size: int = 32
    kind: Literal["crop_to"] = "crop_to"

    def __post_init__(self):
        check_int(self, "size", low=1)

    def __call__(self, key: Array, images: Num[Array, "b h w c"]) -> Num[Array, "b size size c"]:
        """Return a part of each image from a place drawn at random, [b, size, size, c]."""
        b, h, w, _ = images.shape
        most = jax.numpy.array([[h - self.size + 1, w - self.size + 1]])
        places = jax.random.randint(key, (b, 2), 0, most)  # [b, 2]

        def cut(image: Num[Array, "h w c"], place: Int[Array, "2"]) -> Num[Array, "size size c"]:
            start = (place[0], place[1], 0)
            return jax.lax.dynamic_slice(image, start, (self.size, self.size, image.shape[-1]))

        return jax.vmap(cut)(images, places)

    def at_evaluation(
        self, images: Float[Array, "b h w c"], offset: tuple[int, int] = (0, 0)
    ) -> Float[Array, "b size size c"]:
        """Cut out the middle of each image, or what lies beside it.

        Args:
            images: pixels, [b, h, w, c].
            offset: pixels down and to the right of the middle.

        Returns:
            The parts, [b, size, size, c].
        """
        top, left = (
            (side - self.size) // 2 + by for side, by in zip(images.shape[1:3], offset, strict=True)
        )
        return images[:, top : top + self.size, left : left + self.size]

    def room(self, image_shape: tuple[int, int, int]) -> int:
        """Return by how many pixels the middle may be moved in each direction."""
        return min((side - self.size) // 2 for side in image_shape[:2])

    def shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the size of the part, and the channels."""
        return self.size, self.size, image_shape[2]

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """Check that the part is inside the image.

        Args:
            image_shape: h, w and c of every image.

        Raises:
            FieldError: If it is larger.
        """
        side = min(image_shape[:2])
        if self.size > side:
            expected = f"at most {side} for images {list(image_shape)}"
            raise FieldError("CropTo", "size", self.size, expected)
