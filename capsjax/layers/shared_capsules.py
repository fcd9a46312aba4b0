"""Capsules without a position above a grid: matrices are shared over positions, and places are added."""

import dataclasses
import math
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from capsjax.checks import check_float, check_int
from capsjax.layers.base import (
    Around,
    CapsuleShape,
    Initialisation,
    Layer,
    Passed,
    Shape,
    take_capsules,
)
from capsjax.layers.conv_capsules import PoseKind, check_pose, rows_of
from capsjax.layers.initialisers import KeepLength, shared_initialiser
from capsjax.layers.routed import (
    check_routing,
    passed,
    route,
    routing_of,
    train_routing,
    without_positions,
)
from capsjax.routing import Routing, Sizes
from capsjax.types import Capsules, RoutingResult
from capsjax.votes import WindowVotes


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedCapsulesConfig(Layer):
    """Describe capsules that take votes of every capsule of a grid, by one matrix for each type of child.

    All children of a type share their transformation matrices, wherever they are. Where they are is kept by
    coordinate addition: a child's place is added to its votes, in the first two rows of the last column of a
    pose matrix, or the first two components of a vector.

    Args:
        types: j, the number of capsules; None for one of each class.
        dim: components of a capsule's pose; of a matrix a square number, such as 16 for 4 by 4.
        pose: "vector", or "matrix" for poses whose rows share their transformation matrices.
        coordinates: what is added at the last row and column, with minus it at the first; 0 for nothing.
        routing: how the capsules below choose among these; None for the network's routing.
        routing_bias: whether the routing's optional parameters are trained, such as a bias [j, e].
        kind: its name in a configuration.

    Reference:
        Hinton, Sabour and Frosst 2018, section 4, "coordinate addition".
    """

    types: int | None = None
    dim: int = 16
    pose: PoseKind = "vector"
    coordinates: float = 0.0
    routing: Routing | None = None
    routing_bias: bool = False
    kind: Literal["shared_capsules"] = "shared_capsules"

    def __post_init__(self):
        if self.types is not None:
            check_int(self, "types", low=1)
        # Two rows or components, to hold both coordinates.
        check_int(self, "dim", low=2 if self.coordinates else 1)
        check_pose(self)
        check_float(self, "coordinates", low=0.0)
        check_routing(self)

    def shape(self, given: Shape, around: Around) -> CapsuleShape:
        """Compute the capsules that come out.

        Args:
            given: the shape of what comes in.
            around: what the network says.

        Returns:
            One position, with `types` capsules or one of each class.

        Raises:
            FieldError: If features come in, or their poses cannot be read as matrices of as many rows as
                these have.
        """
        rows_of(self, take_capsules(self, given))
        return CapsuleShape((1, 1), self.types or around.num_classes, self.dim)

    def build(self, given: Shape, around: Around, *, rngs: nnx.Rngs) -> "SharedCapsules":
        """Make the transformation matrices and what the routing trains.

        Args:
            given: the shape of what comes in.
            around: what the network says.
            rngs: random numbers for the parameters.

        Returns:
            A module from capsules to a `RoutingResult`.
        """
        return SharedCapsules(
            take_capsules(self, given),
            self.types or around.num_classes,
            self,
            routing=routing_of(self, around.routing),
            initialisation=around.initialisation,
            rngs=rngs,
        )

    def apply(self, module: Any, value: Any, *, trace: bool = False) -> Passed:
        """Route the capsules that come in.

        Args:
            module: what `build` made.
            value: the children, poses [b, i, d] and activations [b, i].
            trace: whether the routing returns each of its iterations.

        Returns:
            The parents, poses [b, j, e] and activations [b, j], and what routing did.
        """
        return passed(module(value, trace=trace))


class SharedCapsules(nnx.Module):
    """Connect every capsule of a grid to every parent by a matrix of its type, and route.

    Args:
        children: the grid, types and dimension of the capsules that come in.
        parents: j.
        config: the parents' poses and what coordinates count.
        routing: how children choose among parents.
        initialisation: how the parameters begin; see `KeepLength`.
        rngs: random numbers for the parameters.
    """

    def __init__(
        self,
        children: CapsuleShape,
        parents: int,
        config: SharedCapsulesConfig,
        *,
        routing: Routing,
        initialisation: Initialisation | KeepLength = KeepLength(),
        rngs: nnx.Rngs,
    ):
        self.children, self.config, self.routing = children, config, routing
        self.rows = rows_of(config, children)
        d, e = children.dim // self.rows, config.dim // self.rows
        draw = shared_initialiser(initialisation, math.prod(children.grid))
        weight = draw(rngs.params(), (children.types, parents, d, e))
        self.weight = nnx.Param(weight)  # W, [a, j, d, e]
        sizes = Sizes(children.capsules, parents, children.dim, config.dim)
        train_routing(
            self, sizes, optional=config.routing_bias, initialisation=initialisation, rngs=rngs
        )

    def votes(self, poses: Float[Array, "b i d"]) -> WindowVotes:
        """Return the votes of children, as those of one window that sees the whole grid.

        Args:
            poses: numbered position by position, type by type, [b, h w a, d].

        Returns:
            Votes of shape (b, 1, 1, i, j, e).
        """
        (h, w), a, dim = self.children
        u = poses.reshape(poses.shape[0], h, w, a, self.rows, dim // self.rows)
        W = self.weight[...]  # [a, j, d, e]
        if self.config.coordinates:
            added, matrices = self._places()
            added = jnp.broadcast_to(added.astype(u.dtype), (*u.shape[:-1], added.shape[-1]))
            u = jnp.concatenate([u, added], axis=-1)
            matrices = jnp.broadcast_to(matrices, (*W.shape[:2], *matrices.shape))
            W = jnp.concatenate([W, matrices.astype(W.dtype)], axis=-2)
        return WindowVotes(u, jnp.broadcast_to(W, (h, w, *W.shape)))

    def _places(self) -> tuple[Array, Array]:
        """Return components to add to poses, [h, w, 1, p, n], and their rows of the matrices, [n, e]."""
        (h, w), e = self.children.grid, self.config.dim // self.rows
        lines = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in (h, w))
        place = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1)  # [h, w, 2]
        place = self.config.coordinates * place
        if self.rows > 1:  # a component of the first two rows, which goes into the last column
            rows = np.zeros((h, w, self.rows))
            rows[..., :2] = place
            return jnp.asarray(rows[:, :, None, :, None]), jnp.eye(e)[-1:]
        return jnp.asarray(place[:, :, None, None]), jnp.eye(e)[
            :2
        ]  # two components of the only row

    def __call__(self, children: Capsules, *, trace: bool = False) -> RoutingResult:
        """Route children.

        Args:
            children: capsules, numbered position by position, type by type: poses [b, h w a, d] and
                activations [b, h w a].
            trace: whether to return every iteration, as data.

        Returns:
            Poses [b, j, e], couplings and logits [b, i, j], and activations [b, j] of the parents.
        """
        poses, activation = (jnp.asarray(x) for x in children)
        takes = {
            "poses": lambda: poses[:, None, None],
            "activation": lambda: activation[:, None, None],
        }
        return without_positions(route(self, self.votes(poses), takes, trace=trace))
