"""A residual network from pixels to features."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from capsjax.checks import FieldError, check_choice, check_int
from capsjax.layers.base import Around, Features, Layer, Shape, take_features
from capsjax.layers.conv import Conv, ConvConfig
from capsjax.layers.normalisation import BatchNorm, Normalisation, check_normalised


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNetConfig(Layer):
    """Describe a residual network: a convolution, then stages of blocks.

    Each stage but the first halves the grid.

    Args:
        channels: features of each stage.
        blocks: residual blocks, of two 3x3 convolutions each, in every stage; or a number for each stage.
        kernel: width of the first convolution's kernel.
        stride: step of the first convolution.
        shortcut: what a block adds where grid or channels change: "projection" for a 1x1 convolution, or
            "pad" for every other position and zeros for new channels, which trains nothing.
        normalisation: what follows each convolution: "batch", "layer", "group", or None for nothing.
        kind: its name in a configuration.

    Reference:
        He, Zhang, Ren and Sun 2016, sections 3.3 and 4.2.
    """

    channels: tuple[int, ...] = (16, 32)
    blocks: int | tuple[int, ...] = 1
    kernel: int = 3
    stride: int = 1
    shortcut: Literal["projection", "pad"] = "projection"
    normalisation: Normalisation | None = BatchNorm()
    kind: Literal["resnet"] = "resnet"

    def __post_init__(self):
        for field in ("kernel", "stride"):
            check_int(self, field, low=1)
        check_choice(self, "shortcut", ("projection", "pad"))
        sizes = self.channels if isinstance(self.channels, tuple) else ()
        if not sizes or not all(type(size) is int and size > 0 for size in sizes):
            expected = "a tuple of at least one number of channels, each an integer of at least 1"
            raise FieldError("ResNetConfig", "channels", self.channels, expected)
        check_normalised(self, *sizes)
        if not isinstance(self.blocks, tuple):
            check_int(self, "blocks", low=1)
        elif len(self.blocks) != len(sizes) or not all(
            type(n) is int and n > 0 for n in self.blocks
        ):
            expected = (
                f"an integer of at least 1 for each of the {len(sizes)} stages, or one for all"
            )
            raise FieldError("ResNetConfig", "blocks", self.blocks, expected)

    def shape(self, given: Shape, around: Around) -> Features:
        """Compute the features that come out.

        Args:
            given: the shape of what comes in.
            around: what the network says.

        Returns:
            The grid, halved by each stage but the first, and the last stage's channels.

        Raises:
            FieldError: If capsules come in.
        """
        height, width = take_features(self, given).grid
        for stride in (self.stride, *(2 for _ in self.channels[1:])):
            height, width = -(-height // stride), -(-width // stride)  # padding SAME rounds up
        return Features((height, width), self.channels[-1])

    def build(self, given: Shape, around: Around, *, rngs: nnx.Rngs) -> "ResNet":
        """Make the residual network.

        Args:
            given: the shape of what comes in.
            around: what the network says.
            rngs: random numbers for the parameters.

        Returns:
            A module from [b, h, w, c] to [b, ho, wo, channels].
        """
        return ResNet(take_features(self, given).channels, self, around=around, rngs=rngs)


class ResNet(nnx.Module):
    """Convolve, then add to features what blocks of convolutions make of them.

    Args:
        channels: channels of what comes in.
        config: the stages.
        around: how the parameters begin, and what convolutions multiply.
        rngs: random numbers for the parameters.
    """

    def __init__(self, channels: int, config: ResNetConfig, *, around: Around, rngs: nnx.Rngs):
        first = _conv(config, config.channels[0], kernel=config.kernel, stride=config.stride)
        self.first = _build(first, channels, around, rngs)
        self.blocks, before = nnx.List(), config.channels[0]
        for stage, size in enumerate(config.channels):
            blocks = config.blocks
            for number in range(blocks[stage] if isinstance(blocks, tuple) else blocks):
                # The first block of a stage halves the grid.
                stride = 2 if stage > 0 and number == 0 else 1
                block = _Block(before, size, config, stride=stride, around=around, rngs=rngs)
                self.blocks.append(block)
                before = size

    def __call__(self, images: Float[Array, "b h w c"]) -> Float[Array, "b ho wo f"]:
        """Return features, [b, ho, wo, channels]."""
        x = self.first(images)  # [b, h, w, channels[0]]
        for block in list(self.blocks):
            x = block(x)
        return x


class _Block(nnx.Module):
    """Compute relu(x + f(x)), f of two convolutions; where shapes differ, x is brought to f's."""

    def __init__(
        self,
        before: int,
        after: int,
        config: ResNetConfig,
        *,
        stride: int,
        around: Around,
        rngs: nnx.Rngs,
    ):
        first, second = _conv(config, after, stride=stride), _conv(config, after, last=True)
        self.first = _build(first, before, around, rngs)
        self.second = _build(second, after, around, rngs)
        self.stride, self.more = stride, after - before
        same = stride == 1 and before == after
        # Where grid or channels differ, what is added has to be brought to theirs.
        past = _conv(config, after, kernel=1, stride=stride, last=True)
        trained = not same and config.shortcut == "projection"
        self.shortcut = _build(past, before, around, rngs) if trained else None

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b ho wo f"]:
        if self.shortcut is not None:
            short = self.shortcut(x)  # [b, ho, wo, f]
        else:  # every other position, and zeros for channels more; of fewer the first
            kept = x[:, :: self.stride, :: self.stride, : x.shape[-1] + min(self.more, 0)]
            short = jnp.pad(kept, [(0, 0)] * 3 + [(0, max(self.more, 0))])
        # After the sum, as in the paper: what comes out is again at least 0.
        return jax.nn.relu(short + self.second(self.first(x)))


def _conv(
    config: ResNetConfig, channels: int, *, kernel: int = 3, stride: int = 1, last: bool = False
) -> ConvConfig:
    """Describe one convolution; the last of a block is activated after the sum."""
    return ConvConfig(
        channels=channels,
        kernel=kernel,
        stride=stride,
        padding="SAME",
        bias=config.normalisation is None,  # a normalisation has a shift of its own
        normalisation=config.normalisation,
        activation="none" if last else "relu",
    )


def _build(config: ConvConfig, channels: int, around: Around, rngs: nnx.Rngs) -> Conv:
    return Conv(
        channels,
        config,
        initialisation=around.initialisation,
        precision=around.precision,
        rngs=rngs,
    )
