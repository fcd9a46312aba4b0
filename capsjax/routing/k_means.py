"""Soft k-means: parents are means, and a child is coupled to the means that its vote is near."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.nn.initializers import normal
from jaxtyping import Array, Float

from capsjax.checks import check_float
from capsjax.routing import k_means_vjp
from capsjax.routing.base import Parents
from capsjax.routing.k_means_vjp import Points
from capsjax.routing.logits import LogitRouting
from capsjax.routing.means import means_of
from capsjax.routing.parameters import Parameter, Sizes
from capsjax.types import Capsules, PerPair
from capsjax.votes import Votes


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoftKMeansRouting(LogitRouting[Points]):
    """Cluster votes: couple a child to the means that its vote is near, and move the means to their children.

    c = softmax of b over the parents, and for r readouts

    m_j = sum_i c_ij V_ij / sum_i c_ij,   a_j = sum_i c_ij / sum_ik c_ik

    and between two of them

    b_ij = -inverse_temperature |V_ij - m_j|^2 / 2.

    It is EM with one variance, 1 / inverse_temperature, that is never fitted. Nothing in it is a capsule: of
    points x, which vote alike for every parent, `shared_votes(x, jnp.eye(e), parents=j)`, it is the
    k-means that everybody knows, and all five gradient modes fit it. Points need `centres` to begin from,
    without which every mean is the same mean for ever; votes of which each parent has its own need none:
    b = 0 at first.

    No update makes G(c) = sum_i H(c_i) - inverse_temperature sum_ij c_ij |V_ij - m_j|^2 / 2 smaller, H being
    the entropy, and a fixed point is where G is stationary. The derivative of the update with respect to
    the coupling is symmetric there, so `ImplicitGradient()` solves by conjugate gradients; it knows nothing
    of the centres, which get 0 from it, as from `StopGradient()`.

    Args:
        num_iters: r, the number of readouts: r - 1 updates, or at most that many with a tolerance.
        gradient: how the gradient treats the coupling c; the last means are always live.
        tolerance: if given, an example's updates end once another would move none of its couplings by more
            than this; for `StopGradient()` and `ImplicitGradient()`.
        inverse_temperature: how strongly nearness decides, above 0; without bound it is the hard k-means.
        kind: its name in a configuration.

    Raises:
        FieldError: If a number is out of range, or the gradient does not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from capsjax.votes import shared_votes
        >>> points = jnp.array([[0.0], [1.0], [10.0], [11.0]])
        >>> votes = shared_votes(points, jnp.eye(1), parents=2)
        >>> centres = jnp.array([[0.0], [8.0]])
        >>> SoftKMeansRouting(num_iters=5)(votes, params=centres).pose.ravel()
        Array([ 0.5, 10.5], dtype=float32)

    Reference:
        MacKay 2003, "Information theory, inference, and learning algorithms", section 20.2, version 1;
        Heinsen 2019, "An algorithm for routing capsules in all domains", has it as a routing.
    """

    activations = "shares"

    inverse_temperature: float = 1.0
    kind: Literal["soft_k_means"] = "soft_k_means"

    def __post_init__(self):
        super().__post_init__()
        check_float(self, "inverse_temperature", low=0, open_low=True)

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        """Describe where the means begin, [j, e], which may be left out."""
        axes = "one vector for each parent, [j, e]"
        return {"centres": Parameter((sizes.j, sizes.e), axes, normal(1.0), optional=True)}

    def prepare(self, votes: Votes, children: Capsules, params: Mapping[str, Array]) -> Points:
        """Take the votes, and the centres if there are any.

        Args:
            votes: the votes, arranged to be contracted many times.
            children: not used.
            params: may hold `centres`, [j, e].

        Returns:
            Both.
        """
        del children
        return Points(votes, params.get("centres"))

    def init(self, inputs: Points) -> PerPair:
        """Return the logits that the centres ask for; b = 0 without any."""
        votes, centres = inputs
        if centres is None:
            return votes.zeros()
        return self._near(jnp.broadcast_to(centres, votes.shape[:-3] + centres.shape), inputs)

    def parents(self, t: Any, coupling: PerPair, inputs: Points) -> Parents:
        """Read the parents out: means of their children's votes, and shares of the children.

        Args:
            t: number of the readout; the same for all.
            coupling: c_ij, as held.
            inputs: votes and centres.

        Returns:
            Means [*batch, j, e]; activations [*batch, j], which add up to 1 over the parents.
        """
        del t
        return means_of(inputs.votes, coupling)

    def respond(self, t: Any, logits: PerPair, parents: Parents, inputs: Points) -> PerPair:
        """Replace the logits by nearness: -inverse_temperature |V_ij - m_j|^2 / 2.

        Args:
            t: number of the update; the same for all.
            logits: the old ones, which are replaced.
            parents: what was read out for them.
            inputs: votes and centres.

        Returns:
            The new logits, as held.
        """
        del t, logits
        return self._near(parents.pose, inputs)

    def target(self, coupling: PerPair, inputs: Points) -> PerPair:
        """Return the logits that a coupling asks for, for `ImplicitGradient`.

        Args:
            coupling: c_ij, as held.
            inputs: votes and centres.

        Returns:
            Logits, as held; at a fixed point, those that the coupling was made from.
        """
        return self._near(self.parents(0, coupling, inputs).pose, inputs)  # any t: parents use none

    def residual(self, coupling: PerPair, state: PerPair, inputs: Points) -> Float[Array, "*batch"]:
        """Measure by how much one more update would move the coupling that it moves most.

        Args:
            coupling: the last c_ij, as held.
            state: the logits that it was made from.
            inputs: votes and centres.

        Returns:
            max_ij of the change, [*batch]; 0 at a fixed point.
        """
        del state
        return inputs.votes.pairs.max_abs(
            inputs.votes.couple(self.target(coupling, inputs)) - coupling
        )

    def forward(
        self, inputs: Points, num_updates: int
    ) -> tuple[PerPair, PerPair, Float[Array, "n *batch j e"]]:
        """Run the updates, keeping their means, for `ClosedForm`.

        Args:
            inputs: votes and centres.
            num_updates: n = r - 1.

        Returns:
            The coupling c_n and the logits b_n, as held, and the means m_0 to m_{n-1}.
        """

        def update(logits: PerPair, t: Array) -> tuple[PerPair, Array]:
            pose = self.parents(t, inputs.votes.couple(logits), inputs).pose
            return self._near(pose, inputs), pose

        logits, means = jax.lax.scan(update, self.init(inputs), jnp.arange(num_updates))
        return inputs.votes.couple(logits), logits, means

    def adjoint(
        self,
        saved: Float[Array, "n *batch j e"],
        inputs: Points,
        cotangents: tuple[PerPair, PerPair],
    ) -> Points:
        """Pull cotangents of the coupling and the logits back to votes and centres, for `ClosedForm`.

        Args:
            saved: the means that `forward` kept.
            inputs: votes and centres.
            cotangents: those of c_n and of b_n, as held.

        Returns:
            Cotangents of votes and centres.
        """
        return Points(*k_means_vjp.adjoint(saved, inputs, *cotangents, self.inverse_temperature))

    def _near(self, centre: Float[Array, "*batch j e"], inputs: Points) -> PerPair:
        return k_means_vjp.near(inputs.votes, centre, self.inverse_temperature)[0]
