"""What keeps the scale of features: normalisations as frozen values, around Flax's own modules."""

import abc
import dataclasses
from typing import Any, Literal

from flax import nnx

from capsjax.checks import FieldError, check_bool, check_float, check_int, check_type
from capsjax.schema.variant import Variant


class Normalisation(Variant, abc.ABC):
    """Define a normalisation of features [b, h, w, c], with a trained scale and shift a channel."""

    @abc.abstractmethod
    def build(self, channels: int, *, rngs: nnx.Rngs) -> nnx.Module:
        """Return a Flax module from features to features.

        Args:
            channels: c, the number of channels.
            rngs: random numbers for the parameters.

        Returns:
            The module.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchNorm(Normalisation):
    """Normalise each channel over the batch and all positions; by running statistics at evaluation.

    x' = scale (x - mean) / sqrt(variance + epsilon) + shift. After each step of training the running mean
    and variance move by 1 - momentum towards the batch's.

    Args:
        momentum: how much of the running statistics stays in a step, from 0 to below 1.
        epsilon: what is added to the variance.
        scale: whether the scale is trained; it is 1 otherwise, for what follows to learn or leave out.
        kind: its name in a configuration.

    Reference:
        Ioffe and Szegedy 2015, algorithms 1 and 2.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    scale: bool = True
    kind: Literal["batch"] = "batch"

    def __post_init__(self):
        check_float(self, "momentum", low=0.0, high=1.0, open_high=True)
        check_bool(self, "scale")
        check_float(self, "epsilon", low=0.0, open_low=True)

    def build(self, channels: int, *, rngs: nnx.Rngs) -> nnx.Module:
        """Make Flax's batch normalisation.

        Args:
            channels: c, the number of channels.
            rngs: random numbers for the parameters.

        Returns:
            The module, whose running statistics are `nnx.BatchStat`.
        """
        # `eval()` and `train()` of the network decide whether it takes running statistics or the batch's.
        return nnx.BatchNorm(
            channels,
            momentum=self.momentum,
            epsilon=self.epsilon,
            use_scale=self.scale,
            rngs=rngs,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerNorm(Normalisation):
    """Normalise the channels of each position by themselves.

    Args:
        epsilon: what is added to the variance.
        kind: its name in a configuration.

    Reference:
        Ba, Kiros and Hinton 2016, equation 3.
    """

    epsilon: float = 1e-6
    kind: Literal["layer"] = "layer"

    def __post_init__(self):
        check_float(self, "epsilon", low=0.0, open_low=True)

    def build(self, channels: int, *, rngs: nnx.Rngs) -> nnx.Module:
        """Make Flax's layer normalisation.

        Args:
            channels: c, the number of channels.
            rngs: random numbers for the parameters.

        Returns:
            The module.
        """
        return nnx.LayerNorm(channels, epsilon=self.epsilon, rngs=rngs)  # over the last axis alone


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupNorm(Normalisation):
    """Normalise groups of channels over all positions of an example.

    Args:
        groups: the number of groups, which divides that of the channels.
        epsilon: what is added to the variance.
        kind: its name in a configuration.

    Reference:
        Wu and He 2018, equation 7.
    """

    groups: int = 8
    epsilon: float = 1e-6
    kind: Literal["group"] = "group"

    def __post_init__(self):
        check_int(self, "groups", low=1)
        check_float(self, "epsilon", low=0.0, open_low=True)

    def build(self, channels: int, *, rngs: nnx.Rngs) -> nnx.Module:
        """Make Flax's group normalisation.

        Args:
            channels: c, the number of channels.
            rngs: random numbers for the parameters.

        Returns:
            The module.
        """
        return nnx.GroupNorm(channels, num_groups=self.groups, epsilon=self.epsilon, rngs=rngs)


def check_normalised(layer: Any, *channels: int) -> None:
    """Check that what a layer's `normalisation` says can follow its convolutions, or that it is None.

    Args:
        layer: the layer.
        channels: how many channels each of its convolutions has.

    Raises:
        FieldError: If it is something else, or groups do not divide the channels.
    """
    given = layer.normalisation
    if given is not None:
        check_type(layer, "normalisation", Normalisation, "BatchNorm() or None")
    # The others take any number of channels; Flax's own error would come when the module is made.
    for size in channels:
        if isinstance(given, GroupNorm) and size % given.groups:
            expected = f"a divisor of the layer's {size} channels: choose another number of groups"
            field = "normalisation.groups"
            raise FieldError(type(layer).__name__, field, given.groups, expected)
