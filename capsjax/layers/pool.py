"""Pooling: one number of each channel for every square of positions."""

import dataclasses
from typing import Literal

from flax import nnx
from jaxtyping import Array, Float

from capsjax.checks import check_choice, check_int
from capsjax.convolution import Padding
from capsjax.layers.base import Around, Features, Layer, Shape, convolved, take_features

Pooling = Literal["max", "average"]
POOLINGS: tuple[Pooling, ...] = ("max", "average")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PoolConfig(Layer):
    """Describe the largest, or the mean, of each channel over squares of positions.

    Args:
        kernel: width of the squares, in positions; None for the whole grid, which leaves one position.
        stride: step between squares; None for their width, so that none overlap.
        padding: "VALID", or "SAME" for squares that begin outside, where nothing is counted.
        pooling: "max" or "average".
        kind: its name in a configuration.
    """

    kernel: int | None = 2
    stride: int | None = None
    padding: Padding = "VALID"
    pooling: Pooling = "max"
    kind: Literal["pool"] = "pool"

    def __post_init__(self):
        for field in ("kernel", "stride"):
            if getattr(self, field) is not None:
                check_int(self, field, low=1)
        check_choice(self, "padding", ("VALID", "SAME"))
        check_choice(self, "pooling", POOLINGS)

    def shape(self, given: Shape, around: Around) -> Features:
        """Compute the features that come out.

        Args:
            given: the shape of what comes in.
            around: what the network says.

        Returns:
            Their grid, and the channels that come in.

        Raises:
            FieldError: If capsules come in, or the squares are larger than the grid.
        """
        features = take_features(self, given)
        if self.kernel is None:
            return Features((1, 1), features.channels)
        stride = self.stride or self.kernel
        grid = convolved(self, features, kernel=self.kernel, stride=stride, padding=self.padding)
        return Features(grid, features.channels)

    def build(self, given: Shape, around: Around, *, rngs: nnx.Rngs) -> "Pool":
        """Make the pooling, which has no parameters.

        Args:
            given: the shape of what comes in.
            around: what the network says.
            rngs: not used, as nothing is random.

        Returns:
            A module from [b, h, w, c] to [b, ho, wo, c].
        """
        del given, around, rngs
        return Pool(self)


class Pool(nnx.Module):
    """Take the largest, or the mean, over squares of positions.

    Args:
        config: the squares.
    """

    def __init__(self, config: PoolConfig):
        self.config = config

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b ho wo c"]:
        """Return pooled features, [b, ho, wo, c]."""
        config = self.config
        kernel = x.shape[1:3] if config.kernel is None else (config.kernel, config.kernel)
        # Of the whole grid there is one square, whatever the step.
        whole = config.kernel is None or config.stride is None
        strides = kernel if whole else (config.stride, config.stride)
        if config.pooling == "max":
            return nnx.max_pool(x, kernel, strides=strides, padding=config.padding)
        # Of squares that begin outside, the positions inside alone are counted.
        return nnx.avg_pool(
            x, kernel, strides=strides, padding=config.padding, count_include_pad=False
        )
