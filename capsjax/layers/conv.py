"""A convolution from pixels or features to features."""

import dataclasses
from collections.abc import Callable
from typing import Literal, get_args

import jax
from flax import nnx
from jaxtyping import Array, Float

from capsjax.checks import check_bool, check_choice, check_int
from capsjax.convolution import Padding, Precision, conv2d
from capsjax.layers.base import (
    Around,
    Features,
    Initialisation,
    Layer,
    Shape,
    convolved,
    take_features,
)
from capsjax.layers.initialisers import bias_initialiser, kernel_initialiser
from capsjax.layers.normalisation import Normalisation, check_normalised

Activation = Literal["relu", "leaky_relu", "gelu", "silu", "tanh", "none"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)


def activate(name: Activation) -> Callable[[Array], Array]:
    """Return the function of a name, each component by itself; "none" returns what it is given."""
    # By JAX's own names, so that a further one is a word in `Activation` alone.
    return (lambda x: x) if name == "none" else getattr(jax.nn, name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvConfig(Layer):
    """Describe a convolution from pixels or features to features.

    The defaults are the first layer of the 2017 network.

    Args:
        channels: features at each position.
        kernel: width of the square kernel, in positions.
        stride: step between positions.
        padding: "VALID" or "SAME".
        bias: whether a trained bias is added.
        normalisation: what comes between the convolution and the activation: "batch", "layer", "group", or
            None for nothing.
        activation: "relu", "leaky_relu", "gelu", "silu", "tanh" or "none".
        kind: its name in a configuration.
    """

    channels: int = 256
    kernel: int = 9
    stride: int = 1
    padding: Padding = "VALID"
    bias: bool = True
    normalisation: Normalisation | None = None
    activation: Activation = "relu"
    kind: Literal["conv"] = "conv"

    def __post_init__(self):
        for field in ("channels", "kernel", "stride"):
            check_int(self, field, low=1)
        check_choice(self, "padding", ("VALID", "SAME"))
        check_bool(self, "bias")
        check_choice(self, "activation", ACTIVATIONS)
        check_normalised(self, self.channels)

    def shape(self, given: Shape, around: Around) -> Features:
        """Compute the features that come out.

        Args:
            given: the shape of what comes in.
            around: what the network says.

        Returns:
            Their grid, and the layer's channels.

        Raises:
            FieldError: If capsules come in, or the kernel is larger than the features.
        """
        features = take_features(self, given)
        grid = convolved(
            self, features, kernel=self.kernel, stride=self.stride, padding=self.padding
        )
        return Features(grid, self.channels)

    def build(self, given: Shape, around: Around, *, rngs: nnx.Rngs) -> "Conv":
        """Make the convolution.

        Args:
            given: the shape of what comes in.
            around: what the network says.
            rngs: random numbers for the parameters.

        Returns:
            A module from [b, h, w, c] to [b, ho, wo, channels].
        """
        return Conv(
            take_features(self, given).channels,
            self,
            initialisation=around.initialisation,
            precision=around.precision,
            rngs=rngs,
        )


class Conv(nnx.Module):
    """Convolve, add a bias, normalise and activate.

    Args:
        channels: channels of what comes in.
        config: the convolution.
        initialisation: how the parameters begin.
        precision: what is multiplied; see `conv2d`.
        rngs: random numbers for the parameters.
    """

    def __init__(
        self,
        channels: int,
        config: ConvConfig,
        *,
        initialisation: Initialisation,
        precision: Precision = "float32",
        rngs: nnx.Rngs,
    ):
        self.config, self.precision = config, precision
        shape = (config.kernel, config.kernel, channels, config.channels)  # [kh, kw, c, f]
        draw = kernel_initialiser(initialisation, stddev=0.05)
        self.kernel = nnx.Param(draw(rngs.params(), shape))
        start = bias_initialiser(initialisation)
        # One draw for each parameter, in this order: another order would change every network's beginning.
        self.bias = nnx.Param(start(rngs.params(), shape[-1:])) if config.bias else None
        norm = config.normalisation
        self.norm = None if norm is None else norm.build(config.channels, rngs=rngs)

    def __call__(self, images: Float[Array, "b h w c"]) -> Float[Array, "b ho wo f"]:
        """Return features, [b, ho, wo, channels]."""
        config = self.config
        x = conv2d(
            images,
            self.kernel[...],
            stride=config.stride,
            padding=config.padding,
            precision=self.precision,
        )
        # [b, ho, wo, f]; the order is that of the papers on normalisation: before the activation.
        x = x if self.bias is None else x + self.bias[...].reshape(1, 1, 1, -1)
        x = x if self.norm is None else self.norm(x)
        return activate(config.activation)(x)  # [b, ho, wo, f]
