"""Convolutional capsules: each takes votes of the capsules that its window sees."""

import dataclasses
import math
from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from capsjax.checks import FieldError, check_bool, check_choice, check_int
from capsjax.convolution import Padding, zeros_around
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
from capsjax.layers.initialisers import KeepLength, windows_initialiser
from capsjax.layers.normalisation import LayerNorm, Normalisation, check_normalised
from capsjax.layers.routed import check_routing, passed, route, routing_of, train_routing
from capsjax.routing import Routing, Sizes
from capsjax.types import Capsules, RoutingResult
from capsjax.votes import SHARES, Share, Votes, Window, WindowVotes, mask

PoseKind = Literal["vector", "matrix"]
POSES: tuple[PoseKind, ...] = ("vector", "matrix")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvCapsulesConfig(Layer):
    """Describe capsules each of which takes votes of the capsules that its window sees.

    Transformation matrices are shared over positions, as a convolution's are.

    Args:
        types: j, capsules at each position.
        dim: components of a capsule's pose; of a matrix a square number, such as 16 for 4 by 4.
        pose: "vector", or "matrix" for poses whose rows share their transformation matrices.
        kernel: width of the square window, in positions.
        stride: step between windows.
        padding: "VALID", or "SAME" for windows that begin outside, where there is no child: couplings are 0.
        share: what a child's couplings add up to 1 over: "child" for all its parents, at every position that
            sees it; "position" for the parents of each position by itself.
        residual: whether the poses of the children are added to what is routed, so that lengths and gradients
            pass through any number of layers; types, dim and grid are then those of the children.
        normalisation: what routed poses go through, each component of each type by itself: "batch" or
            "group"; "layer" each pose by itself; or None.
        routing: how the capsules below choose among these; None for the network's routing.
        routing_bias: whether the routing's optional parameters are trained, such as a bias [j, e].
        kind: its name in a configuration.

    Reference:
        Hinton, Sabour and Frosst 2018, section 4; Rajasegaran et al. 2019, section 3.3, for the sum with what
        came before.
    """

    types: int = 16
    dim: int = 16
    pose: PoseKind = "vector"
    kernel: int = 3
    stride: int = 1
    padding: Padding = "VALID"
    share: Share = "child"
    residual: bool = False
    normalisation: Normalisation | None = None
    routing: Routing | None = None
    routing_bias: bool = False
    kind: Literal["conv_capsules"] = "conv_capsules"

    def __post_init__(self):
        for field in ("types", "dim", "kernel", "stride"):
            check_int(self, field, low=1)
        check_choice(self, "padding", ("VALID", "SAME"))
        check_choice(self, "share", SHARES)
        check_bool(self, "residual")
        check_normalised(self, self.types * self.dim)
        check_pose(self)
        check_routing(self)

    def shape(self, given: Shape, around: Around) -> CapsuleShape:
        """Compute the capsules that come out.

        Args:
            given: the shape of what comes in.
            around: what the network says.

        Returns:
            The grid of the windows, with `types` capsules at each position.

        Raises:
            FieldError: If features come in, the window is larger than their grid, or their poses cannot be
                read as matrices of as many rows as these have; or if they are to be added and differ.
        """
        children = take_capsules(self, given)
        rows_of(self, children)
        grid = convolved(
            self, children, kernel=self.kernel, stride=self.stride, padding=self.padding
        )
        shape = CapsuleShape(grid, self.types, self.dim)
        if self.residual and shape != children:
            expected = (
                f"false, as {_described(children)} come in and {_described(shape)} come out, which cannot "
                "be added; or the same types and dim, padding SAME and stride 1"
            )
            raise FieldError(type(self).__name__, "residual", True, expected)
        return shape

    def build(self, given: Shape, around: Around, *, rngs: nnx.Rngs) -> "ConvCapsules":
        """Make the transformation matrices and what the routing trains.

        Args:
            given: the shape of what comes in.
            around: what the network says.
            rngs: random numbers for the parameters.

        Returns:
            A module from capsules to a `RoutingResult` of positions.
        """
        return ConvCapsules(
            take_capsules(self, given),
            self,
            routing=routing_of(self, around.routing),
            initialisation=around.initialisation,
            rngs=rngs,
        )

    def apply(self, module: Any, value: Any, *, trace: bool = False) -> Passed:
        """Route the capsules that come in.

        Args:
            module: what `build` made.
            value: the children, poses [b, h w a, d] and activations [b, h w a].
            trace: whether the routing returns each of its iterations.

        Returns:
            The parents, poses [b, y x j, e] and activations [b, y x j]; and what routing did, with positions,
            such as the coupling [b, y, x, i, j], unless there is only one.
        """
        routed = module(value, trace=trace)
        gives, pose = passed(routed), routed.pose  # [b, y, x, j, e]
        capsules: Any = gives.value
        if module.norm is not None:
            each = isinstance(self.normalisation, LayerNorm)
            pose = module.norm(pose if each else pose.reshape(*pose.shape[:3], -1))
        pose = pose.reshape(capsules.pose.shape)
        if self.residual:  # the activations stay the routing's own, from 0 to 1
            pose = pose + value.pose
        return gives._replace(value=capsules._replace(pose=pose))


class ConvCapsules(nnx.Module):
    """Connect the capsules of each window to those of a position by shared matrices, and route.

    Args:
        children: the grid, types and dimension of the capsules that come in.
        config: the window and the parents.
        routing: how children choose among parents.
        initialisation: how the parameters begin; see `KeepLength`.
        rngs: random numbers for the parameters.
    """

    def __init__(
        self,
        children: CapsuleShape,
        config: ConvCapsulesConfig,
        *,
        routing: Routing,
        initialisation: Initialisation | KeepLength = KeepLength(),
        rngs: nnx.Rngs,
    ):
        self.children, self.config, self.routing = children, config, routing
        self.rows = rows_of(config, children)
        d, e = children.dim // self.rows, config.dim // self.rows
        shape = (config.kernel, config.kernel, children.types, config.types, d, e)
        self.zeros = zeros_around(children.grid, shape[:2], config.stride, config.padding)
        draw = windows_initialiser(initialisation, self._windows(), residual=config.residual)
        self.weight = nnx.Param(draw(rngs.params(), shape))  # W, [k, l, a, j, d, e]
        sizes = Sizes(math.prod(shape[:3]), config.types, children.dim, config.dim)
        train_routing(
            self, sizes, optional=config.routing_bias, initialisation=initialisation, rngs=rngs
        )
        norm = config.normalisation
        size = config.dim if isinstance(norm, LayerNorm) else config.types * config.dim
        self.norm = None if norm is None else norm.build(size, rngs=rngs)

    def _windows(self) -> float:
        """Return among how many windows a child is shared, on the average over those that any sees."""
        if self.config.share == "position":  # its couplings add up to 1 in each
            return 1.0
        (h, w), (above, left) = self.children.grid, (before for before, _ in self.zeros)
        (_, below), (_, right) = self.zeros
        window = Window(
            (self.config.kernel, self.config.kernel),
            self.config.stride,
            (above + h + below, left + w + right),
        )
        rows, columns = window.counts()
        seen = rows[above : above + h], columns[left : left + w]
        return math.prod(sum(axis) / sum(count > 0 for count in axis) for axis in seen)

    def __call__(self, children: Capsules, *, trace: bool = False) -> RoutingResult:
        """Route children.

        Args:
            children: capsules, numbered position by position, type by type: poses [b, h w a, d] and
                activations [b, h w a].
            trace: whether to return every iteration, as data.

        Returns:
            Poses [b, y, x, j, e], couplings and logits [b, y, x, i, j], i = k l a, activations [b, y, x, j].
        """
        windows = self._seen(jnp.asarray(children.pose))
        poses = windows.u
        takes = {
            "poses": lambda: windows.seen(poses.reshape(*poses.shape[:4], self.children.dim)),
            "activation": lambda: windows.seen(self._on_grid(jnp.asarray(children.activation))),
        }
        return route(self, self._masked(windows), takes, trace=trace)

    def votes(self, poses: Float[Array, "b i d"]) -> Votes:
        """Return the votes of children.

        Args:
            poses: numbered position by position, type by type, [b, h w a, d].

        Returns:
            Votes of shape (b, y, x, i, j, e), i = k l a, without what is outside of the grid.
        """
        return self._masked(self._seen(poses))

    def _seen(self, poses: Array) -> WindowVotes:
        """Return the votes of what the windows see, zeros outside of the grid among it."""
        rows = (self.rows, self.children.dim // self.rows)
        return WindowVotes(
            self._on_grid(poses, *rows), self.weight[...], self.config.stride, self.config.share
        )

    def _masked(self, windows: WindowVotes) -> Votes:
        """Leave out the zeros outside of the grid."""
        if not any(map(any, self.zeros)):
            return windows
        here = self._on_grid(jnp.ones((windows.u.shape[0], self.children.capsules), bool))
        # Zeros are no children: a mean would count them, and so would the entropy of the couplings.
        return mask(windows, children=windows.seen(here))

    def _on_grid(self, x: Array, *sizes: int) -> Array:
        """Return what [b, h w a, ...] holds as [b, h, w, a, *sizes], with zeros around."""
        x = x.reshape(x.shape[0], *self.children.grid, self.children.types, *sizes)
        return jnp.pad(x, [(0, 0), *self.zeros, *[(0, 0)] * (1 + len(sizes))])


def _described(shape: CapsuleShape) -> str:
    return f"{shape.types} types of {shape.dim} components on a grid {list(shape.grid)}"


def check_pose(layer: Any) -> None:
    """Check that a layer's `pose` is one, and its `dim` a square number where that is a matrix.

    Args:
        layer: the layer, with fields `pose` and `dim`.

    Raises:
        FieldError: If not.
    """
    check_choice(layer, "pose", POSES)
    rows = math.isqrt(layer.dim)
    if layer.pose == "matrix" and rows * rows != layer.dim:
        expected = (
            f"a square number for pose matrices, such as {rows * rows} or {(rows + 1) ** 2}; or pose "
            "vector"
        )
        raise FieldError(type(layer).__name__, "dim", layer.dim, expected)


def rows_of(layer: Any, children: CapsuleShape) -> int:
    """Return p, into how many rows a layer reads the poses of its children: as many as its own have.

    Args:
        layer: the layer, with fields `pose` and `dim`.
        children: the capsules that come in.

    Returns:
        The rows; 1 for vectors.

    Raises:
        FieldError: If the poses do not divide into so many.
    """
    rows = 1 if layer.pose == "vector" else math.isqrt(layer.dim)
    if children.dim % rows:
        expected = (
            f"vector, as the poses of the {children} that come in are no matrices of {rows} rows; or let "
            f"the layer before give poses of {layer.dim} components, as these have, or, where its poses are "
            f"vectors, of another multiple of {rows}"
        )
        raise FieldError(type(layer).__name__, "pose", layer.pose, expected)
    return rows
