"""Behaviour to interest: routing by agreement that begins with given logits, for recommenders."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn.initializers import normal
from jaxtyping import Array, Bool

from capsjax import numerics
from capsjax.checks import UserError
from capsjax.numerics import as_array, described
from capsjax.routing.base import Parents
from capsjax.routing.dynamic_vjp import Kept
from capsjax.routing.logits import LogitRouting
from capsjax.routing.parameters import Parameter, Sizes
from capsjax.types import Capsules, PerPair
from capsjax.votes import Votes


class BegunVotes(NamedTuple):
    """Hold what behaviour-to-interest routing depends on.

    Attributes:
        votes: the votes of the behaviours, of shape (*batch, i, j, e).
        initial: the logits that it begins with, as the votes hold them.
    """

    votes: Votes
    initial: PerPair


@dataclasses.dataclass(frozen=True, kw_only=True)
class InterestRouting(LogitRouting[BegunVotes]):
    """Extract a user's interests from what they did: routing by agreement from given logits.

    With b_ij = initial_ij at first, c = softmax of b over the interests j, and for r readouts

    v_j = squash(sum_i c_ij V_ij)

    and between two of them b_ij <- b_ij + V_ij . v_j. It is `DynamicRouting` from another beginning. All
    pairs share one matrix, V_ij = W u_i, `shared_votes(u, W, parents=j)`, so that users may have done any
    number of things; and as a behaviour then votes alike for every interest, interests differ by their
    beginning alone: from zeros they would stay one interest. Behaviours that are padding, and interests that
    a user does not have (`interest_mask`), are left out by `mask`.

    `initial` is drawn from a normal distribution of deviation 1 and given: a call draws nothing, so that a
    user has the same interests whenever they are asked for, alone and in any batch. Under `StopGradient()`
    it gets no gradient and stays as drawn, which is the paper's method and the released ComiRec's; other
    modes train it.

    Args:
        num_iters: r, the number of readouts: r - 1 updates of the logits.
        gradient: how the gradient treats the coupling; the released ComiRec's is `StopGradient()`.
        tolerance: if given, an example's updates end once another would move none of its couplings by more
            than this; with `StopGradient()`.
        kind: its name in a configuration.

    Raises:
        FieldError: If a number is out of range, or the gradient does not fit.

    Reference:
        Li et al. 2019, "Multi-interest network with dynamic routing for recommendation at Tmall" (MIND),
        section 4; Cen et al. 2020, "Controllable multi-interest framework for recommendation" (ComiRec).
    """

    kind: Literal["interest"] = "interest"

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        """Describe the logits that it begins with, drawn from a normal distribution."""
        axes = "one number for each pair, [i, j]"
        return {"initial": Parameter((sizes.i, sizes.j), axes, normal(1.0))}

    def prepare(self, votes: Votes, children: Capsules, params: Mapping[str, Array]) -> BegunVotes:
        """Take the votes and the logits to begin with.

        Args:
            votes: the votes, arranged to be contracted many times.
            children: not used.
            params: `initial`, [i, j].

        Returns:
            Both, the logits as the votes hold them.
        """
        del children
        initial = jnp.broadcast_to(params["initial"], votes.shape[:-1])
        return BegunVotes(votes, votes.pairs.from_array(initial))

    def init(self, inputs: BegunVotes) -> PerPair:
        """Return the given logits."""
        return inputs.initial

    def parents(self, t: Any, coupling: PerPair, inputs: BegunVotes) -> Parents:
        """Read the interests out: v_j = squash(sum_i c_ij V_ij).

        Args:
            t: number of the readout; the same for all.
            coupling: c_ij, as held.
            inputs: votes and first logits.

        Returns:
            Interests [*batch, j, e], and their lengths as activations [*batch, j].
        """
        del t
        pose = numerics.squash(inputs.votes.combine(coupling))
        return Parents(pose, numerics.safe_norm(pose))  # activation [*batch, j]

    def respond(self, t: Any, logits: PerPair, parents: Parents, inputs: BegunVotes) -> PerPair:
        """Add the agreement to the logits: b_ij + V_ij . v_j.

        Args:
            t: number of the update; the same for all.
            logits: b_ij, as held.
            parents: what was read out for them.
            inputs: votes and first logits.

        Returns:
            The new logits, as held.
        """
        del t
        return logits + inputs.votes.agreement(parents.pose)

    def forward(self, inputs: BegunVotes, num_updates: int) -> tuple[PerPair, PerPair, Kept]:
        """Run the updates, for `ClosedForm`.

        Args:
            inputs: votes and first logits.
            num_updates: n = r - 1.

        Returns:
            The coupling c_n and the logits b_n, as held, and what `adjoint` needs.
        """
        votes = inputs.votes

        def update(logits: PerPair, _: None) -> tuple[PerPair, Array]:
            s = votes.combine(votes.couple(logits))  # [*batch, j, e]
            return logits + votes.agreement(numerics.squash(s)), s

        logits, s = jax.lax.scan(update, inputs.initial, length=num_updates)
        coupling = votes.couple(logits)
        return coupling, logits, Kept(s, coupling)

    def adjoint(
        self, saved: Kept, inputs: BegunVotes, cotangents: tuple[PerPair, PerPair]
    ) -> BegunVotes:
        """Pull cotangents of the coupling and the logits back to votes and first logits, for `ClosedForm`.

        The recursion of routing by agreement (`dynamic_vjp`), with b_t = initial + V . S_t, S_t being the sum
        of the poses before t. It goes on to b_0 here, as that is trained: each b_bar_t is part of its
        cotangent.

        Args:
            saved: what `forward` kept.
            inputs: votes and first logits.
            cotangents: those of c_n and of b_n, as held.

        Returns:
            Cotangents of votes and first logits.
        """
        votes, initial = inputs
        coupling_bar, logits_bar = cotangents
        # S_0 = 0, and S_n is the sum of all.
        sums = jnp.cumsum(numerics.squash(saved.s), axis=0)
        sums = jnp.concatenate([jnp.zeros((1, *sums.shape[1:]), sums.dtype), sums])

        def backward(
            carry: tuple[Array, PerPair, Votes], step: tuple[Array, Array]
        ) -> tuple[tuple[Array, PerPair, Votes], None]:
            total_bar, initial_bar, votes_bar = carry
            s, total = step
            s_bar = numerics.squash_jacobian(s, total_bar)
            agreed, c_bar = votes.agreements([total, s_bar])
            coupling = votes.couple(initial + agreed)
            b_bar = votes.pairs.couple_vjp(coupling, c_bar)
            more, votes_bar = votes.adjoint([b_bar, coupling], [total, s_bar], votes_bar)
            return (total_bar + more, initial_bar + b_bar, votes_bar), None

        b_bar = votes.pairs.couple_vjp(saved.coupling, coupling_bar) + logits_bar
        total_bar, votes_bar = votes.adjoint([b_bar], [sums[-1]], None)
        start = total_bar, b_bar, votes_bar
        (_, initial_bar, votes_bar), _ = jax.lax.scan(
            backward, start, (saved.s, sums[:-1]), reverse=True
        )
        return BegunVotes(votes_bar, initial_bar)


def interest_mask(children: Bool[Array, "*batch i"], parents: int) -> Bool[Array, "*batch j"]:
    """Return which interests a user has: max(1, min(j, floor(log2 n))) of them, for n behaviours.

    Args:
        children: True for a behaviour that is there, False for padding, [*batch, i].
        parents: how many interests there are at most, j.

    Returns:
        True for the first interests, False for the rest, [*batch, j]; for `mask`.

    Raises:
        UserError: If `children` are not Booleans.

    Example:
        >>> import jax.numpy as jnp
        >>> history = jnp.arange(9)[None] < jnp.array([[1], [3], [4], [9]])  # of 1, 3, 4 and 9 behaviours
        >>> interest_mask(history, 3).sum(-1).tolist()
        [1, 1, 2, 3]

    Reference:
        Li et al. 2019, section 4, where nothing is said of rounding.
    """
    found = as_array("interest_mask: children", children)
    if found.dtype != bool or found.ndim < 1:
        raise UserError(
            f"interest_mask: got children {described(found)}, expected bool[*batch, i]: True for a "
            "behaviour; numbers become such a mask by a comparison, x > 0"
        )
    number = jnp.sum(found, axis=-1, keepdims=True)  # [*batch, 1]
    # Whole numbers: the logarithm of 8 can come out just below 3.
    asked = 2 ** jnp.minimum(
        jnp.arange(parents) + 1, 30
    )  # behaviours that interest k asks for, [j]
    asked = jnp.where(jnp.arange(parents) == 0, 0, asked)
    return number >= jnp.broadcast_to(asked, (*number.shape[:-1], parents))
