"""What is special to EM routing: what it costs, where it is silent, what its ports got wrong."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError
from tests.oracles import em as oracle
from tests.oracles import routing as plain

RNG = np.random.RandomState(3)
B, N_I, N_J, D, E = 2, 6, 3, 2, 4
U, W = RNG.normal(size=(B, N_I, D)), RNG.normal(size=(N_I, N_J, D, E))
A = RNG.uniform(0.1, 1, size=(B, N_I))
BETAS = {"beta_u": RNG.normal(size=N_J), "beta_a": RNG.normal(size=N_J)}


def route(routing, u=U, a=A, betas=BETAS, W=W):
    arrays = jax.tree.map(jnp.asarray, (u, W, a, betas))
    return routing(cj.predict(*arrays[:2]), activation=arrays[2], params=arrays[3])


def test_the_defaults_are_the_paper_s_form_with_its_authors_lambda(x64):
    """lambda_t = 0.01 (1 - 0.95^(t + 1)): 0.0005, 0.000975, 0.00142625."""
    found = route(cj.EMRouting())
    expected = oracle.routing(U, W, A, BETAS, num_iters=3, final_lambda=0.01, floor=1e-4)
    for name, leaf in expected._asdict().items():
        np.testing.assert_allclose(getattr(found, name), leaf, rtol=1e-10)
    one = route(cj.EMRouting(num_iters=1))
    dense = plain.votes(U, W)
    R = np.full((N_I, N_J), 1 / N_J)
    _, variance, _ = oracle.m_step(
        dense[0], R, A[0], *BETAS.values(), 0, final_lambda=0.01, floor=1e-4
    )
    mass = A[0].sum() / N_J
    cost = mass * (E * BETAS["beta_u"] + np.log(np.sqrt(variance)).sum(-1))
    np.testing.assert_allclose(
        one.activation[0], 1 / (1 + np.exp(-0.0005 * (BETAS["beta_a"] - cost))), rtol=1e-12
    )


def test_children_that_are_not_active_say_nothing(x64):
    """a_i weighs the M-step: without it, as in several ports, a child that is absent moves the means."""
    a = A.copy()
    a[:, 2:4] = 0
    moved = U.copy()
    moved[:, 2:4] *= -5
    one, other = (route(cj.EMRouting(), u, a) for u in (U, moved))
    np.testing.assert_allclose(one.pose, other.pose, rtol=1e-12)
    np.testing.assert_allclose(one.activation, other.activation, rtol=1e-12)
    assert not np.allclose(route(cj.EMRouting(), moved).pose, route(cj.EMRouting()).pose)


def test_nothing_changes_but_the_floor_when_all_votes_are_scaled(x64):
    """The variances scale with the votes, so R does not move: there are no weak votes for EM."""
    routing = cj.EMRouting(floor=1e-12, final_lambda=1e-9)
    one, large = route(routing), route(routing, 1000 * U)
    np.testing.assert_allclose(large.coupling, one.coupling, rtol=1e-6)
    np.testing.assert_allclose(large.pose, 1000 * one.pose, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e3, 1e7, 1e25])
def test_huge_votes_are_measured_in_units_of_their_own(scale):
    """In float32, where their squares would overflow: as in float64, where they do not."""
    single = route(
        cj.EMRouting(), *(np.asarray(x, np.float32) for x in (U * scale, A)), W=np.float32(W)
    )
    with jax.enable_x64(True):
        expected = route(cj.EMRouting(), U * scale)
        pose, coupling = np.asarray(expected.pose), np.asarray(expected.coupling)
    np.testing.assert_allclose(single.coupling, coupling, atol=2e-4)
    np.testing.assert_allclose(single.pose / scale, pose / scale, atol=2e-4)


def test_a_parent_of_one_child_is_finite(x64):
    """Its variance is the floor: the paper says nothing of it, and its formula divides by zero."""
    routing = cj.EMRouting(gradient=cj.FullGradient())
    votes, betas = (
        jnp.asarray(W[:1].sum(2)[None] * np.ones((B, 1, 1, 1))),
        jax.tree.map(jnp.asarray, BETAS),
    )

    def total(votes, a):
        found = routing(votes, activation=a, params=betas)
        return jnp.sum(found.pose) + jnp.sum(found.activation)

    for a in (jnp.ones((B, 1)), jnp.zeros((B, 1))):
        for leaf in jax.tree.leaves(jax.value_and_grad(total, argnums=(0, 1))(votes, a)):
            assert np.all(np.isfinite(leaf))


def test_holding_the_coupling_constant_is_another_gradient(x64):
    def gradient(mode):
        routing = cj.EMRouting(gradient=mode, final_lambda=1.0)

        def total(W):
            found = routing(cj.predict(jnp.asarray(U), W), activation=jnp.asarray(A), params=BETAS)
            return jnp.sum(found.activation[:, 0])

        return np.asarray(jax.grad(total)(jnp.asarray(W))).ravel()

    stop, full = gradient(cj.StopGradient()), gradient(cj.FullGradient())
    assert stop @ full / np.linalg.norm(stop) / np.linalg.norm(full) < 0.95


DECIDED = {"final_lambda": 1.0, "floor": 1e-4}


class TestMistakesOfPorts:
    """Each is made on purpose, in the oracle: it would be noticed, and ours does not have it."""

    def wrong(self, monkeypatch, num_iters=3, a=A, **mistakes):
        for name, mistake in mistakes.items():
            monkeypatch.setattr(oracle, name, mistake)
        return oracle.routing(U, W, a, BETAS, num_iters=num_iters, **DECIDED)

    def ours(self, num_iters=3):
        found = route(cj.EMRouting(num_iters=num_iters, **DECIDED))
        expected = oracle.routing(U, W, A, BETAS, num_iters=num_iters, **DECIDED)
        for name, leaf in expected._asdict().items():
            np.testing.assert_allclose(getattr(found, name), leaf, rtol=1e-10, atol=1e-12)
        return found

    def test_couplings_that_start_at_one(self, monkeypatch, x64):
        """SR-CapsNet's R is 1 at first, not 1 / J: every parent has J times its mass and its cost."""
        found, first, right = self.ours(), self.ours(1), oracle.coupled

        def at_one(logits):
            return right(logits) if np.any(logits) else np.ones_like(logits)

        wrong = self.wrong(monkeypatch, coupled=at_one)
        wrong_first = self.wrong(monkeypatch, 1)
        np.testing.assert_allclose(first.coupling, 1 / N_J, rtol=1e-12)
        np.testing.assert_allclose(
            wrong_first.pose, first.pose, rtol=1e-10
        )  # a mean does not show it
        assert np.max(np.abs(wrong_first.activation - first.activation)) > 0.1
        assert np.max(np.abs(wrong.coupling - found.coupling)) > 0.005

    def test_activations_of_children_left_out(self, monkeypatch, x64):
        found = self.ours()
        wrong = self.wrong(monkeypatch, a=np.ones_like(A))
        assert np.max(np.abs(wrong.pose - found.pose)) > 0.05

    def test_children_in_place_of_parents_in_the_softmax(self, monkeypatch, x64):
        found, right = self.ours(), oracle.coupled
        wrong = self.wrong(monkeypatch, coupled=lambda b: right(b.swapaxes(1, 2)).swapaxes(1, 2))
        assert np.max(np.abs(wrong.coupling.sum(-1) - 1)) > 0.1
        assert np.max(np.abs(wrong.pose - found.pose)) > 0.05

    def test_densities_that_forget_the_activation(self, monkeypatch, x64):
        """Without log a_j a parent that is not there takes as much as one that is."""
        found, right = self.ours(), oracle.e_step
        wrong = self.wrong(
            monkeypatch, e_step=lambda V, mean, var, a: right(V, mean, var, np.ones_like(a))
        )
        assert np.max(np.abs(wrong.coupling - found.coupling)) > 0.02

    def test_the_logarithm_of_two_pi_inside_the_logarithm(self, monkeypatch, x64):
        """SR-CapsNet's log(sigma^2 log 2 pi) for log(2 pi sigma^2): other logits, and the same R."""
        found, right = self.ours(), oracle.e_step
        shift = E / 2 * np.log(2 * np.pi / np.log(2 * np.pi))
        wrong = self.wrong(monkeypatch, e_step=lambda *given: right(*given) + shift)
        assert np.max(np.abs(wrong.logits - found.logits)) > 1
        np.testing.assert_allclose(wrong.coupling, found.coupling, rtol=1e-9)

    def test_a_variance_of_a_single_child_without_a_floor(self, x64):
        """The paper's formula takes the logarithm of 0; ours is finite, with its gradient."""
        given = plain.votes(U, W)[0][:1], np.ones((1, N_J)), A[0, :1], *BETAS.values(), 0
        with pytest.raises(ValueError, match="math domain error"):
            oracle.m_step(*given, final_lambda=1, floor=0)

        def total(votes, a):
            found = cj.EMRouting(gradient=cj.FullGradient())(votes, activation=a, params=BETAS)
            return jnp.sum(found.pose) + jnp.sum(found.activation)

        one = jnp.asarray(plain.votes(U, W)[:, :1]), jnp.asarray(A[:, :1])
        for leaf in jax.tree.leaves(jax.value_and_grad(total, argnums=(0, 1))(*one)):
            assert np.all(np.isfinite(leaf))


class TestRefused:
    def test_what_is_missing_is_named(self, as_installed):
        votes, betas = cj.predict(jnp.asarray(U), jnp.asarray(W)), BETAS
        with pytest.raises(
            UserError, match=r"EMRouting: got no child activations, expected activat"
        ):
            cj.EMRouting()(votes, params=betas)
        with pytest.raises(UserError, match=r"got no parameter 'beta_a', expected an array \[3\]"):
            cj.EMRouting()(votes, activation=A, params={"beta_u": betas["beta_u"]})
        with pytest.raises(UserError, match=r"got a parameter 'beta_v', .*did you mean 'beta_"):
            cj.EMRouting()(votes, activation=A, params=betas | {"beta_v": 0})
        with pytest.raises(UserError, match=r"expected a mapping with beta_u, beta_a"):
            cj.EMRouting()(votes, activation=A, params=betas["beta_u"])
        with pytest.raises(
            UserError, match=r"got float32\[2, 5\] as child activations, .*\[2, 6\]"
        ):
            cj.EMRouting()(votes, activation=jnp.ones((B, 5)), params=betas)
        with pytest.raises(UserError, match=r"as the beta_u, expected an array \[3\]: one number"):
            cj.EMRouting()(votes, activation=A, params=betas | {"beta_u": jnp.ones(4)})

    @pytest.mark.parametrize("field", ["final_lambda", "floor"])
    def test_numbers_out_of_range(self, field, as_installed):
        with pytest.raises(UserError, match=rf"EMRouting\.{field}: got 0.*greater than 0"):
            cj.EMRouting(**{field: 0.0})
        with pytest.raises(UserError, match=r"EMRouting\.form"):
            dataclasses.replace(cj.EMRouting(), form="matrix")


def test_one_long_child_with_small_matrices_makes_no_vote_huge():
    """The unit goes by the votes, not by the longest child and the largest matrix apart."""
    u, W_ = np.float32(U), np.float32(W)
    u[:, 0] *= 1e10
    W_[0] *= 1e-10
    linear = route(cj.EMRouting(), u, np.float32(A), W=W_)
    votes = cj.DenseVotes(jnp.einsum("bid,ijde->bije", u, W_))
    dense = cj.EMRouting()(
        votes, activation=jnp.float32(A), params=jax.tree.map(jnp.float32, BETAS)
    )
    np.testing.assert_allclose(linear.coupling, dense.coupling, atol=1e-3)


def test_an_iteration_keeps_few_numbers_for_each_pair():
    """Under the full gradient: coupling and shares, not what they are made of."""
    u, W = jnp.zeros((16, 128, 4)), jnp.zeros((128, 4, 4, 8))
    activation, betas = jnp.ones((16, 128)), {name: jnp.zeros(4) for name in BETAS}

    def temporary(num_iters):
        routing = cj.EMRouting(num_iters=num_iters, gradient=cj.FullGradient())

        def total(u, W, activation, betas):
            return route(routing, u, activation, betas, W).pose.sum()

        compiled = jax.jit(jax.grad(total, (0, 1, 2, 3))).lower(u, W, activation, betas).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    pair = 4 * 16 * 128 * 4
    assert temporary(8) - temporary(4) < 4 * 3 * pair
