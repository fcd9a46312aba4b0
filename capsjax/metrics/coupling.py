"""How undecided a routing is, and how well its votes agree."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from capsjax.metrics.base import Metric
from capsjax.numerics import compute_dtype
from capsjax.types import Batch, NetworkOutput


@dataclasses.dataclass(frozen=True, kw_only=True)
class CouplingEntropy(Metric):
    """Describe `entropy`, that of a child's coupling in the last iteration, averaged over children, in nats.

    Args:
        kind: its name in a configuration.
    """

    kind: Literal["coupling_entropy"] = "coupling_entropy"

    @property
    def name(self) -> str:
        """The column: `entropy`."""
        return "entropy"

    def __call__(self, output: NetworkOutput, batch: Batch) -> Float[Array, "b"]:
        """Return `coupling_entropy` of the class capsules' routing, [b]; 0 where nothing is routed."""
        del batch
        if output.coupling is None:  # nothing is undecided
            return jnp.zeros_like(output.lengths[:, 0])
        return children_entropy(output.coupling)


def coupling_entropy(coupling: Float[Array, "*batch i j"]) -> Float[Array, "*batch"]:
    """Measure how undecided routing is: -sum_j c_ij log c_ij, averaged over children, in nats.

    Uniform coupling over J parents gives log J; every child choosing one parent gives 0. Leaky coupling
    is taken as it is: the share that leaked away is not counted.

    Args:
        coupling: coupling coefficients, [*batch, i, j].

    Returns:
        Mean entropy, of the coupling's type, [*batch]; 0 if there is no child. Its gradient,
        -(1 + log c_ij) over the number of children, has no bound at c_ij = 0 and is taken as 0 there: a
        softmax multiplies it by c_ij.
    """
    c = coupling.astype(compute_dtype(coupling.dtype))
    total = -jnp.sum(_x_log_x(c), axis=(-2, -1))  # over pairs, [*batch]
    return (total / max(c.shape[-2], 1)).astype(coupling.dtype)


# A `where` alone would not do: its gradient at 0 is log 0 times 0, which is NaN.
@jax.custom_jvp
def _x_log_x(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    return jnp.where(_gone(x), 0, x * _log(x))


@_x_log_x.defjvp
def _x_log_x_jvp(
    primals: tuple[Float[Array, "*n"]], tangents: tuple[Float[Array, "*n"]]
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    # 1 + log x, of which x * (1 / x) would lose the 1 where x times a tangent is subnormal.
    (x,), (dx,) = primals, tangents
    return _x_log_x(x), jnp.where(_gone(x), 0, 1 + _log(x)) * dx


def _log(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    return jnp.log(jnp.where(_gone(x), 1, x))


def _gone(x: Float[Array, "*n"]) -> Bool[Array, "*n"]:
    """Return where x is zero, or subnormal, which processors take as zero in some operations only."""
    return jnp.abs(x) < jnp.finfo(x.dtype).tiny


def children_entropy(coupling: Float[Array, "b ..."]) -> Float[Array, "b"]:
    """Measure the entropy of a child's coupling over all its parents, averaged over children, in nats.

    Of parents on a grid, a child's may be at several positions: the entropies of its parts there add up, and
    as its couplings add up to 1, all couplings add up to the number of children.

    Args:
        coupling: coupling coefficients, [b, i, j], or at positions [b, y, x, i, j].

    Returns:
        Mean entropy, [b].
    """
    if coupling.ndim == 3:
        return coupling_entropy(coupling)
    positions = tuple(range(1, coupling.ndim - 2))
    entropy = jnp.sum(coupling_entropy(coupling), axis=positions)  # [b]
    children = jnp.sum(coupling, axis=(*positions, -2, -1)) / max(coupling.shape[-2], 1)
    return entropy / jnp.where(children > 0, children, 1)


def coupling_distance(
    coupling: Float[Array, "b ..."], other: Float[Array, "b ..."]
) -> Float[Array, "b"]:
    """Measure how far apart two couplings are: sum_j |c_ij - o_ij| / 2, averaged over children.

    The total variation distance: 0 where every child divides itself alike, 1 where none shares a parent.

    Args:
        coupling: coupling coefficients, [b, i, j], or at positions [b, y, x, i, j].
        other: the same of another routing of the same votes.

    Returns:
        Mean distance, [b].
    """
    axes = tuple(range(1, coupling.ndim))
    apart = jnp.sum(jnp.abs(coupling - other), axis=axes) / 2  # over pairs, [b]
    # What a child couples adds up to 1, at one position or over several, but for what leaks away.
    children = jnp.sum(coupling, axis=axes)
    return apart / jnp.where(children > 0, children, 1)


def coupled_agreement(
    coupling: Float[Array, "*batch i j"], agreement: Float[Array, "*batch i j"]
) -> Float[Array, "*batch"]:
    """Measure how well votes agree where they count: sum_ij c_ij a_ij over the number of children.

    Args:
        coupling: coupling coefficients, [*batch, i, j].
        agreement: vote_ij . v_j, as `votes.agreement(pose)` returns it, [*batch, i, j].

    Returns:
        Mean coupled agreement, of the wider of the two types, [*batch]; 0 if there is no child.
    """
    dtype = jnp.promote_types(coupling.dtype, agreement.dtype)
    coupling, agreement = (x.astype(compute_dtype(dtype)) for x in (coupling, agreement))
    total = jnp.sum(coupling * agreement, axis=(-2, -1))  # [*batch]
    return (total / max(coupling.shape[-2], 1)).astype(dtype)
