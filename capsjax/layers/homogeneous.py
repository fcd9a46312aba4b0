"""Homogeneous vector capsules: weights are multiplied component by component, and nothing is routed."""

import dataclasses
import math
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from capsjax.checks import check_choice, check_int
from capsjax.layers.base import Around, CapsuleShape, Layer, Passed, Shape
from capsjax.layers.conv import ACTIVATIONS, Activation, activate
from capsjax.layers.normalisation import BatchNorm, Normalisation, check_normalised
from capsjax.numerics import safe_norm
from capsjax.types import Capsules

Children = Literal["channels", "positions"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class HomogeneousConfig(Layer):
    """Describe capsules that are sums of all capsules below, weighed component by component.

    v_j = relu(norm(sum_i w_ij * u_i)), where * multiplies vectors component by component. The activations
    are the lengths, which may be above 1.

    Args:
        types: j, the number of capsules; None for one of each class.
        children: where features come in, which of them are a capsule: "channels" for the map of a channel, a
            component for each position; "positions" for the channels of a position. Capsules are as they are.
        normalisation: what the sums go through, each component by itself, over batch and capsules; or None.
        activation: what comes after it: "relu", "leaky_relu", "gelu", "silu", "tanh" or "none".
        kind: its name in a configuration.

    Reference:
        Byerly, Kalganova and Dear 2021, section 3, "homogeneous vector capsules".
    """

    types: int | None = None
    children: Children = "channels"
    normalisation: Normalisation | None = BatchNorm(scale=False)
    activation: Activation = "relu"
    kind: Literal["homogeneous_capsules"] = "homogeneous_capsules"

    def __post_init__(self):
        if self.types is not None:
            check_int(self, "types", low=1)
        check_choice(self, "children", get_args(Children))
        check_choice(self, "activation", ACTIVATIONS)
        check_normalised(self)

    @property
    def bounded(self) -> bool:
        """Return False: a length may be above 1."""
        return False

    def shape(self, given: Shape, around: Around) -> CapsuleShape:
        """Compute the capsules that come out.

        Args:
            given: the shape of what comes in.
            around: what the network says.

        Returns:
            One position, with `types` capsules or one of each class, of as many components as the children.
        """
        _, dim = self.sizes(given)
        return CapsuleShape((1, 1), self.types or around.num_classes, dim)

    def sizes(self, given: Shape) -> tuple[int, int]:
        """Count the children.

        Args:
            given: the shape of what comes in.

        Returns:
            i, how many there are, and d, the components of each.
        """
        if isinstance(given, CapsuleShape):
            return given.capsules, given.dim
        positions, channels = math.prod(given.grid), given.channels
        return (channels, positions) if self.children == "channels" else (positions, channels)

    def build(self, given: Shape, around: Around, *, rngs: nnx.Rngs) -> "HomogeneousCapsules":
        """Make the weights and the normalisation.

        Args:
            given: the shape of what comes in.
            around: what the network says.
            rngs: random numbers for the parameters.

        Returns:
            A module from poses [b, i, d] to poses [b, j, d].
        """
        return HomogeneousCapsules(
            *self.sizes(given), self.types or around.num_classes, self, rngs=rngs
        )

    def apply(self, module: Any, value: Any, *, trace: bool = False) -> Passed:
        """Weigh and add.

        Args:
            module: what `build` made.
            value: features, [b, h, w, c], or capsules, [b, i, d].
            trace: not used, as nothing is routed.

        Returns:
            Poses [b, j, d] and their lengths [b, j]; nothing is routed.
        """
        pose = module(self.read(value))
        return Passed(Capsules(pose, safe_norm(pose)))

    def read(self, value: Any) -> Float[Array, "b i d"]:
        """Return the poses of the children, of features [b, h, w, c] or of capsules."""
        if isinstance(value, Capsules):
            return jnp.asarray(value.pose)
        b, h, w, c = value.shape
        maps = value.reshape(b, h * w, c)
        return maps.swapaxes(1, 2) if self.children == "channels" else maps


class HomogeneousCapsules(nnx.Module):
    """Add capsules, each times a vector of weights for each parent.

    Args:
        children: i.
        dim: d, components of every capsule.
        parents: j.
        config: what comes after the sum.
        rngs: random numbers for the parameters.
    """

    def __init__(
        self, children: int, dim: int, parents: int, config: HomogeneousConfig, *, rngs: nnx.Rngs
    ):
        self.config = config
        # Sums of i components of length 1 stay about as long.
        normal = jax.random.normal(rngs.params(), (children, parents, dim), jnp.float32)
        self.weight = nnx.Param(normal / jnp.sqrt(jnp.float32(children)))  # w, [i, j, d]
        norm = config.normalisation
        self.norm = None if norm is None else norm.build(dim, rngs=rngs)

    def __call__(self, poses: Float[Array, "b i d"]) -> Float[Array, "b j d"]:
        """Return v_j = relu(norm(sum_i w_ij * u_i)), [b, j, d]."""
        x = jnp.einsum("bid,ijd->bjd", poses, self.weight[...])  # [b, j, d]
        x = x if self.norm is None else self.norm(x)
        return activate(self.config.activation)(x)
