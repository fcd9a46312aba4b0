"""Votes by matrices that all children share: equal to votes by matrices of each pair's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError

RNG = np.random.RandomState(5)
B, N_I, N_J, D, E = 2, 5, 3, 2, 4
U, EACH, ONE = (
    RNG.normal(size=(B, N_I, D)),
    RNG.normal(size=(N_J, D, E)),
    RNG.normal(size=(D, E)),
)
CASES = [pytest.param(EACH, None, id="each"), pytest.param(ONE, N_J, id="one")]


def own(W):
    """The same matrices, one for each pair."""
    return jnp.broadcast_to(W, (N_I, N_J, D, E))


@pytest.mark.parametrize(("W", "parents"), CASES)
class TestEqual:
    def test_contractions(self, W, parents, x64):
        votes = cj.shared_votes(jnp.asarray(U), jnp.asarray(W), parents=parents)
        dense = np.einsum("bid,ijde->bije", U, own(W))
        c, v = RNG.normal(size=(B, N_I, N_J)), RNG.normal(size=(B, N_J, E))
        assert votes.shape == dense.shape
        np.testing.assert_allclose(votes.dense(), dense, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(
            votes.combine(jnp.asarray(c)), np.einsum("bij,bije->bje", c, dense), rtol=1e-12
        )
        np.testing.assert_allclose(
            votes.agreement(jnp.asarray(v)), np.einsum("bije,bje->bij", dense, v), rtol=1e-12
        )
        np.testing.assert_allclose(votes.bound(), np.abs(dense).max((1, 2, 3)), rtol=1e-12)

    @pytest.mark.parametrize("gradient", [cj.StopGradient(), cj.ClosedForm()])
    def test_routing_and_its_gradient(self, W, parents, gradient, x64):
        """With a child that is not there, of which nothing is known."""
        there = jnp.ones((B, N_I), bool).at[:, 1].set(False)
        u = jnp.asarray(U).at[:, 1].set(jnp.nan)

        def value(votes, u, W):
            def total(u, W):
                masked = cj.mask(votes(u, W), children=there)
                return jnp.sum(cj.dynamic_routing(masked, gradient=gradient).pose[..., 0])

            return jax.value_and_grad(total, (0, 1))(u, W)

        value = jax.jit(value, static_argnums=0)
        found = value(lambda u, W: cj.shared_votes(u, W, parents=parents), u, jnp.asarray(W))
        expected = value(lambda u, W: cj.predict(u, own(W)), u, jnp.asarray(W))
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)

    def test_a_map_over_examples_shares_the_matrices(self, W, parents):
        u, W = jnp.float32(U), jnp.float32(W)
        votes = cj.shared_votes(u, W, parents=parents)
        poses = jax.vmap(lambda u: cj.UniformRouting()(cj.shared_votes(u, W, parents=parents)).pose)
        np.testing.assert_allclose(poses(u), cj.UniformRouting()(votes).pose, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("u", "W", "parents", "message"),
    [
        (U, ONE, None, r"got parents None, expected a positive integer: how many parents"),
        (U, ONE, 0, r"got parents 0, expected a positive integer"),
        (U, EACH, 3, r"got parents 3, expected None, as W \[3, 2, 4\] has a matrix for each"),
        (U, EACH[:, :1], None, r"got u \[2, 5, 2\] and W \[3, 1, 4\] for 3 parents, expected"),
        (U[0, 0], EACH, None, r"got u \[2\] and W .*expected u \[\*batch, i, d\]"),
        (U.astype(int), EACH, None, r"got u int\d+\[2, 5, 2\].*expected floating-point arrays"),
    ],
)
def test_what_does_not_fit_is_refused(u, W, parents, message, as_installed):
    with pytest.raises(UserError, match=f"shared_votes: {message}"):
        cj.shared_votes(jnp.asarray(u), jnp.asarray(W), parents=parents)
