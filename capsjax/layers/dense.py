"""Capsules each of which takes votes of every capsule below."""

import dataclasses
from typing import Any, Literal

from flax import nnx
from jaxtyping import Array, Float

from capsjax.checks import UserError, check_choice, check_int
from capsjax.layers.base import (
    Around,
    CapsuleShape,
    Initialisation,
    Layer,
    Passed,
    Shape,
    take_capsules,
)
from capsjax.layers.initialisers import KeepLength, transformation_initialiser
from capsjax.layers.routed import check_routing, passed, route, routing_of, train_routing
from capsjax.numerics import safe_norm
from capsjax.routing import Routing, Sizes
from capsjax.types import Capsules, RoutingResult
from capsjax.votes import FORMS, VoteForm, Votes, form_votes


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseConfig(Layer):
    """Describe capsules each of which takes votes of every capsule below.

    Args:
        types: j, the number of capsules; None for one of each class.
        dim: e, components of a capsule's pose.
        routing: how the capsules below choose among these; None for the network's routing.
        routing_bias: whether the routing's optional parameters are trained: a bias that is added to s_j at
            every iteration, as in the released code of 2017; j e more parameters.
        votes: "auto" for what is faster on this machine, by the number of examples and the sizes; "linear"
            votes are never formed; "dense" ones are, once for each batch, and allow forward mode.
        kind: its name in a configuration.
    """

    types: int | None = None
    dim: int = 16
    routing: Routing | None = None
    routing_bias: bool = False
    votes: VoteForm = "auto"
    kind: Literal["dense_capsules"] = "dense_capsules"

    def __post_init__(self):
        if self.types is not None:
            check_int(self, "types", low=1)
        check_int(self, "dim", low=1)
        check_routing(self)
        check_choice(self, "votes", FORMS)

    def shape(self, given: Shape, around: Around) -> CapsuleShape:
        """Compute the capsules that come out.

        Args:
            given: the shape of what comes in.
            around: what the network says.

        Returns:
            One position, with `types` capsules or one of each class.

        Raises:
            FieldError: If features come in.
        """
        take_capsules(self, given)
        return CapsuleShape((1, 1), self.types or around.num_classes, self.dim)

    def build(self, given: Shape, around: Around, *, rngs: nnx.Rngs) -> "DenseCapsules":
        """Make the transformation matrices and what the routing trains.

        Args:
            given: the shape of what comes in.
            around: what the network says.
            rngs: random numbers for the parameters.

        Returns:
            A module from capsules to a `RoutingResult`.
        """
        children = take_capsules(self, given)
        parents = self.types or around.num_classes
        return DenseCapsules(
            Sizes(i=children.capsules, j=parents, d=children.dim, e=self.dim),
            routing=routing_of(self, around.routing),
            bias=self.routing_bias,
            form=self.votes,
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


class DenseCapsules(nnx.Module):
    """Connect every child capsule to every parent by a transformation matrix, and route.

    Args:
        sizes: children i, parents j, and the components d and e of their poses.
        routing: how children choose among parents.
        bias: whether the routing's optional parameters are trained: for routing by agreement the bias,
            [j, e], added to s_j at every iteration.
        form: how the votes are held; see `form_votes`.
        initialisation: how the parameters begin: `KeepLength(l)`, with parents as long as children of length
            l, or as those of a network do.
        rngs: random numbers for the parameters.

    Raises:
        UserError: If the sizes do not say d.

    Reference:
        Sabour, Frosst and Hinton 2017, section 2.
    """

    def __init__(
        self,
        sizes: Sizes,
        *,
        routing: Routing,
        bias: bool = False,
        form: VoteForm = "auto",
        initialisation: Initialisation | KeepLength = KeepLength(),
        rngs: nnx.Rngs,
    ):
        if sizes.d is None:
            raise UserError(
                f"DenseCapsules: got {sizes}, expected d, the components of a child's pose"
            )
        self.routing, self.form = routing, form
        draw = transformation_initialiser(initialisation)
        shape = (sizes.i, sizes.j, sizes.d, sizes.e)
        self.weight = nnx.Param(draw(rngs.params(), shape))  # W, [i, j, d, e]
        train_routing(self, sizes, optional=bias, initialisation=initialisation, rngs=rngs)

    def votes(self, poses: Float[Array, "b i d"]) -> Votes:
        """Return the votes of children, of shape (b, i, j, e)."""
        return form_votes(poses, self.weight[...], self.form)

    def __call__(
        self, children: Capsules | Float[Array, "b i d"], *, trace: bool = False
    ) -> RoutingResult:
        """Route children.

        Args:
            children: capsules, or their poses alone, [b, i, d], whose lengths are then the activations.
            trace: whether to return every iteration, as data.

        Returns:
            Poses, couplings, logits and activations of the parents.

        Raises:
            UserError: If there are no poses, or they do not fit.
        """
        poses, activation = (
            children if isinstance(children, Capsules) else (children, safe_norm(children))
        )
        if poses is None:
            raise UserError("DenseCapsules: got capsules without poses, expected poses [b, i, d]")
        takes = {"poses": lambda: poses, "activation": lambda: activation}
        return route(self, self.votes(poses), takes, trace=trace)
