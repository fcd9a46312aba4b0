"""A convolution whose channels are the first capsules."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
from flax import nnx
from jaxtyping import Array, Float

from capsjax.checks import (
    LARGEST_FLOAT,
    FieldError,
    check_bool,
    check_choice,
    check_float,
    check_int,
)
from capsjax.convolution import Padding, Precision, conv2d
from capsjax.layers.base import (
    Around,
    CapsuleShape,
    Initialisation,
    Layer,
    Passed,
    Shape,
    as_channels,
    channels_of,
    convolved,
)
from capsjax.layers.initialisers import bias_initialiser, kernel_initialiser
from capsjax.layers.normalisation import LayerNorm, Normalisation, check_normalised
from capsjax.numerics import exponential_squash, safe_norm, squash
from capsjax.types import Capsules

Nonlinearity = Literal["squash", "exponential", "none"]
NONLINEARITIES: dict[Nonlinearity, Callable[[Array], Array]] = {
    "squash": squash,
    "exponential": exponential_squash,
    "none": lambda poses: poses,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrimaryConfig(Layer):
    """Describe the convolution whose channels are the first capsules.

    The defaults are the second layer of the 2017 network. Where capsules come in, the components of all
    poses at a position are its channels: a convolution from capsules to capsules, as in a cell of DeepCaps.

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
        depthwise: whether each component sees a single channel, of which there are types times dim then.
        normalisation: what follows the convolution: "batch" or "group" of all channels, "layer" for each pose
            by itself; or None.
        nonlinearity: "squash" for poses shorter than 1, "exponential" for Efficient-CapsNet's squash,
            (1 - exp(-|s|)) s / |s|; or "none".
        activation: "length" of the pose, or "sigmoid" of a channel of each type's own, as EM routing wants.
        activation_offset: what is added to the logits of a sigmoid's activations, such as -1 in the released
            code of EM routing, so that most begin below one half; it is not trained.
        kind: its name in a configuration.
    """

    types: int = 32
    dim: int = 8
    kernel: int = 9
    stride: int = 2
    padding: Padding = "VALID"
    coupling: float = 1.0
    bias: bool = True
    depthwise: bool = False
    normalisation: Normalisation | None = None
    nonlinearity: Nonlinearity = "squash"
    activation: Literal["length", "sigmoid"] = "length"
    activation_offset: float = 0.0
    kind: Literal["primary_capsules"] = "primary_capsules"

    def __post_init__(self):
        for field in ("types", "dim", "kernel", "stride"):
            check_int(self, field, low=1)
        check_choice(self, "padding", ("VALID", "SAME"))
        check_float(self, "coupling", low=0.0, open_low=True)
        check_bool(self, "bias")
        check_bool(self, "depthwise")
        check_normalised(self, self.types * self.dim)
        check_choice(self, "nonlinearity", tuple(NONLINEARITIES))
        check_choice(self, "activation", ("length", "sigmoid"))
        check_float(self, "activation_offset", low=-LARGEST_FLOAT)
        if self.activation_offset and self.activation != "sigmoid":
            given = self.activation_offset
            expected = "0, as lengths have no logits; or activation sigmoid"
            raise FieldError("PrimaryConfig", "activation_offset", given, expected)

    @property
    def bounded(self) -> bool:
        """Return whether poses are squashed, or activations a sigmoid's."""
        return self.nonlinearity != "none" or self.activation == "sigmoid"

    def shape(self, given: Shape, around: Around) -> CapsuleShape:
        """Compute the capsules that come out.

        Args:
            given: the shape of what comes in.
            around: what the network says.

        Returns:
            The grid of the convolution, with `types` capsules at each position.

        Raises:
            FieldError: If the kernel is larger than the features, or it is depthwise and there are more or
                fewer channels than components.
        """
        features = channels_of(given)
        if self.depthwise and features.channels != self.types * self.dim:
            expected = (
                f"false, as {features.channels} channels come in for {self.types} types of {self.dim} "
                "components; or as many channels as components"
            )
            raise FieldError("PrimaryConfig", "depthwise", True, expected)
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
            A module from [b, h, w, c], or capsules, to poses [b, i, d].
        """
        return PrimaryCapsules(
            channels_of(given).channels,
            self,
            grid=given.grid,
            initialisation=around.initialisation,
            precision=around.precision,
            rngs=rngs,
        )

    def apply(self, module: Any, value: Any, *, trace: bool = False) -> Passed:
        """Make capsules, whose activations are the lengths of their poses or a sigmoid's.

        Args:
            module: what `build` made.
            value: features, [b, h, w, c], or capsules.
            trace: not used, as nothing is routed.

        Returns:
            Poses [b, i, d] and activations [b, i]; nothing is routed.
        """
        value = as_channels(value, module.grid)
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
        grid: rows and columns of what comes in, by which capsules are read as features.
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
        grid: tuple[int, int] = (1, 1),
        initialisation: Initialisation,
        precision: Precision = "float32",
        rngs: nnx.Rngs,
    ):
        self.config, self.precision, self.grid = config, precision, grid
        draw = kernel_initialiser(initialisation, stddev=0.1)
        start = bias_initialiser(initialisation)
        given = 1 if config.depthwise else channels

        def trained(outputs: int, channels: int) -> tuple[nnx.Param, nnx.Param | None]:
            shape = (config.kernel, config.kernel, channels, outputs)  # [kh, kw, c, f]
            kernel = nnx.Param(draw(rngs.params(), shape))
            return kernel, nnx.Param(start(rngs.params(), shape[-1:])) if config.bias else None

        components = config.types * config.dim
        self.kernel, self.bias = trained(components, given)
        own = config.activation == "sigmoid"
        self.present_kernel, self.present_bias = (
            trained(config.types, channels) if own else (None, None)
        )
        norm, each = config.normalisation, isinstance(config.normalisation, LayerNorm)
        self.norm = (
            None if norm is None else norm.build(config.dim if each else components, rngs=rngs)
        )
        # By the whole batch activations are normalised as poses are; a pose by itself says nothing of them.
        both = own and norm is not None and not each
        self.present_norm = norm.build(config.types, rngs=rngs) if both else None

    def __call__(self, features: Float[Array, "b h w c"]) -> Float[Array, "b i d"]:
        """Return child poses u_i, i = ho * wo * types, [b, i, d]."""
        config = self.config
        # Before the bias: the released code's coupling of 1/32 is of the votes, its bias is added to the sum.
        x = config.coupling * self._convolve(features, self.kernel)  # [b, ho, wo, types d]
        x = x if self.bias is None else x + self.bias[...].reshape(1, 1, 1, -1)
        each = isinstance(config.normalisation, LayerNorm)
        x = x if self.norm is None or each else self.norm(x)
        # Position by position, type by type: [b, ho, wo, types d] is read as [b, ho wo types, d].
        poses = x.reshape(x.shape[0], -1, config.dim)
        poses = poses if self.norm is None or not each else self.norm(poses)
        return NONLINEARITIES[config.nonlinearity](poses)  # [b, i, d]

    def present(self, features: Float[Array, "b h w c"]) -> Float[Array, "b i"]:
        """Return activations a_i from 0 to 1, of a layer whose activation is a sigmoid, [b, i]."""
        x = self._convolve(features, self.present_kernel)
        x = x if self.present_bias is None else x + self.present_bias[...].reshape(1, 1, 1, -1)
        x = x if self.present_norm is None else self.present_norm(x)
        logits = x.reshape(x.shape[0], -1)  # [b, i], numbered as the poses are
        return jax.nn.sigmoid(logits + self.config.activation_offset)

    def _convolve(self, features: Float[Array, "b h w c"], kernel: Any) -> Array:
        config = self.config
        return conv2d(
            features,
            kernel[...],
            stride=config.stride,
            padding=config.padding,
            groups=features.shape[-1] // kernel.shape[2],  # a channel each, if depthwise
            precision=self.precision,
        )
