"""A decoder that draws coarse features first, and doubles their size until they are an image."""

import dataclasses
import itertools
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from capsjax.checks import check_bool, check_choice, check_int
from capsjax.layers.base import Around, CapsuleShape
from capsjax.layers.conv import Conv, ConvConfig
from capsjax.layers.decoder import OUTPUTS, ImageDecoder, Output, check_sizes, masked
from capsjax.layers.initialisers import bias_initialiser, kernel_initialiser


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvDecoderConfig(ImageDecoder):
    """Describe a decoder of convolutions.

    A dense layer draws features of the first number of channels, on a grid that doublings make at least the
    image's; for each further number the grid is doubled, nearest neighbour, and convolved; a last doubling
    and convolution draws the image's channels, of which the middle is kept.

    Args:
        channels: features at each position, from the coarsest grid to the finest; ReLU after each.
        kernel: width of the square kernels; zeros around keep the grid.
        output: "sigmoid" for pixels from 0 to 1, or "linear" for any numbers, as standardised data have.
        class_independent: whether the pose alone is drawn, not by which class it is of.
        kind: its name in a configuration.

    Reference:
        Odena, Dumoulin and Olah 2016, for doubling and convolving instead of transposed convolutions;
        Rajasegaran et al. 2019, section 3.4, for the class-independent decoder.
    """

    channels: tuple[int, ...] = (64, 32)
    kernel: int = 3
    output: Output = "sigmoid"
    class_independent: bool = False
    kind: Literal["conv"] = "conv"

    def __post_init__(self):
        check_sizes(self, "channels")
        check_int(self, "kernel", low=1)
        check_choice(self, "output", OUTPUTS)
        check_bool(self, "class_independent")

    def build(self, given: CapsuleShape, around: Around, *, rngs: nnx.Rngs) -> "ConvDecoder":
        """Make the decoder.

        Args:
            given: the class capsules.
            around: what the network says, the image's shape among it.
            rngs: random numbers for the parameters.

        Returns:
            A module from poses [b, j, e] and a mask [b, j] to images [b, h, w, c].
        """
        return ConvDecoder(given, around, self, rngs=rngs)


class ConvDecoder(nnx.Module):
    """Draw images from class capsules of which all but one are masked with zeros.

    Args:
        given: the class capsules.
        around: the image's shape, how parameters begin and what is multiplied.
        config: the channels and the kernel.
        rngs: random numbers for the parameters.
    """

    def __init__(
        self, given: CapsuleShape, around: Around, config: ConvDecoderConfig, *, rngs: nnx.Rngs
    ):
        self.image_shape, self.bounded = around.image_shape, config.bounded
        self.class_independent = config.class_independent
        height, width, image_channels = around.image_shape
        doublings = 2 ** len(config.channels)  # how much finer the image is than the coarsest grid
        self.grid = (-(-height // doublings), -(-width // doublings))
        self.coarse = nnx.Linear(
            given.dim * (1 if config.class_independent else given.capsules),
            self.grid[0] * self.grid[1] * config.channels[0],
            kernel_init=kernel_initialiser(around.initialisation, stddev=0.1),
            bias_init=bias_initialiser(around.initialisation),
            rngs=rngs,
        )
        self.layers = nnx.List(
            Conv(
                before,
                ConvConfig(channels=after, kernel=config.kernel, padding="SAME", activation="none"),
                initialisation=around.initialisation,
                precision=around.precision,
                rngs=rngs,
            )
            for before, after in itertools.pairwise((*config.channels, image_channels))
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
        x = self.coarse(x).reshape(x.shape[0], *self.grid, -1)  # [b, h', w', channels]
        for layer in list(self.layers):
            # Every position twice along height and width: the nearest neighbour.
            x = layer(jnp.repeat(jnp.repeat(jax.nn.relu(x), 2, axis=1), 2, axis=2))
        height, width, _ = self.image_shape  # doublings rarely meet them: the middle is kept
        top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
        x = x[:, top : top + height, left : left + width]
        return jax.nn.sigmoid(x) if self.bounded else x
