"""What to measure of a classification and of a routing, in float32 at least."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from capsjax.labels import class_lengths, class_numbers
from capsjax.numerics import compute_dtype


def correct(
    lengths: Float[Array, "*batch j"], labels: Int[Array, "*batch"]
) -> Bool[Array, "*batch"]:
    """Say of each example whether the longest class capsule is that of its label.

    Args:
        lengths: lengths of the class capsules, [*batch, j].
        labels: class numbers from 0, [*batch].

    Returns:
        Truth values, [*batch]; among equally long capsules the first counts as the longest.

    Raises:
        UserError: where the labels are not class numbers, one for each example.
    """
    lengths = class_lengths("correct", lengths)
    return jnp.argmax(lengths, axis=-1) == class_numbers("correct", labels, lengths)


def accuracy(lengths: Float[Array, "*batch j"], labels: Int[Array, "*batch"]) -> Float[Array, ""]:
    """Return the share of examples whose longest class capsule is that of their label, 0 to 1.

    Args:
        lengths: lengths of the class capsules, [*batch, j].
        labels: class numbers from 0, [*batch].

    Returns:
        The share, float32, [].

    Raises:
        UserError: where the labels are not class numbers, one for each example.
    """
    return jnp.mean(correct(lengths, labels).astype(jnp.float32))


def coupling_entropy(coupling: Float[Array, "*batch i j"]) -> Float[Array, "*batch"]:
    """Measure how undecided routing is: -sum_j c_ij log c_ij, averaged over children, in nats.

    Uniform coupling over J parents gives log J; every child choosing one parent gives 0. Leaky coupling
    is taken as it is: the share that leaked away is not counted.

    Args:
        coupling: coupling coefficients, [*batch, i, j].

    Returns:
        Mean entropy, of the coupling's type, [*batch]; 0 where there is no child. Its gradient,
        -(1 + log c_ij) over the number of children, has no bound at c_ij = 0 and is taken as 0 there: a
        softmax multiplies it by c_ij.
    """
    c = coupling.astype(compute_dtype(coupling.dtype))
    total = -jnp.sum(_x_log_x(c), axis=(-2, -1))
    return (total / max(c.shape[-2], 1)).astype(coupling.dtype)


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
    """Tell what is zero, or subnormal, which processors take as zero in some operations and not in others."""
    return jnp.abs(x) < jnp.finfo(x.dtype).tiny


def coupled_agreement(
    coupling: Float[Array, "*batch i j"], agreement: Float[Array, "*batch i j"]
) -> Float[Array, "*batch"]:
    """Measure how well votes agree where they count: sum_ij c_ij a_ij over the number of children.

    Args:
        coupling: coupling coefficients, [*batch, i, j].
        agreement: vote_ij . v_j, as `votes.agreement(pose)` returns it, [*batch, i, j].

    Returns:
        Mean coupled agreement, of the wider of the two types, [*batch]; 0 where there is no child.
    """
    dtype = jnp.promote_types(coupling.dtype, agreement.dtype)
    coupling, agreement = (x.astype(compute_dtype(dtype)) for x in (coupling, agreement))
    total = jnp.sum(coupling * agreement, axis=(-2, -1))
    return (total / max(coupling.shape[-2], 1)).astype(dtype)


def dead_capsules(activation: Float[Array, "*batch j"], threshold: float = 0.1) -> Float[Array, ""]:
    """Return the share of capsules that no example of the batch activates, 0 to 1.

    Args:
        activation: activations, one capsule in each place of the last axis, [*batch, j].
        threshold: the activation from which a capsule counts as active.
    """
    alive = jnp.max(activation.reshape(-1, activation.shape[-1]), axis=0) >= threshold
    return 1 - jnp.mean(alive.astype(jnp.float32))
