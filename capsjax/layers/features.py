"""A dense layer from all of an image, or of a row of a table, to features: a stem for vectors."""

import dataclasses
import math
from typing import Literal

from flax import nnx
from jaxtyping import Array, Float

from capsjax.checks import check_choice, check_int
from capsjax.layers.base import Around, Features, Layer, Shape, take_features
from capsjax.layers.conv import ACTIVATIONS, Activation, activate
from capsjax.layers.initialisers import bias_initialiser, kernel_initialiser


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseFeaturesConfig(Layer):
    """Describe a dense layer from all that comes in to features at a single position.

    Primary capsules with a kernel of 1 after it are capsules of the whole vector.

    Args:
        channels: features that come out.
        activation: "relu", "leaky_relu", "gelu", "silu", "tanh" or "none".
        kind: its name in a configuration.
    """

    channels: int = 128
    activation: Activation = "relu"
    kind: Literal["dense_features"] = "dense_features"

    def __post_init__(self):
        check_int(self, "channels", low=1)
        check_choice(self, "activation", ACTIVATIONS)

    def shape(self, given: Shape, around: Around) -> Features:
        """Compute the features that come out.

        Args:
            given: the shape of what comes in.
            around: what the network says.

        Returns:
            A single position, and the layer's channels.

        Raises:
            FieldError: If capsules come in.
        """
        take_features(self, given)
        return Features((1, 1), self.channels)

    def build(self, given: Shape, around: Around, *, rngs: nnx.Rngs) -> "DenseFeatures":
        """Make the layer.

        Args:
            given: the shape of what comes in.
            around: what the network says.
            rngs: random numbers for the parameters.

        Returns:
            A module from [b, h, w, c] to [b, 1, 1, channels].
        """
        return DenseFeatures(take_features(self, given), self, around=around, rngs=rngs)


class DenseFeatures(nnx.Module):
    """Multiply all that comes in by a matrix, add a bias and activate.

    Args:
        given: the shape of what comes in.
        config: the layer.
        around: how the parameters begin.
        rngs: random numbers for the parameters.
    """

    def __init__(
        self, given: Features, config: DenseFeaturesConfig, *, around: Around, rngs: nnx.Rngs
    ):
        self.config = config
        self.linear = nnx.Linear(
            math.prod(given.grid) * given.channels,
            config.channels,
            kernel_init=kernel_initialiser(around.initialisation, stddev=0.1),
            bias_init=bias_initialiser(around.initialisation),
            rngs=rngs,
        )

    def __call__(self, images: Float[Array, "b h w c"]) -> Float[Array, "b 1 1 f"]:
        """Return features, [b, 1, 1, channels]."""
        x = self.linear(images.reshape(images.shape[0], -1))  # [b, h w c] to [b, f]
        return activate(self.config.activation)(x)[:, None, None, :]
