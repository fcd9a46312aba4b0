"""Variational Bayes routing: EM with a prior on everything that it fits."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma
from jaxtyping import Array, Float

from capsjax import numerics
from capsjax.routing.em import EMInputs
from capsjax.routing.logits import LogitRouting
from capsjax.routing.parameters import Parameter, Sizes, zeros
from capsjax.routing.units import in_squared_units, unit_of
from capsjax.types import Capsules, PerPair
from capsjax.votes import Votes


class Posterior(NamedTuple):
    """Hold what is believed of the parents.

    Attributes:
        pose: m_j, the mean of the mean, [*batch, j, e].
        activation: a_j, [*batch, j].
        mass: N_j, [*batch, j].
        scale: 1 / Psi_j, in units of unit^2, [*batch, j, e].
        log_weight: E log pi_j, [*batch, j].
        log_precision: E log |Lambda_j|, [*batch, j].
        unit: what deviations are measured in, 1 unless votes are huge, [*batch].
    """

    pose: Float[Array, "*batch j e"]
    activation: Float[Array, "*batch j"]
    mass: Float[Array, "*batch j"]
    scale: Float[Array, "*batch j e"]
    log_weight: Float[Array, "*batch j"]
    log_precision: Float[Array, "*batch j"]
    unit: Float[Array, "*batch"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class VariationalRouting(LogitRouting[EMInputs]):
    """Fit the posterior of a mixture of diagonal Gaussians to the votes, and couple by what it expects.

    R is the softmax of the logits b over the parents, b = 0 at first. With r_ij = R_ij a_i, N_j = sum_i r_ij
    and mu_j = sum_i r_ij V_ij / N_j, each of r readouts finds

    m_j = N_j mu_j / (1 + N_j),   scale_jh = 1 + sum_i r_ij (V_ijh - mu_jh)^2 + N_j mu_jh^2 / (1 + N_j)

    E log pi_j = psi(1 + N_j) - psi(sum_k (1 + N_k))

    E log |Lambda_j| = sum_{h=0}^{e-1} (psi((nu_j - h) / 2) - log scale_jh) + e log 2,   nu_j = e + 1 + N_j

    a_j = logistic(beta_a,j - beta_u,j - exp(E log pi_j) H_j),   H_j = (e log(2 pi e) - E log |Lambda_j|) / 2

    with psi the digamma function, and between two of them

    b_ij = E log pi_j + (E log |Lambda_j| - e log 2 pi - e / (1 + N_j) - distance_ij) / 2

    distance_ij = nu_j sum_h (V_ijh - m_jh)^2 / scale_jh.

    The priors are the released code's: weights Dirichlet(1), means at 0 with the strength of one child,
    precisions Wishart of the identity with e + 1 degrees of freedom. So a parent without any mass has pose 0
    and needs no floor; and votes are measured in absolute units, unlike in EM.

    The released code's couplings do not add up to 1: it leaves pi out of the numerator of R but not out of
    the sum that divides it. Here R is the paper's. Its batch normalisations of a_j and m_j make an example
    depend on its batch and belong to the network. Only the difference of both betas counts.

    The coupling that a gradient mode treats is R; the last posterior is always live. As in EM, holding R
    constant is *another* gradient where a loss is on the activations, and on poses of votes that are not
    small beside the prior.

    Args:
        num_iters: r, the number of posteriors; the paper's 3.
        gradient: how the gradient treats the coupling R; the released code goes through every iteration.
        tolerance: if given, an example's updates end once another would move none of its couplings by more
            than this; with `StopGradient()`.
        kind: its name in a configuration.

    Raises:
        FieldError: If a number is out of range, or the gradient does not fit.

    Reference:
        De Sousa Ribeiro, Leontidis and Kollias 2020, "Capsule routing via variational Bayes"; Bishop 2006,
        "Pattern recognition and machine learning", section 10.2.
    """

    takes = frozenset({"activation"})

    kind: Literal["variational"] = "variational"

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        """Describe both betas, 0 at first."""
        axes = "one number for each parent, [j]"
        return {name: Parameter((sizes.j,), axes, zeros) for name in ("beta_u", "beta_a")}

    def prepare(self, votes: Votes, children: Capsules, params: Mapping[str, Array]) -> EMInputs:
        """Take the votes, the children's activations and both betas.

        Args:
            votes: the votes, arranged to be contracted many times.
            children: their activation, [*batch, i].
            params: `beta_u` and `beta_a`, [j] each.

        Returns:
            All four.
        """
        activation = jnp.asarray(children.activation)
        return EMInputs(votes, activation, params["beta_u"], params["beta_a"])

    def parents(self, t: Any, coupling: PerPair, inputs: EMInputs) -> Posterior:
        """Find the posterior of the parents.

        Args:
            t: number of the readout; the same for all.
            coupling: R_ij, as held.
            inputs: votes, activations and betas.

        Returns:
            What is believed of means, precisions and weights, and activations.
        """
        del t
        votes, pairs = inputs.votes, inputs.votes.pairs
        assigned = coupling * pairs.by_child(inputs.activation)  # r_ij, as held
        mass = pairs.sum_children(assigned)  # N_j, [*batch, j]
        share = assigned / pairs.by_parent(numerics.at_least_tiny(mass))
        unit = unit_of(votes)  # [*batch]
        mean, spread, _ = votes.fit(share, share, jnp.zeros_like(unit), unit)  # mu_j [*batch, j, e]
        # The prior's scale is 1.
        prior = in_squared_units(1, unit)[..., None, None]  # [*batch, 1, 1]
        shrink = (mass / (1 + mass))[..., None]  # [*batch, j, 1]
        scale = prior + spread * mass[..., None] + shrink * jnp.square(mean / unit[..., None, None])
        e = mean.shape[-1]
        freedom = (e + 1 + mass)[..., None]  # nu_j, [*batch, j, 1]
        steps = jnp.broadcast_to(jnp.arange(e, dtype=mean.dtype), mean.shape)
        log_scale = jnp.log(scale) + 2 * jnp.log(unit)[..., None, None]
        log_precision = jnp.sum(digamma((freedom - steps) / 2) - log_scale, axis=-1) + e * math.log(
            2
        )
        log_weight = self._log_weight(mass, pairs.parents)
        entropy = (e * math.log(2 * math.pi * math.e) - log_precision) / 2  # H_j, [*batch, j]
        beta = jnp.broadcast_to(inputs.beta_a - inputs.beta_u, mass.shape)
        activation = jax.nn.sigmoid(beta - jnp.exp(log_weight) * entropy)
        return Posterior(shrink * mean, activation, mass, scale, log_weight, log_precision, unit)

    def respond(self, t: Any, logits: PerPair, parents: Posterior, inputs: EMInputs) -> PerPair:
        """Replace the logits by the expected log density of each vote, weight included.

        Args:
            t: number of the update; the same for all.
            logits: the old ones, which are replaced.
            parents: the posterior that was found for them.
            inputs: votes, activations and betas.

        Returns:
            The new logits, as held.
        """
        del t, logits
        votes, e = inputs.votes, parents.pose.shape[-1]
        expected = parents.log_precision - e * math.log(2 * math.pi) - e / (1 + parents.mass)
        constant = parents.log_weight + expected / 2  # [*batch, j]
        precision = (e + 1 + parents.mass)[..., None] / parents.scale
        distance = votes.distance(parents.pose, precision, parents.unit)
        return votes.pairs.by_parent(constant) - distance / 2

    @staticmethod
    def _log_weight(
        mass: Float[Array, "*batch j"], there: Array | None
    ) -> Float[Array, "*batch j"]:
        """Return E log pi_j = psi(alpha_j) - psi(sum_k alpha_k), alpha = 1 + N, of parents that there are."""
        alpha = 1 + mass
        counted = alpha if there is None else jnp.where(there, alpha, 0)
        # Where no parent is there nothing reads it: any number above 0.
        whole = jnp.maximum(jnp.sum(counted, axis=-1, keepdims=True), 1)
        return digamma(alpha) - digamma(whole)
