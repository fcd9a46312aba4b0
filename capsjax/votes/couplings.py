"""The coupling of votes that are never formed: a softmax over the parents, the leading axis, and its adjoint.

Numbers of pairs are [j, i, n], as `contractions` has them.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from capsjax.numerics import reverse_only
from capsjax.votes.contractions import accelerated, reduce, sum_apart
from capsjax.votes.over_parents import zeros_after


def couple(logits: Float[Array, "j i b"], leaky: bool) -> Float[Array, "j i b"]:
    """Normalise logits over the parents of each child, the leading axis.

    Args:
        logits: b_ij, [j, i, b].
        leaky: adds a zero logit for "none of the parents".

    Returns:
        c_ij, [j, i, b].
    """
    # The adjoint is written by hand: the compiler's own sum over the parents takes several times as long.
    return _couple(*reverse_only((logits,)), leaky)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _couple(logits: Array, leaky: bool) -> Array:
    # Written out, 2 ms; `jax.nn.softmax` over the first axis takes 17 (docs/decisions/0006). The result does
    # not depend on what is subtracted.
    largest = reduce(jnp.maximum, logits)  # [i, b]
    largest = jnp.maximum(largest, 0) if leaky else largest
    shares = jnp.exp(logits - largest[None])
    whole = reduce(jnp.add, shares)
    whole = whole + jnp.exp(-largest) if leaky else whole
    return shares / whole[None]


def _couple_forward(logits: Array, leaky: bool) -> tuple[Array, Array]:
    coupling = couple(logits, leaky)
    return coupling, coupling


def _couple_backward(leaky: bool, coupling: Array, cotangent: Array) -> tuple[Array]:
    del leaky  # what leaked away has no cotangent
    return (couple_adjoint(coupling, cotangent),)


_couple.defvjp(_couple_forward, _couple_backward)


def couple_adjoint(
    coupling: Float[Array, "j i b"], cotangent: Float[Array, "j i b"]
) -> Float[Array, "j i b"]:
    """Pull a cotangent of `couple` back to the logits: b_bar = c (c_bar - sum_j c c_bar).

    Args:
        coupling: c_ij, [j, i, b].
        cotangent: c_bar, [j, i, b].

    Returns:
        b_bar, [j, i, b]; the same for leaky coupling, as what leaked away has no cotangent.
    """
    return coupling * (cotangent - sum_products(coupling, cotangent)[None])


def sum_products(x: Float[Array, "j i b"], y: Float[Array, "j i b"]) -> Float[Array, "i b"]:
    """Sum products over the parents, one by one, so that no array holds them all.

    Args:
        x: numbers, [j, i, b].
        y: numbers, [j, i, b].

    Returns:
        sum_j x_j y_j, [i, b].
    """
    if accelerated() or x.shape[0] < 2:
        return reduce(jnp.add, x * y)

    def add(found: Array, parent: tuple[Array, Array]) -> tuple[Array, None]:
        return found + parent[0] * parent[1], None

    return jax.lax.scan(add, zeros_after([x, y], x[0]), (x, y))[0]


def for_parents(x: Shaped[Array, "i n"], parents: int) -> Shaped[Array, "j i n"]:
    """Repeat a number of each child for all its parents.

    Args:
        x: numbers, [i, n].
        parents: j.

    Returns:
        The same for each parent, [j, i, n].
    """
    return _for_parents(*reverse_only((x,)), parents)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _for_parents(x: Array, parents: int) -> Array:
    return jnp.broadcast_to(x[None], (parents, *x.shape))


def _for_parents_forward(x: Array, parents: int) -> tuple[Array, None]:
    return for_parents(x, parents), None


def _for_parents_backward(parents: int, _: None, cotangent: Array) -> tuple[Array]:
    del parents
    return (sum_apart(cotangent),)


_for_parents.defvjp(_for_parents_forward, _for_parents_backward)
