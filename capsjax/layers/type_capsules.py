"""Capsules on a grid that take one vote of each type of child, by a convolution that all types share."""

import dataclasses
import math
from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from capsjax.checks import FieldError, check_choice, check_int
from capsjax.convolution import Padding, Precision, conv2d, output_size
from capsjax.layers.base import (
    Around,
    CapsuleShape,
    Initialisation,
    Layer,
    Passed,
    Shape,
    convolved,
    take_capsules,
)
from capsjax.layers.initialisers import windows_initialiser
from capsjax.layers.routed import check_routing, passed, route, routing_of, train_routing
from capsjax.routing import Routing, Sizes
from capsjax.types import Capsules, RoutingResult
from capsjax.votes import DenseVotes


@dataclasses.dataclass(frozen=True, kw_only=True)
class TypeCapsulesConfig(Layer):
    """Describe capsules on a grid, whose children are types: each casts one vote for every capsule.

    A type's votes are a convolution of its poses, by a kernel [k, k, d, j, e] that all types share: a
    convolution in three dimensions, whose step along the children's components is d. A type's couplings add
    up to 1 over the capsules of all types at all positions.

    Args:
        types: j, capsules at each position.
        dim: e, components of a capsule's pose.
        kernel: width of the square kernel, in positions.
        stride: step between positions.
        padding: "VALID" or "SAME".
        routing: how the types below choose among these; None for the network's routing. Not one that takes
            the poses of the children: a type has one at each position.
        routing_bias: whether the routing's optional parameters are trained, such as a bias [j, e], the
            same at every position.
        kind: its name in a configuration.

    Reference:
        Rajasegaran et al. 2019, section 3.2, "3D-convolution-based dynamic routing".
    """

    types: int = 32
    dim: int = 8
    kernel: int = 3
    stride: int = 1
    padding: Padding = "VALID"
    routing: Routing | None = None
    routing_bias: bool = False
    kind: Literal["type_capsules"] = "type_capsules"

    def __post_init__(self):
        for field in ("types", "dim", "kernel", "stride"):
            check_int(self, field, low=1)
        check_choice(self, "padding", ("VALID", "SAME"))
        check_routing(self)

    def shape(self, given: Shape, around: Around) -> CapsuleShape:
        """Compute the capsules that come out.

        Args:
            given: the shape of what comes in.
            around: what the network says.

        Returns:
            The grid of the convolution, with `types` capsules at each position.

        Raises:
            FieldError: If features come in, the kernel is larger than their grid, or the routing takes poses.
        """
        children = take_capsules(self, given)
        routing = routing_of(self, around.routing)
        if "poses" in routing.takes:
            expected = (
                "a routing that takes no poses of the children, such as dynamic, em or uniform"
            )
            kind = getattr(routing, "kind", None)
            raise FieldError(type(self).__name__, "routing", kind, expected)
        grid = convolved(
            self, children, kernel=self.kernel, stride=self.stride, padding=self.padding
        )
        return CapsuleShape(grid, self.types, self.dim)

    def build(self, given: Shape, around: Around, *, rngs: nnx.Rngs) -> "TypeCapsules":
        """Make the kernel and what the routing trains.

        Args:
            given: the shape of what comes in.
            around: what the network says.
            rngs: random numbers for the parameters.

        Returns:
            A module from capsules to a `RoutingResult`.
        """
        return TypeCapsules(
            take_capsules(self, given),
            self,
            routing=routing_of(self, around.routing),
            initialisation=around.initialisation,
            precision=around.precision,
            rngs=rngs,
        )

    def apply(self, module: Any, value: Any, *, trace: bool = False) -> Passed:
        """Route the types that come in.

        Args:
            module: what `build` made.
            value: the children, poses [b, h w a, d] and activations [b, h w a].
            trace: whether the routing returns each of its iterations.

        Returns:
            The parents, poses [b, y x j, e] and activations [b, y x j]; and what routing did: couplings
            [b, a, y x j].
        """
        return passed(module(value, trace=trace))


class TypeCapsules(nnx.Module):
    """Let each type vote by a convolution of its poses, and route.

    Args:
        children: the grid, types and dimension of the capsules that come in.
        config: the convolution and the parents.
        routing: how types choose among parents.
        initialisation: how the parameters begin: at a third of what would keep the children's length, as
            residual layers do. A type is shared among all parents of a grid: begun as a convolution's
            kernel, its share of each would be too small to learn from.
        precision: what is multiplied; see `conv2d`.
        rngs: random numbers for the parameters.
    """

    def __init__(
        self,
        children: CapsuleShape,
        config: TypeCapsulesConfig,
        *,
        routing: Routing,
        initialisation: Initialisation,
        precision: Precision = "float32",
        rngs: nnx.Rngs,
    ):
        self.children, self.config = children, config
        self.routing, self.precision = routing, precision
        k, (grid, a, d) = config.kernel, children
        positions = math.prod(output_size(n, k, config.stride, config.padding) for n in grid)
        draw = windows_initialiser(initialisation, positions, residual=True)
        # As a child of a window is shared among windows, a type is among positions; one type's for all.
        one = draw(rngs.params(), (k, k, a, config.types, d, config.dim))[
            :, :, 0
        ]  # [k, l, j, d, e]
        self.kernel = nnx.Param(one.swapaxes(2, 3).reshape(k, k, d, -1))  # [k, l, d, j e]
        sizes = Sizes(children.types, config.types, None, config.dim)
        train_routing(
            self, sizes, optional=config.routing_bias, initialisation=initialisation, rngs=rngs
        )

    def votes(self, poses: Float[Array, "b i d"]) -> DenseVotes:
        """Return the vote of each type for each capsule of the grid.

        Args:
            poses: numbered position by position, type by type, [b, h w a, d].

        Returns:
            Votes of shape (b, a, y x j, e), with parents position by position, type by type.
        """
        config, ((h, w), a, d) = self.config, self.children
        b = poses.shape[0]
        # Each type by itself is an image of d channels, for the one kernel.
        maps = jnp.moveaxis(poses.reshape(b, h, w, a, d), 3, 1).reshape(b * a, h, w, d)
        drawn = conv2d(
            maps,
            self.kernel[...],
            stride=config.stride,
            padding=config.padding,
            precision=self.precision,
        )  # [b a, y, x, j e]
        return DenseVotes(drawn.reshape(b, a, -1, config.dim))

    def __call__(self, children: Capsules, *, trace: bool = False) -> RoutingResult:
        """Route children.

        Args:
            children: capsules, numbered position by position, type by type: poses [b, h w a, d] and
                activations [b, h w a].
            trace: whether to return every iteration, as data.

        Returns:
            Poses [b, y x j, e], couplings and logits [b, a, y x j], and activations [b, y x j].
        """
        poses, activation = (jnp.asarray(x) for x in children)
        b, a = poses.shape[0], self.children.types
        # Of a type's capsules the mean: a type has one activation, and no pose of its own.
        takes = {"activation": lambda: activation.reshape(b, -1, a).mean(axis=1)}
        votes = self.votes(poses)
        sizes = Sizes(a, votes.shape[-2], None, self.config.dim)
        return route(self, votes, takes, trace=trace, sizes=sizes)
