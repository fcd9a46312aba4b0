"""A convolution whose channels are the first capsules."""

import dataclasses
from typing import Any, Literal

import jax
from flax import nnx
from jaxtyping import Array, Float

from capsjax.checks import check_bool, check_choice, check_float, check_int
from capsjax.convolution import Padding, Precision, conv2d
from capsjax.layers.base import (
    Around,
    CapsuleShape,
    Initialisation,
    Layer,
    Passed,
    Shape,
    convolved,
    take_features,
)
from capsjax.layers.initialisers import bias_initialiser, kernel_initialiser
from capsjax.numerics import safe_norm, squash
from capsjax.types import Capsules


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrimaryConfig(Layer):
    """Describe the convolution whose channels are the first capsules.

    The defaults are the second layer of the 2017 network.

    Args:
        types: capsule types at each position.
        dim: d, components of a capsule's pose.
        kernel: width of the square kernel, in positions.
        stride: step between positions.
        padding: "VALID" or "SAME".
        coupling: what the convolution is multiplied by before its bias is added: 1 in the paper;
            1/32 in the released code, whose primary capsules go through one iteration of routing from
            a single child to 32 types.
        bias: whether trained biases are added.
        nonlinearity: "squash" for poses shorter than 1, or "none".
        activation: "length" of the pose, or "sigmoid" of a channel of each type's own, as EM routing wants.
        kind: its name in a configuration.
    """

    types: int = 32
    dim: int = 8
    kernel: int = 9
    stride: int = 2
    padding: Padding = "VALID"
    coupling: float = 1.0
    bias: bool = True
    nonlinearity: Literal["squash", "none"] = "squash"
    activation: Literal["length", "sigmoid"] = "length"
    kind: Literal["primary_capsules"] = "primary_capsules"

    def __post_init__(self):
        for field in ("types", "dim", "kernel", "stride"):
            check_int(self, field, low=1)
        check_choice(self, "padding", ("VALID", "SAME"))
        check_float(self, "coupling", low=0.0, open_low=True)
        check_bool(self, "bias")
        check_choice(self, "nonlinearity", ("squash", "none"))
        check_choice(self, "activation", ("length", "sigmoid"))

    def shape(self, given: Shape, around: Around) -> CapsuleShape:
        """Compute the capsules that come out.

        Args:
            given: the shape of what comes in.
            around: what the network says.

        Returns:
            The grid of the convolution, with `types` capsules at each position.

        Raises:
            FieldError: If capsules come in, or the kernel is larger than the features.
        """
        features = take_features(self, given)
        grid = convolved(
            self, features, kernel=self.kernel, stride=self.stride, padding=self.padding
        )
        return CapsuleShape(grid, self.types, self.dim)

    def build(self, given: Shape, around: Around, *, rngs: nnx.Rngs) -> "PrimaryCapsules":
        """Make the convolution into capsules.

        Args:
            given: the shape of what comes in.
            around: what the network says.
            rngs: random numbers for the parameters.

        Returns:
            A module from [b, h, w, c] to poses [b, i, d].
        """
        return PrimaryCapsules(
            take_features(self, given).channels,
            self,
            initialisation=around.initialisation,
            precision=around.precision,
            rngs=rngs,
        )

    def apply(self, module: Any, value: Any, *, trace: bool = False) -> Passed:
        """Make capsules, whose activations are the lengths of their poses or a sigmoid's.

        Args:
            module: what `build` made.
            value: features, [b, h, w, c].
            trace: not used, as nothing is routed.

        Returns:
            Poses [b, i, d] and activations [b, i]; nothing is routed.
        """
        poses = module(value)
        own = self.activation == "sigmoid"
        return Passed(Capsules(poses, module.present(value) if own else safe_norm(poses)))


class PrimaryCapsules(nnx.Module):
    """Convolve features into the poses of the first capsules.

    A capsule's components are channels of one position: channels are read as [types, dim], and the
    children are numbered position by position, type by type.

    Args:
        channels: channels of the features.
        config: the convolution and the capsules.
        initialisation: how the parameters begin.
        precision: what is multiplied; see `conv2d`.
        rngs: random numbers for the parameters.

    Reference:
        Sabour, Frosst and Hinton 2017, section 4; Hinton, Sabour and Frosst 2018, section 4, for
        activations of their own.
    """

    def __init__(
        self,
        channels: int,
        config: PrimaryConfig,
        *,
        initialisation: Initialisation,
        precision: Precision = "float32",
        rngs: nnx.Rngs,
    ):
        self.config, self.precision = config, precision
        draw = kernel_initialiser(initialisation, stddev=0.1)
        start = bias_initialiser(initialisation)

        def trained(outputs: int) -> tuple[nnx.Param, nnx.Param | None]:
            shape = (config.kernel, config.kernel, channels, outputs)  # [kh, kw, c, f]
            kernel = nnx.Param(draw(rngs.params(), shape))
            return kernel, nnx.Param(start(rngs.params(), shape[-1:])) if config.bias else None

        self.kernel, self.bias = trained(config.types * config.dim)
        own = config.activation == "sigmoid"
        self.present_kernel, self.present_bias = trained(config.types) if own else (None, None)

    def __call__(self, features: Float[Array, "b h w c"]) -> Float[Array, "b i d"]:
        """Return child poses u_i, i = ho * wo * types, [b, i, d]."""
        config = self.config
        # Before the bias: the released code's coupling of 1/32 is of the votes, its bias is added to the sum.
        x = config.coupling * self._convolve(features, self.kernel)  # [b, ho, wo, types d]
        x = x if self.bias is None else x + self.bias[...].reshape(1, 1, 1, -1)
        # Position by position, type by type: [b, ho, wo, types d] is read as [b, ho wo types, d].
        poses = x.reshape(x.shape[0], -1, config.dim)
        return squash(poses) if config.nonlinearity == "squash" else poses  # [b, i, d]

    def present(self, features: Float[Array, "b h w c"]) -> Float[Array, "b i"]:
        """Return activations a_i from 0 to 1, of a layer whose activation is a sigmoid, [b, i]."""
        x = self._convolve(features, self.present_kernel)
        x = x if self.present_bias is None else x + self.present_bias[...].reshape(1, 1, 1, -1)
        return jax.nn.sigmoid(x.reshape(x.shape[0], -1))  # [b, i], numbered as the poses are

    def _convolve(self, features: Float[Array, "b h w c"], kernel: Any) -> Array:
        config = self.config
        return conv2d(
            features,
            kernel[...],
            stride=config.stride,
            padding=config.padding,
            precision=self.precision,
        )
