"""Any Flax module from images to features, behind one small class."""

import abc

import jax
import jax.numpy as jnp
from flax import nnx

from capsjax.checks import FieldError
from capsjax.layers.base import Around, Features, Layer, Shape, take_features


class Backbone(Layer):
    """Define a layer by a Flax module alone: a frozen dataclass with a `kind`, which writes `module`.

    What comes out, [b, h, w, c], is found by an abstract evaluation. The module may hold parameters
    (`nnx.Param`) and running statistics (`nnx.BatchStat`); one with random state of its own, such as
    dropout with its generator, is refused when it is trained.

    Example:
        >>> import dataclasses
        >>> from typing import Literal
        >>> from flax import nnx
        >>> @dataclasses.dataclass(frozen=True, kw_only=True)
        ... class Wide(Backbone):
        ...     width: int = 16
        ...     kind: Literal["wide"] = "wide"
        ...
        ...     def module(self, channels, *, rngs):
        ...         return nnx.Conv(channels, self.width, (3, 3), strides=2, rngs=rngs)
        >>> Wide(width=4).kind
        'wide'
    """

    @abc.abstractmethod
    def module(self, channels: int, *, rngs: nnx.Rngs) -> nnx.Module:
        """Return a Flax module from [b, h, w, channels] to [b, h', w', c].

        Args:
            channels: of what comes in.
            rngs: random numbers for the parameters.

        Returns:
            The module.
        """

    def shape(self, given: Shape, around: Around) -> Features:
        """Find the features that come out, by an abstract evaluation.

        Args:
            given: the shape of what comes in.
            around: what the network says.

        Returns:
            Their grid and channels.

        Raises:
            FieldError: If capsules come in, or the module gives anything but features.
        """
        features = take_features(self, given)

        def called(x: jax.Array) -> jax.Array:
            made: nnx.Module = self.module(features.channels, rngs=nnx.Rngs(0))
            made.eval()  # dropout and running statistics change no shape, but would ask for more
            return made(x)

        x = jax.ShapeDtypeStruct((1, *features.grid, features.channels), jnp.float32)
        # Shapes alone flow through the module: no parameter is drawn, nothing is computed.
        found = jax.eval_shape(called, x)
        if getattr(found, "ndim", 0) != 4:
            got = list(found.shape) if hasattr(found, "shape") else type(found).__name__
            expected = f"a module that gives features [b, h, w, c], not {got}: leave pooling out"
            raise FieldError(type(self).__name__, "kind", getattr(self, "kind", None), expected)
        _, height, width, channels = found.shape
        return Features((height, width), channels)

    def build(self, given: Shape, around: Around, *, rngs: nnx.Rngs) -> nnx.Module:
        """Make the module.

        Args:
            given: the shape of what comes in.
            around: what the network says.
            rngs: random numbers for the parameters.

        Returns:
            The module itself.
        """
        return self.module(take_features(self, given).channels, rngs=rngs)
