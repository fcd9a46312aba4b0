"""What routings by agreement have in common: they compare votes with squashed sums."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax import numerics
from capsjax.checks import check_bool
from capsjax.routing.base import Parents
from capsjax.routing.logits import LogitRouting
from capsjax.routing.parameters import Parameter, Sizes
from capsjax.types import Capsules, PerPair
from capsjax.votes import Votes
from capsjax.votes.sharding import vary_as


class BiasedVotes(NamedTuple):
    """Hold what the 2017 paper's routing depends on: votes, and the released code's bias.

    Attributes:
        votes: the votes, of shape (*batch, i, j, e).
        bias: added to every s_j, at every iteration, [j, e]; zeros if there is none.
    """

    votes: Votes
    bias: Float[Array, "j e"]

    @classmethod
    def of(cls, votes: Votes, params: Mapping[str, Array]) -> "BiasedVotes":
        """Take the votes, and the bias if there is one.

        Args:
            votes: the votes, of shape (*batch, i, j, e).
            params: may hold `bias`, [j, e].

        Returns:
            Both, with zeros for a bias that is not given.
        """
        # Zeros, and no second program; over a mesh they vary as the votes do, which loops ask of their carry.
        none = vary_as(jnp.zeros(votes.shape[-2:], votes.dtype), votes)
        return cls(votes, params.get("bias", none))

    @staticmethod
    def parameters(sizes: Sizes) -> dict[str, Parameter]:
        """Describe the bias, which may be left out."""
        axes = "one vector for each parent, [j, e]"
        return {"bias": Parameter((sizes.j, sizes.e), axes, optional=True)}

    def readout(self, coupling: PerPair) -> Parents:
        """Return v_j = squash(sum_i c_ij vote_ij + bias_j), and its length."""
        s = self.votes.combine(coupling)  # [*batch, j, e]
        # The released code's bias is inside the iterations, so it takes part in every agreement.
        pose = numerics.squash(s + jnp.broadcast_to(self.bias, s.shape))
        return Parents(pose, numerics.safe_norm(pose))  # activation [*batch, j]


@runtime_checkable
class Readable(Protocol):
    """Name what routing by agreement asks of its inputs, such as `BiasedVotes`."""

    @property
    def votes(self) -> Votes:
        """The votes that are routed."""
        ...

    def readout(self, coupling: PerPair) -> Parents:
        """Return the parents that a coupling makes of the votes."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgreementRouting(LogitRouting[BiasedVotes]):
    """Define a routing that compares votes with squashed sums: what is left to write is `respond`.

    Args:
        leaky: adds a zero logit for "none of the parents", as the released code can.
    """

    leaky: bool = False

    def __post_init__(self):
        super().__post_init__()
        check_bool(self, "leaky")

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        """Describe the bias, [j, e], which may be left out."""
        return BiasedVotes.parameters(sizes)

    def prepare(self, votes: Votes, children: Capsules, params: Mapping[str, Array]) -> BiasedVotes:
        """Take the votes and the bias.

        Args:
            votes: the votes, arranged to be contracted many times.
            children: not used.
            params: may hold `bias`, [j, e].

        Returns:
            Votes and bias.
        """
        del children
        return BiasedVotes.of(votes, params)

    def couple(self, state: PerPair, inputs: Readable) -> PerPair:
        """Normalise the logits over each child's parents: c = softmax(b).

        Args:
            state: the logits b_ij, as held.
            inputs: what `prepare` returned.

        Returns:
            c_ij, as held; of a leaky child they sum to less than 1.
        """
        return inputs.votes.couple(state, self.leaky)

    def parents(self, t: Any, coupling: PerPair, inputs: Readable) -> Parents:
        """Read the parents out: v_j = squash(sum_i c_ij vote_ij + bias_j).

        Args:
            t: number of the readout; the same for all.
            coupling: c_ij, as held.
            inputs: what `prepare` returned.

        Returns:
            Poses [*batch, j, e], and their lengths as activations [*batch, j].
        """
        del t
        return inputs.readout(coupling)
