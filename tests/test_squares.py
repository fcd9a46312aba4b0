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
    given, draw = made(children, sizes)
    _, _, coupling, centre, _ = given
    precision, bars = draw(*centre.shape), (draw(*centre.shape), draw(*coupling.shape))

    def both(votes, coupling, centre, unit, precision):
        pairs = votes.pairs
        summed = votes.scatter(pairs.from_array(coupling), centre, unit)
        return summed, pairs.to_array(votes.distance(centre, precision, unit))

    check(both, (*given, precision), bars)


@pytest.mark.parametrize("children", [5, 37])
@pytest.mark.parametrize("sizes", [(2, 3), (40, 34)])
@pytest.mark.parametrize("distances", [True, False])
def test_a_fit_and_its_gradient_are_those_of_formed_votes(children, sizes, distances):
    """One adjoint for mean, variance and distances: of both weights, floor, unit, u and W."""
    (u, W, weight, centre, unit), draw = made(children, sizes)
    share, floor = draw(*weight.shape) ** 2, 1 + draw(*unit.shape) ** 2
    bars = draw(*centre.shape), draw(*centre.shape), draw(*weight.shape)

    def fit(votes, weight, share, floor, unit):
        pairs = votes.pairs
        held = pairs.from_array(weight), pairs.from_array(share)
        found = votes.fit(*held, floor, unit, distances)
        return (*found[:2], pairs.to_array(found.distance)) if distances else found[:2]

    check(fit, (u, W, weight, share, floor, unit), bars if distances else bars[:2])


def made(children, sizes):
    """Poses, matrices, couplings, centres and units; and what draws more."""
    (d, e), (b, i, j) = sizes, (2, children, 3)
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape) / np.sqrt(d), jnp.float32)

    given = draw(b, i, d), draw(i, j, d, e), draw(b, i, j), draw(b, j, e), 1 + draw(b) ** 2
    return given, draw


def check(asked, given, bars):
    """What is asked of votes that are never formed is what formed ones say, gradients included."""

    def linear(u, W, *rest):
        return asked(predict(u, W).arranged(), *rest)

    def formed(u, W, *rest):
        return asked(DenseVotes(predict(u, W).dense()), *rest)

    (found, pull), (expected, wanted) = jax.vjp(linear, *given), jax.vjp(formed, *given)
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-4)
    chex.assert_trees_all_close(pull(bars), wanted(bars), rtol=1e-4, atol=1e-4)
