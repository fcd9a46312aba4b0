"""What draws an image from class capsules of which all but one are masked."""

import abc
import dataclasses
import itertools
import math
from typing import ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from capsjax.checks import FieldError, check_bool, check_choice
from capsjax.layers.base import Around, CapsuleShape, Initialisation
from capsjax.layers.initialisers import bias_initialiser, kernel_initialiser
from capsjax.schema.variant import Variant

Output = Literal["sigmoid", "linear"]
OUTPUTS: tuple[Output, ...] = get_args(Output)


class ImageDecoder(Variant, abc.ABC):
    """Define what draws the image: a frozen dataclass with a `kind`; "dense" where none is named."""

    assumed_kind: ClassVar[str | None] = "dense"

    @property
    def bounded(self) -> bool:
        """Whether what it draws is from 0 to 1, unless a field `output` says otherwise."""
        return getattr(self, "output", "sigmoid") == "sigmoid"

    @abc.abstractmethod
    def build(self, given: CapsuleShape, around: Around, *, rngs: nnx.Rngs) -> nnx.Module:
        """Return a Flax module.

        It is called with the poses of the class capsules, [b, j, e], and a mask, [b, j], that is 1 for the
        capsule to draw and 0 for the others, and returns images with pixels from 0 to 1.

        Args:
            given: the class capsules.
            around: what the network says.
            rngs: random numbers for the parameters.

        Returns:
            The module.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig(ImageDecoder):
    """Describe the network that draws the image from the masked class capsules.

    Args:
        hidden: sizes of the hidden layers, ReLU after each; a sigmoid follows the last, whose size is
            the image's.
        output: "sigmoid" for pixels from 0 to 1, or "linear" for any numbers, as standardised data have.
        class_independent: whether the pose alone is drawn, so that each of its components means the same for
            all classes; otherwise the decoder knows by the place of the pose which class it draws.
        kind: its name in a configuration.

    Reference:
        Rajasegaran et al. 2019, section 3.4, for the class-independent decoder.
    """

    hidden: tuple[int, ...] = (512, 1024)
    output: Output = "sigmoid"
    class_independent: bool = False
    kind: Literal["dense"] = "dense"

    def __post_init__(self):
        check_sizes(self, "hidden")
        check_choice(self, "output", OUTPUTS)
        check_bool(self, "class_independent")

    def build(self, given: CapsuleShape, around: Around, *, rngs: nnx.Rngs) -> "Decoder":
        """Make the decoder.

        Args:
            given: the class capsules.
            around: what the network says, the image's shape among it.
            rngs: random numbers for the parameters.

        Returns:
            A module from poses [b, j, e] and a mask [b, j] to images [b, h, w, c].
        """
        return Decoder(
            given.capsules,
            given.dim,
            around.image_shape,
            self,
            initialisation=around.initialisation,
            rngs=rngs,
        )


def check_sizes(config: ImageDecoder, field: str) -> None:
    """Check that a field holds at least one size.

    Args:
        config: the decoder.
        field: the name of its field.

    Raises:
        FieldError: If it is not a tuple of integers of at least 1.
    """
    given = getattr(config, field)
    sizes = given if isinstance(given, tuple) else ()
    if not sizes or not all(type(size) is int and size > 0 for size in sizes):
        expected = "a tuple of at least one size, each an integer of at least 1"
        raise FieldError(type(config).__name__, field, given, expected)


class Decoder(nnx.Module):
    """Draw an image from class capsules of which all but one are masked with zeros.

    Args:
        num_classes: j.
        dim: e, components of a class capsule's pose.
        image_shape: height, width and channels of the image.
        config: the hidden layers.
        initialisation: how the parameters begin.
        rngs: random numbers for the parameters.

    Reference:
        Sabour, Frosst and Hinton 2017, section 4.1 and figure 2.
    """

    def __init__(
        self,
        num_classes: int,
        dim: int,
        image_shape: tuple[int, int, int],
        config: DecoderConfig,
        *,
        initialisation: Initialisation,
        rngs: nnx.Rngs,
    ):
        self.image_shape, self.bounded = image_shape, config.bounded
        self.class_independent = config.class_independent
        given = dim if config.class_independent else num_classes * dim
        sizes = (given, *config.hidden, math.prod(image_shape))
        self.layers = nnx.List(
            nnx.Linear(
                size,
                next_size,
                kernel_init=kernel_initialiser(initialisation, stddev=0.1),
                bias_init=bias_initialiser(initialisation),
                rngs=rngs,
            )
            for size, next_size in itertools.pairwise(sizes)
        )

    def __call__(
        self, poses: Float[Array, "b j e"], mask: Float[Array, "b j"]
    ) -> Float[Array, "b h w c"]:
        """Draw images with pixels from 0 to 1.

        Args:
            poses: class capsules, [b, j, e].
            mask: 1 for the capsule to draw, 0 for the others, [b, j].

        Returns:
            Images, [b, h, w, c].
        """
        x = masked(poses, mask, class_independent=self.class_independent)  # [b, j e] or [b, e]
        for layer in list(self.layers)[:-1]:  # a sigmoid follows the last: pixels are from 0 to 1
            x = jax.nn.relu(layer(x))
        x = list(self.layers)[-1](x)
        x = jax.nn.sigmoid(x) if self.bounded else x
        return x.reshape(-1, *self.image_shape)  # [b, h, w, c]


def masked(
    poses: Float[Array, "b j e"], mask: Float[Array, "b j"], *, class_independent: bool
) -> Float[Array, "b n"]:
    """Return what a decoder draws from.

    Args:
        poses: class capsules, [b, j, e].
        mask: 1 for the capsule to draw, 0 for the others, [b, j].
        class_independent: whether it gets that pose alone.

    Returns:
        All poses with zeros in the place of the others, [b, j e]; or the one, [b, e].
    """
    x = poses * mask[:, :, None]  # [b, j, e]
    # Otherwise masked, not picked out: the decoder knows by the place which class it draws.
    return x.sum(axis=1) if class_independent else x.reshape(x.shape[0], -1)


def longest_few(lengths: Float[Array, "b j"], count: int) -> Float[Array, "b k j"]:
    """Make a mask for each of the longest capsules of an example.

    Args:
        lengths: lengths of the class capsules, [b, j].
        count: k, how many are kept, each in a mask of its own.

    Returns:
        Masks, in the order of the classes' numbers, [b, k, j].
    """
    _, numbers = jax.lax.top_k(lengths, count)  # [b, k]
    return jax.nn.one_hot(jnp.sort(numbers), lengths.shape[-1], dtype=lengths.dtype)


def longest(lengths: Float[Array, "b j"]) -> Float[Array, "b j"]:
    """Return a mask that keeps the longest capsule of each example, [b, j]."""
    # A choice without a gradient: the decoder learns from the capsule that it is given.
    return jax.nn.one_hot(jnp.argmax(lengths, axis=-1), lengths.shape[-1], dtype=lengths.dtype)
