"""Heinsen's routing of vectors: parents compete to predict the children, and use them by net benefit."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn.initializers import normal
from jaxtyping import Array, Float

from capsjax import numerics
from capsjax.routing.base import Parents
from capsjax.routing.logits import LogitRouting
from capsjax.routing.parameters import Parameter, Sizes, zeros
from capsjax.routing.self_attention import each_pair_once
from capsjax.types import Capsules, PerPair
from capsjax.votes import Votes


class PredictedVotes(NamedTuple):
    """Hold what Heinsen's routing depends on.

    Attributes:
        votes: the votes, of shape (*batch, i, j, e).
        poses: the children's poses, which parents predict, [*batch, i, d].
        trained: what is trained, by name.
    """

    votes: Votes
    poses: Float[Array, "*batch i d"]
    trained: dict[str, Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeinsenRouting(LogitRouting[PredictedVotes]):
    """Route each child to the parents that best predict it, and weigh it by what using it is worth.

    Of n children u_i, f_i = sigmoid(score_i . u_i / sqrt(n) + score_bias_i) says how present each is. With
    c = softmax of b over the parents, b = 0 at first, and N a normalisation to mean 0 and variance 1, r times

    phi_ij = use_ij f_i c_ij - ignore_ij f_i (1 - c_ij)

    v_j = N(sum_i phi_ij V_ij)

    and between two of them each parent predicts the children, in their space, and

    p_j = (v_j predict) * predict_scale_j + predict_bias_j

    b_ij = log sigmoid(similar_ij (u_i . p_j) + similar_bias_ij).

    A child that is used for a parent is worth `use`, one that is ignored costs `ignore`; both are trained, so
    the weights phi may be negative and do not add up to 1: they belong to the sum, the coupling is c. The
    paper's votes are made of x = u / sqrt(n), V_ij = (x_i * F1_j) F2 + F0_j, which are votes by shared
    matrices of x with a 1 behind it: `shared_votes(x1, W)`, W_j being F1_j F2 above F0_j.

    The coupling that a gradient mode treats is c. Presence, use, ignoring and the votes are in the last sum,
    which is always live; predictions and similarities get a gradient from those modes alone that go back
    through updates. The paper has no activations; here it is the length of the pose, which after the
    normalisation says little. Poses of a single component are not normalised.

    Args:
        num_iters: r, the number of readouts; the paper's 2.
        gradient: how the gradient treats the coupling; the released code goes through every iteration.
        tolerance: if given, an example's updates end once another would move none of its couplings by more
            than this; with `StopGradient()`.
        kind: its name in a configuration.

    Raises:
        FieldError: If a number is out of range, or the gradient does not fit.

    Reference:
        Heinsen 2022, "An algorithm for routing vectors in sequences"; the released code's
        EfficientVectorRouting, of a fixed number of children.
    """

    takes = frozenset({"poses"})
    activations = "none"

    num_iters: int = 2
    kind: Literal["heinsen"] = "heinsen"

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        """Describe presence, use, predictions and similarities, which begin as in the released code."""
        i, j, d, e = sizes
        d = d or 0
        pair, parent = "one number for each pair, [i, j]", "one vector for each parent, [j, d]"
        by_d = max(d, 1) ** -0.5
        known = {
            "score": ((i, d), "one vector for each child, [i, d]", normal(2 * by_d)),
            "score_bias": ((i,), "one number for each child, [i]", zeros),
            "use": ((i, j), pair, normal(1.0)),
            "ignore": ((i, j), pair, normal(1.0)),
            "predict": ((e, d), "from parents' poses to children's, [e, d]", normal(e**-0.5)),
            "predict_scale": ((j, d), parent, normal(1.0)),
            "predict_bias": ((j, d), parent, zeros),
            "similar": ((i, j), pair, normal(by_d)),
            "similar_bias": ((i, j), pair, zeros),
        }
        return {name: Parameter(*one) for name, one in known.items()}

    def prepare(
        self, votes: Votes, children: Capsules, params: Mapping[str, Array]
    ) -> PredictedVotes:
        """Take the votes, the children and what is trained.

        Args:
            votes: the votes, arranged to be contracted many times.
            children: their poses, [*batch, i, d].
            params: everything that `parameters` names.

        Returns:
            All three.
        """
        return PredictedVotes(votes, jnp.asarray(children.pose), dict(params))

    def parents(self, t: Any, coupling: PerPair, inputs: PredictedVotes) -> Parents:
        """Read the parents out: v_j = N(sum_i phi_ij V_ij).

        Args:
            t: number of the readout; the same for all.
            coupling: c_ij, as held.
            inputs: votes, poses and what is trained.

        Returns:
            Poses [*batch, j, e], and their lengths as activations [*batch, j].
        """
        del t
        votes, pairs, p = inputs.votes, inputs.votes.pairs, inputs.trained
        use, ignore = (
            pairs.from_array(jnp.broadcast_to(p[name], pairs.shape)) for name in ("use", "ignore")
        )
        # What is ignored is ignored by parents that a child has; for others it has no vote.
        worth = use * coupling - ignore * (each_pair_once(votes) - coupling)
        s = votes.combine(worth * pairs.by_child(self._presence(inputs)))  # [*batch, j, e]
        e = s.shape[-1]
        pose = s if e == 1 else numerics.layer_norm(s, jnp.ones(e, s.dtype), jnp.zeros(e, s.dtype))
        return Parents(pose, numerics.safe_norm(pose))  # activation [*batch, j]

    def respond(self, t: Any, logits: PerPair, parents: Parents, inputs: PredictedVotes) -> PerPair:
        """Replace the logits by how well parents predict the children.

        Args:
            t: number of the update; the same for all.
            logits: the old ones, which are replaced.
            parents: what was read out for them.
            inputs: votes, poses and what is trained.

        Returns:
            The new logits, as held.
        """
        del t, logits
        p = inputs.trained
        predicted = parents.pose @ p["predict"]  # [*batch, j, d]
        scale, bias = (
            jnp.broadcast_to(p[name], predicted.shape) for name in ("predict_scale", "predict_bias")
        )
        predicted = predicted * scale + bias
        # With the children as they are: only presence and votes take them divided by the root of n.
        similar = jnp.einsum("...id,...jd->...ij", inputs.poses, predicted)  # [*batch, i, j]
        slope, offset = (
            jnp.broadcast_to(p[name], similar.shape) for name in ("similar", "similar_bias")
        )
        return inputs.votes.pairs.from_array(jax.nn.log_sigmoid(similar * slope + offset))

    @staticmethod
    def _presence(inputs: PredictedVotes) -> Float[Array, "*batch i"]:
        """Return f_i = sigmoid(score_i . u_i / sqrt(n) + score_bias_i), of the n children that are there."""
        poses, p, there = inputs.poses, inputs.trained, inputs.votes.pairs.children
        score = jnp.sum(poses * jnp.broadcast_to(p["score"], poses.shape), axis=-1)  # [*batch, i]
        if there is None:
            score = score / jnp.sqrt(jnp.asarray(score.shape[-1], score.dtype))
        else:
            number = jnp.sum(there, axis=-1, keepdims=True, dtype=score.dtype)  # [*batch, 1]
            score = score / jnp.sqrt(jnp.maximum(number, 1))
        return jax.nn.sigmoid(score + jnp.broadcast_to(p["score_bias"], score.shape))
