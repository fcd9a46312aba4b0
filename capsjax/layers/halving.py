"""Convolutions that halve the grid until it is small enough: a stem for images of any size."""

import dataclasses
from typing import Literal

from flax import nnx
from jaxtyping import Array, Float

from capsjax.checks import check_choice, check_int
from capsjax.layers.base import Around, Features, Layer, Shape, take_features
from capsjax.layers.conv import ACTIVATIONS, Activation, Conv, ConvConfig
from capsjax.layers.normalisation import Normalisation, check_normalised


@dataclasses.dataclass(frozen=True, kw_only=True)
class HalvingConfig(Layer):
    """Describe 3x3 convolutions, each of which halves the grid, as many as the image asks for.

    A grid (h, w) becomes (⌈h/2⌉, ⌈w/2⌉) until both are at most `grid`: of 8, images of 28 x 28 give 7 x 7,
    64 x 48 give 8 x 6. Where they are at once, one convolution keeps the grid.

    Args:
        channels: features at each position, in every convolution.
        grid: the most rows and columns that come out.
        normalisation: what comes between a convolution and its activation: "batch", "layer", "group", or
            None for nothing.
        activation: "relu", "leaky_relu", "gelu", "silu", "tanh" or "none".
        kind: its name in a configuration.
    """

    channels: int = 32
    grid: int = 8
    normalisation: Normalisation | None = None
    activation: Activation = "relu"
    kind: Literal["halving"] = "halving"

    def __post_init__(self):
        check_int(self, "channels", low=1)
        check_int(self, "grid", low=1)
        check_choice(self, "activation", ACTIVATIONS)
        check_normalised(self, self.channels)

    def shape(self, given: Shape, around: Around) -> Features:
        """Compute the features that come out.

        Args:
            given: the shape of what comes in.
            around: what the network says.

        Returns:
            The halved grid, and the layer's channels.

        Raises:
            FieldError: If capsules come in.
        """
        height, width = take_features(self, given).grid
        while max(height, width) > self.grid:
            height, width = -(-height // 2), -(-width // 2)  # padding SAME rounds up
        return Features((height, width), self.channels)

    def build(self, given: Shape, around: Around, *, rngs: nnx.Rngs) -> "Halving":
        """Make the convolutions.

        Args:
            given: the shape of what comes in.
            around: what the network says.
            rngs: random numbers for the parameters.

        Returns:
            A module from [b, h, w, c] to [b, ho, wo, channels].
        """
        return Halving(take_features(self, given), self, around=around, rngs=rngs)


class Halving(nnx.Module):
    """Convolve, and halve the grid, until it is small enough.

    Args:
        given: the shape of what comes in.
        config: the convolutions.
        around: how the parameters begin, and what is multiplied.
        rngs: random numbers for the parameters.
    """

    def __init__(self, given: Features, config: HalvingConfig, *, around: Around, rngs: nnx.Rngs):
        # Of the longer side n, ⌈log2(n / grid)⌉ halvings, as `shape` counts them; at least one convolution.
        side, strides = max(given.grid), []
        while side > config.grid:
            side = -(-side // 2)
            strides.append(2)
        layers, channels = [], given.channels
        for stride in strides or [1]:
            conv = ConvConfig(
                channels=config.channels,
                kernel=3,
                stride=stride,
                padding="SAME",
                bias=config.normalisation is None,  # a normalisation has a shift of its own
                normalisation=config.normalisation,
                activation=config.activation,
            )
            layers.append(
                Conv(
                    channels,
                    conv,
                    initialisation=around.initialisation,
                    precision=around.precision,
                    rngs=rngs,
                )
            )
            channels = config.channels
        self.layers = nnx.List(layers)

    def __call__(self, images: Float[Array, "b h w c"]) -> Float[Array, "b ho wo f"]:
        """Return features, [b, ho, wo, channels]."""
        x = images
        for layer in list(self.layers):
            x = layer(x)  # [b, ⌈h/2⌉, ⌈w/2⌉, channels]
        return x
