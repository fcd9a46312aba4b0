"""What is special to soft k-means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from tests.oracles import k_means as oracle
from tests.oracles.routing import finite_differences

RNG = np.random.RandomState(3)
B, N_I, N_J, E = 2, 6, 3, 2
PLACES = np.array([[0.0, 0.0], [2.5, 0.0], [0.0, 2.5]])
POINTS = np.repeat(PLACES, 2, axis=0) + RNG.normal(size=(B, N_I, E)) / 2
CENTRES = PLACES + RNG.normal(size=(N_J, E)) / 2
W = np.broadcast_to(np.eye(E), (N_I, N_J, E, E))  # of points, as the oracle takes them
BETA, TIMES = 1.5, 30
BAR = RNG.normal(size=(B, N_J, E))
SETTLED = cj.SoftKMeansRouting(num_iters=TIMES, inverse_temperature=BETA)


def cluster(points=POINTS, centres=CENTRES, routing=SETTLED):
    """Route points, which vote alike for every parent."""
    votes = cj.shared_votes(jnp.asarray(points), jnp.eye(E), parents=N_J)
    return routing(votes, params=None if centres is None else jnp.asarray(centres))


@pytest.mark.usefixtures("x64")
class TestPoints:
    """Without any capsule: points, one matrix that is the identity, and centres to begin from."""

    def test_the_oracle_agrees(self):
        found = cluster()
        expected = oracle.routing(POINTS, W, None, {"centres": CENTRES}, num_iters=TIMES, beta=BETA)
        for name, leaf in expected._asdict().items():
            np.testing.assert_allclose(getattr(found, name), leaf, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("mode", ["stop", "truncated", "full", "closed_form", "implicit"])
    def test_every_mode_is_the_gradient_of_its_function(self, mode):
        """Of the centres' too: where iterations settle, what is left of them, which is nothing."""
        last = {"stop": 0, "truncated": 1}.get(mode, 3)
        times = TIMES if mode == "implicit" else 4
        gradient = {
            "stop": cj.StopGradient(),
            "truncated": cj.TruncatedGradient(last=1),
            "full": cj.FullGradient(),
            "closed_form": cj.ClosedForm(),
            "implicit": cj.ImplicitGradient(tolerance=1e-13),
        }[mode]
        routing = cj.SoftKMeansRouting(num_iters=times, inverse_temperature=BETA, gradient=gradient)
        last = times - 1 if mode == "implicit" else last
        live = oracle.frozen(
            POINTS, W, None, {"centres": CENTRES}, last=last, num_iters=times, beta=BETA
        )
        expected = finite_differences(
            lambda points, centres: np.sum(BAR * live(points, W, None, {"centres": centres}).pose),
            (POINTS, CENTRES),
        )

        @jax.jit
        @jax.grad
        def found(arrays):
            return jnp.sum(BAR * cluster(*arrays, routing).pose)

        for one, other in zip(found((POINTS, CENTRES)), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)
        assert np.any(np.abs(expected[1]) > 1e-6) == (mode in ("full", "closed_form"))

    def test_no_update_makes_the_objective_smaller(self):
        dense = oracle.oracle.votes(POINTS, W)
        found = oracle.steps(dense, oracle.begin(dense, {"centres": CENTRES}, BETA), 12, BETA)
        heights = np.stack([oracle.objective(dense, step[1], BETA) for step in found])
        assert np.all(np.diff(heights, axis=0) >= -1e-12)
        assert np.all(heights[-1] > heights[0] + 1e-3)

    def test_it_is_em_with_a_variance_that_is_never_fitted(self):
        """Two far apart clouds and a high inverse temperature: each centre ends as its cloud's mean."""
        clouds = np.concatenate([POINTS, POINTS + 50], axis=1)
        routing = cj.SoftKMeansRouting(num_iters=4, inverse_temperature=50.0)
        votes = cj.shared_votes(jnp.asarray(clouds), jnp.eye(E), parents=2)
        found = routing(votes, params=jnp.array([[0.0, 0.0], [40.0, 40.0]]))
        expected = np.stack([POINTS.mean(1), POINTS.mean(1) + 50], axis=1)
        np.testing.assert_allclose(found.pose, expected, rtol=1e-12)
        np.testing.assert_allclose(found.activation, 0.5, rtol=1e-12)


def test_the_closed_form_is_the_full_gradient_of_votes_that_differ_by_parent(x64):
    """Of points the squares of the votes cancel over the parents; of these they do not."""
    given = {
        "u": POINTS,
        "W": RNG.normal(size=(N_I, N_J, E, 4)),
        "bar": RNG.normal(size=(B, N_J, 4)),
    }

    def gradient(mode, votes):
        routing = cj.SoftKMeansRouting(num_iters=3, inverse_temperature=0.3, gradient=mode)

        def total(arrays):
            return jnp.sum(arrays["bar"] * routing(votes(arrays["u"], arrays["W"])).pose)

        return jax.jit(jax.grad(total))(given)

    full = gradient(
        cj.FullGradient(), lambda u, W: cj.DenseVotes(jnp.einsum("bid,ijde->bije", u, W))
    )
    closed = gradient(cj.ClosedForm(), cj.predict)
    for name, one in closed.items():
        np.testing.assert_allclose(one, full[name], rtol=1e-10, atol=1e-12)


def test_points_without_centres_stay_together():
    """Every mean is the mean of all points for ever: k-means on points needs somewhere to begin."""
    found = cluster(centres=None)
    np.testing.assert_allclose(found.coupling, 1 / N_J, rtol=1e-6)


@pytest.mark.parametrize("gradient", [cj.FullGradient(), cj.ClosedForm()])
def test_huge_points_and_equal_ones_have_finite_gradients(gradient):
    routing = cj.SoftKMeansRouting(num_iters=3, gradient=gradient)
    for scale in (0.0, 1e-30, 1e30):

        def total(arrays, scale=scale):
            return jnp.sum(cluster(*arrays, routing).pose) / max(scale, 1.0)

        given = jnp.float32(POINTS) * scale, jnp.float32(CENTRES) * scale
        value, found = jax.value_and_grad(total)(given)
        assert np.isfinite(value)
        assert all(np.all(np.isfinite(one)) for one in found)


def test_a_mask_that_hides_every_child_or_every_parent_gives_zeros():
    votes = cj.shared_votes(jnp.float32(POINTS), jnp.eye(E), parents=N_J)
    for name, size in (("children", N_I), ("parents", N_J)):
        none = {name: jnp.zeros((B, size), bool)}
        found = SETTLED(cj.mask(votes, **none), params=jnp.float32(CENTRES))
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(found))


def test_one_child_and_one_parent():
    points = jnp.float32(POINTS)[:1, :1]
    found = SETTLED(cj.shared_votes(points, jnp.eye(E), parents=1))
    np.testing.assert_allclose(found.pose, points, rtol=1e-6)
    np.testing.assert_array_equal(found.coupling, [[[1.0]]])
