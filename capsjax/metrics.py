"""What to measure of a classification and of a routing."""

import jax.numpy as jnp
from jax.scipy.special import xlogy
from jaxtyping import Array, Bool, Float, Int


def correct(
    lengths: Float[Array, "*batch j"], labels: Int[Array, "*batch"]
) -> Bool[Array, "*batch"]:
    """Say of each example whether the longest class capsule is that of its label.

    Args:
        lengths: lengths of the class capsules, [*batch, j].
        labels: class numbers from 0, [*batch].

    Returns:
        Truth values, [*batch]; among equally long capsules the first counts as the longest.
    """
    return jnp.argmax(lengths, axis=-1) == labels


def accuracy(lengths: Float[Array, "*batch j"], labels: Int[Array, "*batch"]) -> Float[Array, ""]:
    """Return the share of examples whose longest class capsule is that of their label, 0 to 1.

    Args:
        lengths: lengths of the class capsules, [*batch, j].
        labels: class numbers from 0, [*batch].
    """
    return jnp.mean(correct(lengths, labels).astype(jnp.float32))


def coupling_entropy(coupling: Float[Array, "*batch i j"]) -> Float[Array, "*batch"]:
    """Measure how undecided routing is: -sum_j c_ij log c_ij, averaged over children, in nats.

    Uniform coupling over J parents gives log J; every child choosing one parent gives 0. Leaky coupling
    is taken as it is: the share that leaked away is not counted.

    Args:
        coupling: coupling coefficients, [*batch, i, j].

    Returns:
        Mean entropy, [*batch]; 0 where there is no child.
    """
    return -jnp.sum(xlogy(coupling, coupling), axis=(-2, -1)) / max(coupling.shape[-2], 1)


def coupled_agreement(
    coupling: Float[Array, "*batch i j"], agreement: Float[Array, "*batch i j"]
) -> Float[Array, "*batch"]:
    """Measure how well votes agree where they count: sum_ij c_ij a_ij over the number of children.

    Args:
        coupling: coupling coefficients, [*batch, i, j].
        agreement: vote_ij . v_j, as `votes.agreement(pose)` returns it, [*batch, i, j].

    Returns:
        Mean coupled agreement, [*batch]; 0 where there is no child.
    """
    return jnp.sum(coupling * agreement, axis=(-2, -1)) / max(coupling.shape[-2], 1)


def dead_capsules(activation: Float[Array, "*batch j"], threshold: float = 0.1) -> Float[Array, ""]:
    """Return the share of capsules that no example of the batch activates, 0 to 1.

    Args:
        activation: activations, one capsule in each place of the last axis, [*batch, j].
        threshold: the activation from which a capsule counts as active.
    """
    alive = jnp.max(activation.reshape(-1, activation.shape[-1]), axis=0) >= threshold
    return 1 - jnp.mean(alive.astype(jnp.float32))
