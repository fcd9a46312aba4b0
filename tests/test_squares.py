"""Sums of squared deviations of votes that are never formed, and their adjoints by hand."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.votes import DenseVotes, predict


@pytest.mark.parametrize("children", [5, 37])  # written out, and by groups with a rest
@pytest.mark.parametrize("sizes", [(2, 3), (40, 34)])  # d and e, written out and as products
def test_sums_of_squares_and_their_gradients_are_those_of_formed_votes(children, sizes):
    """Votes that are never formed have adjoints of their own: coupling, centre, precision, unit, u and W."""
    (d, e), (b, i, j) = sizes, (2, children, 3)
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape) / np.sqrt(d), jnp.float32)

    given = (
        draw(b, i, d),
        draw(i, j, d, e),
        draw(b, i, j),
        draw(b, j, e),
        draw(b, j, e),
        1 + draw(b) ** 2,
    )
    bars = draw(b, j, e), draw(b, i, j)

    def both(votes, coupling, centre, precision, unit):
        pairs = votes.pairs
        summed = votes.scatter(pairs.from_array(coupling), centre, unit)
        return summed, pairs.to_array(votes.distance(centre, precision, unit))

    def linear(u, W, *rest):
        return both(predict(u, W).arranged(), *rest)

    def formed(u, W, *rest):
        return both(DenseVotes(predict(u, W).dense()), *rest)

    (found, pull), (expected, wanted) = jax.vjp(linear, *given), jax.vjp(formed, *given)
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-4)
    chex.assert_trees_all_close(pull(bars), wanted(bars), rtol=1e-4, atol=1e-4)
